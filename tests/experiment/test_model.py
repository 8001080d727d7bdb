"""Twins share what they share: weights, and the draws of the perturbations."""

import pytest
import torch

from concord import seeding
from concord.calibration import Perturbation
from concord.data.benchmarks import prepare
from concord.experiment.batches import to_tensors
from concord.experiment.config import Variant, make_config
from concord.experiment.model import build_model

CONFIG = make_config("digits", recipe={"width": 8})
VARIANTS = [Variant("none", False), *(Variant(name, True) for name in ("none", "self", "joint", "context"))]


@pytest.fixture(scope="module")
def task():
    return prepare("digits", seed=0)


def test_twins_start_from_the_same_shared_weights(task):
    models = [build_model(task, CONFIG, variant, 3) for variant in VARIANTS]
    shared = [
        {name: value for name, value in model.state_dict().items() if not name.startswith("calibrator.")}
        for model in models
    ]
    assert len(shared[0]) > 10
    for other in shared[1:]:
        assert other.keys() == shared[0].keys()
        assert all(torch.equal(other[name], value) for name, value in shared[0].items())


def test_another_seed_gives_other_weights(task):
    one, other = (build_model(task, CONFIG, VARIANTS[0], seed).fusion.head.weight for seed in (0, 1))
    assert not torch.equal(one, other)


def test_building_a_model_leaves_the_global_stream_alone(task):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    build_model(task, CONFIG, VARIANTS[-1], 0)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.label)
def test_before_training_every_calibrator_gives_the_twins_logits(task, variant):
    batch = to_tensors(task.valid)
    twin = build_model(task, CONFIG, VARIANTS[0], 0).eval()
    model = build_model(task, CONFIG, variant, 0).eval()
    assert torch.equal(model(batch.inputs).logits, twin(batch.inputs).logits)


def test_copies_double_the_batch_and_hit_one_modality_of_each_second_copy(task):
    batch = to_tensors(task.valid).take(slice(0, 16))
    model = build_model(task, CONFIG, Variant("context", True), 0).train()
    draws = seeding.generator(0, "perturbations")
    out = model(batch.inputs, labels=batch.labels, perturbation=Perturbation(), generator=draws)
    assert out.logits.shape == (32, 10)
    assert out.calibration.touched.sum(1).tolist() == [0] * 16 + [1] * 16


def test_twins_suffer_the_same_perturbations(task):
    batch = to_tensors(task.valid).take(slice(0, 16))
    touched = []
    for variant in VARIANTS[1:]:
        model = build_model(task, CONFIG, variant, 0).train()
        out = model(batch.inputs, perturbation=Perturbation(), generator=seeding.generator(0, "perturbations"))
        touched.append(out.calibration.touched)
    assert all(torch.equal(one, touched[0]) for one in touched[1:])


def test_a_removed_modality_has_no_influence(task):
    batch = to_tensors(task.valid).take(slice(0, 8))
    model = build_model(task, CONFIG, Variant("context", True), 0).eval()
    present = {"left": torch.zeros(8, dtype=torch.bool)}
    other = {**batch.inputs, "left": torch.randn_like(batch.inputs["left"])}
    assert torch.equal(model(batch.inputs, None, present).logits, model(other, None, present).logits)

"""Twins share what they share: weights, and the draws of the perturbations."""

from dataclasses import replace

import pytest
import torch

from concordant import seeding
from concordant.benchmarks.catalogue import prepare
from concordant.calibration import Perturbation
from concordant.errors import UsageError
from concordant.fusion import FUSIONS
from concordant.rivals import CALIBRATORS
from concordant.training.batches import to_tensors
from concordant.training.config import Variant, make_config
from concordant.training.model import EXTRACTED, build_model, check_encoders, class_options, with_masks

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


@pytest.mark.parametrize("preset", ["small", "medium"])
@pytest.mark.parametrize("name", ["concat", "mmtm", "lf-lstm", "tfn", "mult"])
def test_a_preset_chooses_the_fusion_s_arguments(task, name, preset):
    config = make_config("digits", fusion=name, preset=preset, recipe={"width": 8, "dropout": 0.3})
    model = build_model(task, config, Variant("context", True), 0)
    entry = FUSIONS[name]
    options = {**(entry.small if preset == "small" else {}), "dropout": 0.3}
    same = entry.build(model.fusion.specs, classes=10, **options)
    shapes = {key: value.shape for key, value in same.state_dict().items()}
    assert {key: value.shape for key, value in model.fusion.state_dict().items()} == shapes
    rates = {module.p for module in model.fusion.modules() if isinstance(module, torch.nn.Dropout)}
    assert rates == {module.p for module in same.modules() if isinstance(module, torch.nn.Dropout)}


def test_the_calibrator_is_sized_for_where_the_modalities_meet(task):
    sizes = {}
    for options in ({}, {"calibrate": "pooled"}, {"fusion": "lf-lstm"}):
        config = make_config("digits", recipe={"width": 8}, **options)
        model = build_model(task, config, Variant("context", True), 0)
        out = model.eval()(to_tensors(task.valid).take(slice(0, 4)).inputs)
        assert {n: x.shape[model.fusion.meeting[n].layout.feature] for n, x in out.calibration.features.items()} == (
            model.calibrator.sizes
        )
        sizes[str(options)] = tuple(model.calibrator.sizes.values())
    assert list(sizes.values()) == [(8, 8, 8), (32, 32, 8), (64, 64, 64)]


@pytest.mark.parametrize("name", [name for name in CALIBRATORS if CALIBRATORS[name].late])
def test_a_calibrator_that_decides_replaces_the_fusion_s_logits(task, name):
    config = make_config("digits", calibrators=("none", name), recipe={"width": 8})
    model = build_model(task, config, Variant(name, True), 0).eval()
    out = model(to_tensors(task.valid).take(slice(0, 4)).inputs)
    assert out.logits is out.calibration.decision
    assert out.logits.shape == (4, 10)


def test_what_modality_dropout_leaves_out_is_absent_for_the_fusion(task):
    batch = to_tensors(task.valid).take(slice(0, 64))
    config = make_config("digits", calibrators=("modality-dropout",), recipe={"width": 8, "dropout": 0.0})
    model = build_model(task, config, Variant("modality-dropout", True), 0).train()
    model.calibrator.perturbation = None
    out = model(batch.inputs)
    assert not torch.stack(list(out.present.values())).all()
    expected = model.fusion.join(out.calibration.features, out.masks, out.present)
    assert torch.equal(out.logits, expected)
    assert not torch.equal(out.logits, model.fusion.join(out.calibration.features, out.masks, {}))


def test_instances_without_a_valid_step_are_absent_wherever_the_modalities_meet():
    mask = torch.tensor([[True, False], [False, False]])
    known = with_masks({"a": torch.tensor([True, True]), "b": torch.tensor([True, False])}, {"a": mask, "c": mask})
    assert {name: column.tolist() for name, column in known.items()} == {
        "a": [True, False],
        "b": [True, False],
        "c": [True, False],
    }


def test_resnet_streams_take_the_place_of_the_small_ones(task):
    config = make_config("digits", encoders="resnet18", fusion="mmtm", recipe={"width": 8})
    model = build_model(task, config, Variant("context", True), 0).eval()
    assert model.encoders["left"].size == 128  # two of the four stages: mmtm has the rest
    assert model(to_tensors(task.valid).take(slice(0, 4)).inputs).logits.shape == (4, 10)
    check_encoders(task, config)
    vectors = make_config("digits", encoders="resnet18", modalities=("profile",), calibrators=("none",))
    with pytest.raises(UsageError, match=r"digits has none of them: profile \(bd\); use small"):
        check_encoders(task, vectors)


def test_copies_double_the_batch_and_hit_one_modality_of_each_second_copy(task):
    batch = to_tensors(task.valid).take(slice(0, 16))
    model = build_model(task, CONFIG, Variant("context", True), 0).train()
    draws = seeding.generator(0, "perturbations")
    out = model(batch.inputs, labels=batch.labels, perturbation=Perturbation(), generator=draws)
    assert out.logits.shape == (32, 10)
    assert out.calibration.perturbed.sum(1).tolist() == [0] * 16 + [1] * 16


def test_twins_suffer_the_same_perturbations(task):
    batch = to_tensors(task.valid).take(slice(0, 16))
    perturbed = []
    for variant in VARIANTS[1:]:
        model = build_model(task, CONFIG, variant, 0).train()
        out = model(batch.inputs, perturbation=Perturbation(), generator=seeding.generator(0, "perturbations"))
        perturbed.append(out.calibration.perturbed)
    assert all(torch.equal(one, perturbed[0]) for one in perturbed[1:])


def test_a_removed_modality_has_no_influence(task):
    batch = to_tensors(task.valid).take(slice(0, 8))
    model = build_model(task, CONFIG, Variant("context", True), 0).eval()
    present = {"left": torch.zeros(8, dtype=torch.bool)}
    other = {**batch.inputs, "left": torch.randn_like(batch.inputs["left"])}
    assert torch.equal(model(batch.inputs, None, present).logits, model(other, None, present).logits)


def test_a_tuned_variant_is_built_by_its_own_recipe(task):
    tuned = CONFIG.model_copy(update={"tuned": {"context": {"width": 12, "dropout": 0.5}}})
    same = make_config("digits", recipe={"width": 12, "dropout": 0.5})
    ours, expected = build_model(task, tuned, VARIANTS[-1], 0), build_model(task, same, VARIANTS[-1], 0)
    assert all(torch.equal(ours.state_dict()[name], value) for name, value in expected.state_dict().items())
    assert build_model(task, tuned, VARIANTS[0], 0).encoders["left"].size == 8


def test_an_ablation_starts_from_the_weights_of_what_it_is_an_ablation_of(task):
    ours, less = (build_model(task, CONFIG, Variant(name, True), 0) for name in ("context", "context-no-gates"))
    assert all(torch.equal(less.state_dict()[name], value) for name, value in ours.state_dict().items())


def test_opinions_weigh_less_where_all_inputs_were_extracted():
    context = CALIBRATORS["context"]
    assert class_options(context, 5, ["bd", "bd"]) == {"classes": 5, "unimodal_weight": EXTRACTED}
    assert class_options(context, 5, ["bd", "btd"]) == {"classes": 5}
    assert class_options(context, None, ["bd", "bd"]) == {}
    assert class_options(CALIBRATORS["evidential"], 5, ["bd"]) == {"classes": 5}  # classes, but no opinions
    assert class_options(CALIBRATORS["self"], 5, ["bd"]) == {}
    ablated = CALIBRATORS["context-no-support"]
    assert class_options(ablated, 5, ["bd"]) == {**ablated.options, "classes": 5, "unimodal_weight": EXTRACTED}
    chosen = replace(context, options={"unimodal_weight": 0.7})
    assert class_options(chosen, 5, ["bd"])["unimodal_weight"] == 0.7


def test_the_model_has_what_the_inputs_ask_for(task):
    assert set(task.layouts.values()) != {"bd"}
    assert build_model(task, CONFIG, VARIANTS[-1], 0).calibrator.unimodal_weight == 0.5


@pytest.mark.data
def test_so_has_that_of_extracted_features(data_folder):
    vectors = prepare("cremad-features", seed=0, data=data_folder)
    config = make_config("cremad-features", recipe={"width": 8})
    assert build_model(vectors, config, VARIANTS[-1], 0).calibrator.unimodal_weight == EXTRACTED

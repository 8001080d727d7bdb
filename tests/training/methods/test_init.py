"""Every training method combines with any calibrator, and trains."""

import pytest
import torch

from concordant.benchmarks.catalogue import prepare
from concordant.calibration import Perturbation
from concordant.training.batches import to_tensors
from concordant.training.config import Variant, make_config
from concordant.training.methods import METHODS
from concordant.training.train import train
from concordant.training.validation import validation_score


@pytest.fixture(scope="module")
def task():
    return prepare("digits", seed=0)


def test_entries_say_what_they_are_in_a_line():
    assert list(METHODS) == ["none", "ogm-ge", "gradient-blending"]
    for name in METHODS:
        assert 0 < len(METHODS[name].summary) < 100
        assert METHODS[name].paper or name == "none"


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("variant", [Variant("none", False), Variant("joint", True), Variant("context", True)])
def test_it_learns_beside_any_calibrator_and_repeats_itself(task, method, variant):
    config = make_config(
        "digits", calibrators=(variant.calibrator,), method=method, recipe={"width": 16, "steps": 60, "evaluations": 3}
    )
    one = train(task, config, variant, 0)
    settings = Perturbation() if variant.perturbed else None
    assert validation_score(one.model, to_tensors(task.valid), settings, 0)[0] > 0.6
    again = train(task, config, variant, 0)
    assert all(torch.equal(a, b) for a, b in zip(one.model.parameters(), again.model.parameters(), strict=True))


def test_methods_train_differently(task):
    weights = []
    for method in METHODS:
        config = make_config("digits", calibrators=("none",), method=method, recipe={"steps": 10, "width": 8})
        weights.append(next(train(task, config, Variant("none", False), 0).model.parameters()))
    assert all(not torch.equal(weights[0], other) for other in weights[1:])

"""A run between two steps: checkpoints that do not fit it; that it goes on as it was is in test_checkpoint.py."""

import pytest
import torch

from concordant.benchmarks.catalogue import prepare
from concordant.errors import DataError
from concordant.training.checkpoint import Checkpoint
from concordant.training.config import Variant, make_config
from concordant.training.train import train

ABOUT = {"label": "none", "seed": "0"}
CONFIG = make_config("digits", recipe={"steps": 3, "width": 4, "evaluations": 2})


@pytest.fixture(scope="module")
def task():
    return prepare("digits", seed=0)


@pytest.fixture(scope="module")
def whole(task, tmp_path_factory):
    """Return a checkpoint of the second of three steps, as it was read."""
    path = tmp_path_factory.mktemp("whole") / "checkpoint.pt"
    train(task, CONFIG, Variant("none", False), 0, checkpoint=Checkpoint(path, ABOUT, 2))
    return path


def resumed(task, whole, path, change):
    state = torch.load(whole, weights_only=True)
    change(state)
    torch.save(state, path)
    return train(task, CONFIG, Variant("none", False), 0, checkpoint=Checkpoint(path, ABOUT))


def without(key):
    return lambda state: state.pop(key)


def weights(**more):
    return lambda state: state["model"].update(more)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (without("step"), "its step is None, not 1 or more"),
        (lambda state: state.update(step="two"), "its step is 'two', not 1 or more"),
        (lambda state: state.update(step=-5), "its step is -5, not 1 or more"),
        (without("model"), "KeyError: 'model'"),
        (lambda state: state.update(model=[]), "AttributeError: 'list' object has no attribute 'items'"),
        (without("chance"), "KeyError: 'chance'"),
        (weights(stray=torch.zeros(1)), "KeyError: 'stray'"),
        (weights(**{"fusion.head.weight": torch.zeros(1)}), "RuntimeError: .*size mismatch for fusion.head.weight: "),
        (lambda state: state["optimizer"].update(param_groups=[]), "ValueError: loaded state dict has a different num"),
        (lambda state: state.update(draws=torch.zeros(3, dtype=torch.uint8)), "RuntimeError: Expected a CPUGenerator"),
    ],
)
def test_a_checkpoint_that_does_not_fit_the_run_is_refused(task, whole, tmp_path, change, why):
    path = tmp_path / "c.pt"
    with pytest.raises(DataError, match=rf"^{path} does not fit this run \({why}.*\); move it away to train the run"):
        resumed(task, whole, path, change)


def test_one_that_fits_goes_on(task, whole, tmp_path):
    found = resumed(task, whole, tmp_path / "c.pt", lambda state: state)
    assert [entry["step"] for entry in found.history] == [2, 3]

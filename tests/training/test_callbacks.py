"""Observed training on the embedded digits: who is told what and when, and that nothing is changed by it."""

import weakref

import pytest
import torch

from concordant.benchmarks.catalogue import prepare
from concordant.dynamics.recorder import Recorder
from concordant.training.config import Variant, make_config
from concordant.training.loop import train


@pytest.fixture(scope="module")
def task():
    return prepare("digits", seed=0)


def short(**options):
    return make_config("digits", recipe={"steps": 12, "width": 8, "evaluations": 3}, **options)


class Spy:
    """Write down what an observer is told."""

    def __init__(self, wanted):
        self.wanted, self.told, self.held, self.scores, self.before = wanted, [], [], [], None

    def loss(self, step, loss):
        assert not loss.requires_grad
        assert loss.shape == ()
        assert all(held() is None for held in self.held)  # nothing of the step's graph is kept alive
        self.told.append(("loss", step))

    def wants(self, step):
        return step in self.wanted

    def prepare(self, out, labels):
        assert len(out.logits) == 2 * len(labels) == 128
        assert out.logits.requires_grad
        self.held = [weakref.ref(out), weakref.ref(out.logits)]
        self.told.append(("prepare",))

    def before_step(self, step, out, model):
        assert out is self.held[0]()
        assert model.training
        assert all(weight.grad is not None for weight in model.fusion.parameters())
        self.before = model.fusion.head.weight.detach().clone()
        self.told.append(("before", step))

    def after_step(self, step, model):
        assert not torch.equal(self.before, model.fusion.head.weight)
        self.told.append(("after", step))

    def evaluated(self, step, model, score, train, valid):
        assert not any(part.training for part in model.modules())
        self.scores.append({"step": step, "score": score, "rows": (len(train), len(valid))})
        self.told.append(("evaluated", step))


def test_an_observer_is_told_of_every_loss_and_sees_the_steps_that_it_wants(task):
    spy = Spy({2, 5})
    found = train(task, short(), Variant("context", True), 0, observer=spy)
    expected = []
    for step in range(1, 13):
        if step in (2, 5):
            expected += [("prepare",), ("before", step), ("after", step)]
        expected.append(("loss", step))
        if step in (4, 8, 12):
            expected.append(("evaluated", step))
    assert spy.told == expected
    assert [entry["score"] for entry in spy.scores] == [entry["validation"] for entry in found.history]
    assert {entry["rows"] for entry in spy.scores} == {(len(task.train), len(task.valid))}


CASES = [
    ("context", {}),
    ("none", {}),
    ("modality-dropout", {"fusion": "transformer"}),
    ("context", {"fusion": "misa"}),
    ("context", {"fusion": "mmtm"}),
    ("evidential", {}),
    ("context", {"method": "ogm-ge"}),
    ("none", {"method": "gradient-blending"}),
]


@pytest.mark.parametrize(("calibrator", "options"), CASES)
def test_observed_training_gives_the_same_bits(task, calibrator, options):
    config, variant = short(calibrators=(calibrator,), **options), Variant(calibrator, calibrator != "none")
    plain = train(task, config, variant, 0)
    recorder = Recorder(every=1)
    stream = torch.random.get_rng_state()
    observed = train(task, config, variant, 0, observer=recorder)
    recorder.finish(observed.model, observed_part(task))
    assert torch.equal(torch.random.get_rng_state(), stream)
    assert observed.history == plain.history
    assert observed.best_step == plain.best_step
    weights, expected = observed.model.state_dict(), plain.model.state_dict()
    assert list(weights) == list(expected)
    assert all(torch.equal(weights[name], value) for name, value in expected.items())
    assert {record.step for record in recorder.records if record.quantity == "update_ratio"} == set(range(1, 13))


def observed_part(task):
    from concordant.training.batches import to_tensors

    return to_tensors(task.valid)

"""Training on the embedded digits, short: what is kept, what is repeatable, what validation sees."""

import weakref

import pytest
import torch

from concordant.benchmarks.catalogue import prepare
from concordant.calibration import Perturbation
from concordant.dynamics.recorder import Recorder
from concordant.errors import ConcordantError
from concordant.training.batches import to_tensors
from concordant.training.config import Variant, make_config
from concordant.training.loop import Callback, TrainingState
from concordant.training.model import build_model
from concordant.training.step import LOSSES, TrainingStep
from concordant.training.train import train
from concordant.training.validation import validation_score

CONFIG = make_config("digits", recipe={"steps": 60, "width": 16, "evaluations": 6, "patience": 6})


@pytest.fixture(scope="module")
def task():
    return prepare("digits", seed=0)


@pytest.fixture(scope="module")
def trained(task):
    return train(task, CONFIG, Variant("context", True), 0)


def test_it_learns(task, trained):
    batch = to_tensors(task.test)
    right = trained.model(batch.inputs).logits.argmax(1) == batch.labels
    assert right.float().mean() > 0.8
    assert trained.history[-1]["loss"] < trained.history[0]["loss"]


def test_the_same_seed_gives_the_same_weights_and_another_does_not(task, trained):
    again = train(task, CONFIG, Variant("context", True), 0).model.state_dict()
    other = train(task, CONFIG, Variant("context", True), 1).model.state_dict()
    assert all(torch.equal(again[name], value) for name, value in trained.model.state_dict().items())
    assert not torch.equal(other["fusion.head.weight"], again["fusion.head.weight"])


@pytest.mark.parametrize("fusion", ["centralnet", "misa"])
def test_the_fusion_s_own_loss_is_added(task, fusion):
    config = make_config("digits", fusion=fusion, recipe={"width": 8, "dropout": 0.0})
    model = build_model(task, config, Variant("context", True), 0).train()
    model.calibrator.eval()  # without perturbations and losses of its own
    step = TrainingStep(model, LOSSES["class"], perturbation=None, state=TrainingState(), learning_rate=0.1)
    batch = to_tensors(task.train).take(slice(0, 16))
    found = step(batch.inputs, {}, {}, batch.labels, None)
    out = model(batch.inputs)
    own = model.fusion.auxiliary_loss(batch.labels)
    assert float(own) > 0
    torch.testing.assert_close(found, torch.nn.functional.cross_entropy(out.logits, batch.labels) + own)


def test_training_leaves_the_global_stream_alone(task):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    train(task, make_config("digits", recipe={"steps": 2, "width": 4}), Variant("none", False), 0)
    assert torch.equal(torch.rand(3), expected)


def test_the_kept_state_is_the_latest_within_one_standard_error_of_the_best(task, trained):
    kept, best = 0, 0.0
    for entry in trained.history:
        best = max(best, entry["validation"])
        if entry["validation"] >= best - (best * (1 - best) / len(task.valid)) ** 0.5:
            kept = entry["step"]
    assert trained.best_step == kept
    score = next(entry["validation"] for entry in trained.history if entry["step"] == kept)
    again, error = validation_score(trained.model, to_tensors(task.valid), Perturbation(), 0)
    assert again == pytest.approx(score)
    assert error == pytest.approx((score * (1 - score) / len(task.valid)) ** 0.5)


def test_the_clean_twin_is_judged_by_plain_validation_accuracy(task):
    twin = train(task, CONFIG, Variant("none", False), 0)
    batch = to_tensors(task.valid)
    accuracy = (twin.model(batch.inputs).logits.argmax(1) == batch.labels).float().mean()
    kept = next(entry for entry in twin.history if entry["step"] == twin.best_step)
    assert float(accuracy) == pytest.approx(kept["validation"])


def test_it_stops_when_validation_gets_no_better(task, monkeypatch):
    scores = iter([0.5, 0.9, 0.2, 0.3, 0.1, 0.95])
    monkeypatch.setattr("concordant.training.train.validation_score", lambda *given, **named: (next(scores), 0.02))
    config = make_config("digits", recipe={"steps": 60, "width": 4, "evaluations": 6, "patience": 3})
    found = train(task, config, Variant("none", False), 0)
    assert [entry["validation"] for entry in found.history] == [0.5, 0.9, 0.2, 0.3, 0.1]
    assert found.best_step == 20


def test_the_test_part_plays_no_part_in_training(task, trained):
    from dataclasses import replace

    blind = replace(task, test=task.test.take(torch.arange(1).numpy()))
    again = train(blind, CONFIG, Variant("context", True), 0).model.state_dict()
    assert all(torch.equal(again[name], value) for name, value in trained.model.state_dict().items())


def test_a_diverged_run_says_so(task):
    config = make_config("digits", recipe={"steps": 40, "width": 4, "learning_rate": 1e30})
    with pytest.raises(ConcordantError, match=r"training diverged at step \d+; choose a lower learning_rate"):
        train(task, config, Variant("none", False), 0)


def test_a_tuned_variant_is_trained_by_its_own_recipe():
    task = prepare("digits", seed=0)
    plain = make_config("digits", recipe={"steps": 4, "width": 8})
    tuned = plain.model_copy(update={"tuned": {"self": {"steps": 6, "learning_rate": 1e-3}}})
    alike = make_config("digits", recipe={"steps": 6, "width": 8, "learning_rate": 1e-3})
    ours, expected = (train(task, one, Variant("self", True), 0) for one in (tuned, alike))
    assert ours.history == expected.history
    assert ours.history[-1]["step"] == 6


def short(**options):
    return make_config("digits", recipe={"steps": 12, "width": 8, "evaluations": 3}, **options)


class Spy(Callback):
    """Records the calls of its hooks."""

    def __init__(self):
        self.calls, self.entries = [], []

    def start(self, model, train, valid):
        self.model, self.rows = model, (len(train), len(valid))

    def forward(self, step, out, labels):
        assert len(out.logits) == 2 * len(labels) == 128
        assert out.logits.requires_grad
        self.held = [weakref.ref(out), weakref.ref(out.logits)]
        self.calls.append(("forward", step))

    def before_update(self, step):
        assert self.model.training
        assert all(weight.grad is not None for weight in self.model.fusion.parameters())
        self.before = self.model.fusion.head.weight.detach().clone()
        self.calls.append(("before", step))

    def after_update(self, step, loss):
        assert not torch.equal(self.before, self.model.fusion.head.weight)
        assert not loss.requires_grad
        assert loss.shape == ()
        assert all(held() is None for held in self.held)  # nothing of the step's graph is kept alive
        self.calls.append(("after", step))

    def evaluated(self, step, entry):
        assert not any(part.training for part in self.model.modules())
        self.entries.append(entry)
        self.calls.append(("evaluated", step))


def test_an_observer_is_called_at_every_step_and_evaluation(task):
    spy = Spy()
    found = train(task, short(), Variant("context", True), 0, observer=spy)
    expected = []
    for step in range(1, 13):
        expected += [("forward", step), ("before", step), ("after", step)]
        if step in (4, 8, 12):
            expected.append(("evaluated", step))
    assert spy.calls == expected
    assert spy.entries == found.history
    assert spy.rows == (len(task.train), len(task.valid))


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
    recorder.finish(observed.model, to_tensors(task.valid))
    assert torch.equal(torch.random.get_rng_state(), stream)
    assert observed.history == plain.history
    assert observed.best_step == plain.best_step
    weights, expected = observed.model.state_dict(), plain.model.state_dict()
    assert list(weights) == list(expected)
    assert all(torch.equal(weights[name], value) for name, value in expected.items())
    assert {record.step for record in recorder.records if record.quantity == "update_ratio"} == set(range(1, 13))

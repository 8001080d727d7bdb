"""Training on the embedded digits, short: what is kept, what is repeatable, what validation sees."""

import pytest
import torch

from concordant.benchmarks.catalogue import prepare
from concordant.calibration import Perturbation
from concordant.errors import ConcordantError
from concordant.training import loop as training
from concordant.training.batches import to_tensors
from concordant.training.config import Variant, make_config
from concordant.training.loop import train, validation_score
from concordant.training.methods import METHODS
from concordant.training.model import build_model

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
    step = training._TrainingStep(model, METHODS["none"].build(model, seed=0), None, training.LOSSES["class"])
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
    monkeypatch.setattr(training, "validation_score", lambda *given, **named: (next(scores), 0.02))
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

"""The stress test of an untrained model: what is scored, and that detection follows the reliabilities."""

import numpy as np
import pytest

from concordant.benchmarks.catalogue import prepare
from concordant.robustness.corruption import CORRUPTIONS, corrupt
from concordant.robustness.stress import Scored, detection, score, stress
from concordant.training.config import Variant, make_config
from concordant.training.metrics import classification_metrics
from concordant.training.model import build_model


@pytest.fixture(scope="module")
def task():
    return prepare("digits", seed=0)


@pytest.fixture(scope="module")
def model(task):
    return build_model(task, make_config("digits", recipe={"width": 8}), Variant("context", True), 0).eval()


def test_every_condition_is_scored(task, model):
    found = stress(model, task, 0)
    assert found.names == ("left", "right", "profile")
    assert list(found.scored) == [
        *("clean", "corruption.noise", "corruption.dimensions", "corruption.swap", "corruption.zero"),
        *("removal.left", "removal.right", "removal.profile"),
    ]
    for kind in CORRUPTIONS:
        expected = classification_metrics(task.test.labels, found.scored[f"corruption.{kind}"].prediction, 10)
        scores = dict(found.scores["corruption"][kind])
        assert 0 <= scores.pop("calibration_error") <= 1
        assert scores == expected
        assert found.scored[f"corruption.{kind}"].hit.sum(1).tolist() == [1] * len(task.test)
    assert not found.scored["removal.right"].present[:, 1].any()
    assert not found.scored["removal.right"].reliability[:, 1].any()


def test_an_untrained_calibrator_detects_nothing(task, model):
    found = stress(model, task, 0)
    assert {value for pair in found.scores["detection_auroc"].values() for value in pair.values()} == {0.5}


def test_a_result_does_not_depend_on_the_other_instances(task, model):
    whole = score(model, task.test, "clean")
    rows = np.arange(len(task.test))[::7][::-1]
    some = score(model, task.test.take(rows), "clean")
    assert np.array_equal(some.prediction, whole.prediction[rows])
    assert np.allclose(some.confidence, whole.confidence[rows], atol=1e-5)


def test_corruptions_are_the_same_for_every_model_and_differ_by_seed(task):
    one, same, other = (corrupt(task.test, "noise", layouts=task.layouts, seed=seed) for seed in (0, 0, 1))
    assert all(np.array_equal(one.part.inputs[name], same.part.inputs[name]) for name in one.names)
    assert not np.array_equal(one.hit, other.hit)


def scored(reliability, hit):
    rows = len(reliability)
    return Scored("x", np.zeros(rows, int), np.zeros(rows), reliability, np.ones((rows, 2), bool), hit)


def test_detection_is_perfect_when_reliability_drops_where_it_should():
    draws = np.random.default_rng(0)
    usual = scored(draws.normal(1, 0.1, (200, 2)), np.zeros((200, 2), bool))
    clean = scored(draws.normal(1, 0.1, (50, 2)), np.zeros((50, 2), bool))
    hit = np.eye(2, dtype=bool)[draws.integers(0, 2, 50)]
    hurt = scored(np.where(hit, -5, draws.normal(1, 0.1, (50, 2))), hit)
    assert detection(hurt, clean, usual) == {"which": 1.0, "whether": 1.0}


def test_a_calibrator_without_reliability_detects_nothing(task):
    twin = build_model(task, make_config("digits", recipe={"width": 8}), Variant("none", True), 0).eval()
    found = stress(twin, task, 0)
    assert found.scored["clean"].reliability is None
    assert {value for pair in found.scores["detection_auroc"].values() for value in pair.values()} == {None}

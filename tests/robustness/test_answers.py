"""The table of answers of an untrained model: what is scored, and that scores are functions of the rows."""

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, f1_score

from concordant.benchmarks.catalogue import prepare
from concordant.errors import DataError, UsageError
from concordant.robustness.answers import (
    Answer,
    Answers,
    as_table,
    check_metric,
    evaluate,
    read_tables,
    run_scores,
    score_of,
    score_without_any,
    usual_answer,
    write_table,
)
from concordant.robustness.conditions import RUN, run_conditions
from concordant.robustness.detection import detection
from concordant.training.config import Variant, make_config
from concordant.training.metrics import classification_metrics
from concordant.training.model import build_model


@pytest.fixture(scope="module")
def task():
    return prepare("digits", seed=0)


@pytest.fixture(scope="module")
def model(task):
    return build_model(task, make_config("digits", recipe={"width": 8}), Variant("context", True), 0).eval()


def run_answers(model, task):
    return evaluate(model, task.test, run_conditions(task.test, task.layouts, 0))


def test_every_condition_is_scored(task, model):
    found = run_answers(model, task)
    scores = run_scores(found, usual_answer(model, task.valid))
    assert found.names == ("left", "right", "profile")
    assert list(found.rows) == [
        *("clean", "corruption.noise", "corruption.dimensions", "corruption.swap", "corruption.zero"),
        *("removal.left", "removal.right", "removal.profile"),
    ]
    for kind in RUN:
        expected = classification_metrics(task.test.labels, found.rows[f"corruption.{kind}"].prediction, 10)
        metrics = dict(scores["corruption"][kind])
        assert 0 <= metrics.pop("calibration_error") <= 1
        assert metrics == expected
        assert found.rows[f"corruption.{kind}"].perturbed.sum(1).tolist() == [1] * len(task.test)
    assert not found.rows["removal.right"].present[:, 1].any()
    assert not found.rows["removal.right"].reliability[:, 1].any()


def test_an_untrained_calibrator_detects_nothing(task, model):
    found = run_scores(run_answers(model, task), usual_answer(model, task.valid))
    assert {value for pair in found["detection_auroc"].values() for value in pair.values()} == {0.5}


def test_a_result_does_not_depend_on_the_other_instances(task, model):
    whole = usual_answer(model, task.test)
    rows = np.arange(len(task.test))[::7][::-1]
    some = usual_answer(model, task.test.take(rows))
    assert np.array_equal(some.prediction, whole.prediction[rows])
    assert np.allclose(some.confidence, whole.confidence[rows], atol=1e-5)


def an_answer(reliability, perturbed):
    rows = len(reliability)
    return Answer(np.zeros(rows, int), np.zeros(rows), reliability, np.ones((rows, 2), bool), perturbed)


def test_detection_is_perfect_when_reliability_drops_where_it_should():
    draws = np.random.default_rng(0)
    usual = an_answer(draws.normal(1, 0.1, (200, 2)), np.zeros((200, 2), bool))
    clean = an_answer(draws.normal(1, 0.1, (50, 2)), np.zeros((50, 2), bool))
    perturbed = np.eye(2, dtype=bool)[draws.integers(0, 2, 50)]
    corrupted = an_answer(np.where(perturbed, -5, draws.normal(1, 0.1, (50, 2))), perturbed)
    assert detection(corrupted, clean, usual) == {"which": 1.0, "whether": 1.0}


def test_a_calibrator_without_reliability_detects_nothing(task):
    twin = build_model(task, make_config("digits", recipe={"width": 8}), Variant("none", True), 0).eval()
    answers = run_answers(twin, task)
    assert answers.rows["clean"].reliability is None
    found = run_scores(answers, usual_answer(twin, task.valid))
    assert {value for pair in found["detection_auroc"].values() for value in pair.values()} == {None}


def a_table_of(reliability):
    perturbed = np.array([[True, False], [False, True], [False, False]])
    present = np.array([[True, True], [True, True], [False, True]])
    answer = Answer(np.array([0, 0, 1]), np.array([0.5, 0.25, 1.0], np.float32), reliability, present, perturbed)
    ids, groups = np.array(["x", "y", "z"]), np.array(["g", "g", "h"])
    return Answers(("a", "b"), np.array([0, 1, 1]), ids, groups, 2, {"corruption.noise": answer})


def test_a_row_holds_one_instance_under_one_condition():
    reliability = np.array([[0.5, 1.0], [1.0, 0.25], [0.0, 1.0]], np.float32)
    table = as_table(a_table_of(reliability), Variant("context", True), 4).to_pylist()
    assert table[0] == {
        "calibrator": "context",
        "perturbed_training": True,
        "seed": 4,
        "condition": "corruption.noise",
        "id": "x",
        "group": "g",
        "label": 0,
        "prediction": 0,
        "confidence": 0.5,
        "corrupted": "a",
        "reliability_a": 0.5,
        "reliability_b": 1.0,
    }
    assert [row["corrupted"] for row in table] == ["a", "b", None]
    assert table[2]["reliability_a"] is None  # absent


def test_without_reliability_the_columns_are_null():
    table = as_table(a_table_of(None), Variant("none", False), 0)
    assert table["reliability_a"].null_count == 3


def test_tables_written_and_read_are_joined(tmp_path):
    one = as_table(a_table_of(None), Variant("none", False), 0)
    other = as_table(a_table_of(np.ones((3, 2), np.float32)), Variant("self", True), 1)
    paths = [tmp_path / "one.parquet", tmp_path / "two.parquet"]
    write_table(paths[0], one)
    write_table(paths[1], other)
    assert read_tables(paths).to_pylist() == one.to_pylist() + other.to_pylist()


def test_a_truncated_file_is_named(tmp_path):
    path = tmp_path / "p.parquet"
    write_table(path, as_table(a_table_of(None), Variant("none", False), 0))
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DataError, match=r"p.parquet cannot be read as Parquet .* remove its folder to run it again"):
        read_tables([path])


def test_scores_are_those_of_scikit_learn():
    draws = np.random.default_rng(0)
    labels, logits = draws.integers(0, 3, 60), draws.standard_normal((60, 3))
    predicted = logits.argmax(1)
    assert score_of(labels, predicted, "accuracy", 3) == pytest.approx((labels == predicted).mean())
    assert score_of(labels, predicted, "balanced_accuracy", 3) == pytest.approx(
        balanced_accuracy_score(labels, predicted)
    )
    assert score_of(labels, predicted, "f1_macro", 3) == pytest.approx(f1_score(labels, predicted, average="macro"))


def test_real_labels_are_scored_by_their_side_of_zero():
    labels = np.array([-1.0, 0.0, 2.0, -0.5], np.float32)
    predicted = np.array([-2.0, 0.1, -1.0, -3.0], np.float32)
    assert score_of(labels, predicted, "accuracy", 1) == 0.75
    assert score_of(labels, predicted, "correlation", 1) == pytest.approx(np.corrcoef(labels, predicted)[0, 1])


def test_without_modalities_the_most_frequent_training_class_is_predicted():
    train, test = np.array([0, 1, 1, 1, 2]), np.array([0, 0, 1, 2])
    assert score_without_any(train, test, "accuracy", 3) == 0.25
    reals = np.array([1.0, 2.0, -9.0], np.float32)
    assert score_without_any(reals, np.array([-1.0, 1.0, 3.0, 4.0], np.float32), "accuracy", 1) == 0.75


def test_errors_are_not_among_the_metrics():
    assert check_metric("f1_macro", np.array([0, 1])) == "f1_macro"
    with pytest.raises(UsageError, match="unknown metric 'mae' of these labels; choose from: accuracy, has0_f1"):
        check_metric("mae", np.array([0.5, 1.0], np.float32))
    with pytest.raises(UsageError, match="unknown metric 'auc'"):
        check_metric("auc", np.array([0, 1]))

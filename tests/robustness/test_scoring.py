import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, f1_score

from concordant.errors import UsageError
from concordant.robustness.predict import Answer
from concordant.robustness.scoring import check_metric, score_of, score_without_any


def answer(logits):
    logits = np.asarray(logits, np.float32)
    return Answer(logits, None, np.ones((len(logits), 2), np.bool_))


def test_scores_are_those_of_scikit_learn():
    draws = np.random.default_rng(0)
    labels, logits = draws.integers(0, 3, 60), draws.standard_normal((60, 3))
    said = logits.argmax(1)
    assert score_of(labels, answer(logits)) == pytest.approx((labels == said).mean())
    assert score_of(labels, answer(logits), "balanced_accuracy") == pytest.approx(balanced_accuracy_score(labels, said))
    assert score_of(labels, answer(logits), "f1_macro") == pytest.approx(f1_score(labels, said, average="macro"))


def test_real_labels_are_scored_by_their_side_of_zero():
    labels = np.array([-1.0, 0.0, 2.0, -0.5], np.float32)
    said = answer([[-2.0], [0.1], [-1.0], [-3.0]])
    assert score_of(labels, said) == 0.75
    assert score_of(labels, said, "correlation") == pytest.approx(np.corrcoef(labels, said.logits[:, 0])[0, 1])


def test_who_knows_nothing_says_what_was_most_frequent_in_training():
    train, test = np.array([0, 1, 1, 1, 2]), np.array([0, 0, 1, 2])
    assert score_without_any(train, test, "accuracy", 3) == 0.25
    reals = np.array([1.0, 2.0, -9.0], np.float32)
    assert score_without_any(reals, np.array([-1.0, 1.0, 3.0, 4.0], np.float32), "accuracy", 1) == 0.75


def test_errors_are_no_metric_here():
    assert check_metric("f1_macro", np.array([0, 1])) == "f1_macro"
    with pytest.raises(UsageError, match="unknown metric 'mae' of these labels; choose from: accuracy, has0_f1"):
        check_metric("mae", np.array([0.5, 1.0], np.float32))
    with pytest.raises(UsageError, match="unknown metric 'auc'"):
        check_metric("auc", np.array([0, 1]))

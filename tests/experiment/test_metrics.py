import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score

from concord.errors import UsageError
from concord.experiment.metrics import PRIMARY, classification_metrics


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=30))
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_metrics_equal_scikit_learn(pairs):
    truth, guess = (np.array(side) for side in zip(*pairs, strict=True))
    assert classification_metrics(truth, guess, 4) == pytest.approx(
        {
            "accuracy": accuracy_score(truth, guess),
            "balanced_accuracy": balanced_accuracy_score(truth, guess),
            "f1_macro": f1_score(truth, guess, average="macro", zero_division=0),
            "f1_weighted": f1_score(truth, guess, average="weighted", zero_division=0),
        }
    )


def test_metrics_by_hand():
    found = classification_metrics([0, 0, 0, 1], [0, 0, 2, 1], classes=5)
    assert found["accuracy"] == 0.75
    assert found["balanced_accuracy"] == pytest.approx((2 / 3 + 1) / 2)
    assert found["f1_macro"] == pytest.approx((0.8 + 1 + 0) / 3)
    assert found["f1_weighted"] == pytest.approx(0.75 * 0.8 + 0.25 * 1)
    assert PRIMARY in found


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("truth", "guess"), [([0], [1]), ([0, 0], [0, 0]), ([0, 1], [2, 2])])
def test_rare_classes_raise_no_warning(truth, guess):
    assert all(0 <= value <= 1 for value in classification_metrics(truth, guess, 3).values())


@pytest.mark.parametrize(
    ("labels", "predictions", "classes", "message"),
    [
        ([0], [0], 1, "classes must be 2 or more, got 1"),
        ([], [], 2, "labels must have shape (N,) with N of 1 or more, got (0,)"),
        ([[0]], [0], 2, "labels must have shape (N,) with N of 1 or more, got (1, 1)"),
        ([0, 1], [0], 2, "labels and predictions must be of one length, got 2 and 1"),
        ([0.0], [0], 2, "labels must be integers (class indices), got float64"),
        ([0], [True], 2, "predictions must be integers (class indices), got bool"),
        ([0, 3], [0, 1], 3, "labels must lie in 0..2 (classes=3), got 0..3"),
        ([0, 1], [-1, 1], 3, "predictions must lie in 0..2 (classes=3), got -1..1"),
    ],
)
def test_metrics_refuse(labels, predictions, classes, message):
    with pytest.raises(UsageError, match=re.escape(message)):
        classification_metrics(labels, predictions, classes)

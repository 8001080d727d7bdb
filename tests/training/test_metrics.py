import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import pearsonr
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score

from concordant.errors import UsageError
from concordant.training.metrics import (
    PRIMARY,
    calibration_error,
    classification_metrics,
    sentiment_metrics,
)


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


scores = st.floats(-4, 4).map(lambda value: round(value * 2) / 2) | st.floats(-4, 4)


def half_to_even(value):
    whole = int(np.floor(value))
    rest = value - whole
    if rest == 0.5:
        return whole + whole % 2
    return whole + (rest > 0.5)


@settings(deadline=None, max_examples=80)
@given(st.lists(st.tuples(scores, scores), min_size=1, max_size=25))
def test_sentiment_is_scored_as_the_definitions_say(pairs):
    truth, guess = (list(side) for side in zip(*pairs, strict=True))
    found = sentiment_metrics(truth, guess)
    assert found["has0_accuracy"] == pytest.approx(np.mean([(y >= 0) == (p >= 0) for y, p in pairs]))
    assert found["has0_f1_weighted"] == pytest.approx(
        f1_score([y >= 0 for y in truth], [p >= 0 for p in guess], average="weighted", zero_division=0)
    )
    kept = [(y > 0, p > 0) for y, p in pairs if y != 0]
    if kept:
        assert found["non0_accuracy"] == pytest.approx(np.mean([y == p for y, p in kept]))
        expected = f1_score([y for y, _ in kept], [p for _, p in kept], average="weighted", zero_division=0)
        assert found["non0_f1_weighted"] == pytest.approx(expected)
    else:
        assert found["non0_accuracy"] is None
        assert found["non0_f1_weighted"] is None
    for count, most in ((7, 3), (5, 2), (3, 1)):
        equal = [half_to_even(min(max(y, -most), most)) == half_to_even(min(max(p, -most), most)) for y, p in pairs]
        assert found[f"accuracy{count}"] == pytest.approx(np.mean(equal))
    assert found["mae"] == pytest.approx(np.mean([abs(y - p) for y, p in pairs]))
    if len(set(truth)) == 1 or len(set(guess)) == 1:
        assert found["correlation"] is None
    elif np.std(truth) > 1e-3 and np.std(guess) > 1e-3:
        assert found["correlation"] == pytest.approx(pearsonr(truth, guess).statistic, abs=1e-6)


def test_halves_are_rounded_to_even():
    assert sentiment_metrics([0.0, 2.0, 2.0], [0.5, 1.5, 2.5])["accuracy7"] == 1.0


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.booleans(), st.floats(0, 1)), min_size=1, max_size=30), st.integers(1, 12))
def test_calibration_error_is_the_loop_over_bins(pairs, bins):
    expected = 0.0
    for number in range(bins):
        inside = [
            (right, sure)
            for right, sure in pairs
            if number < np.ceil(sure * bins) <= number + 1 or (number == 0 and sure == 0)
        ]
        if inside:
            gap = np.mean([right for right, _ in inside]) - np.mean([sure for _, sure in inside])
            expected += len(inside) / len(pairs) * abs(gap)
    right, sure = (np.array(side) for side in zip(*pairs, strict=True))
    assert calibration_error(right, sure, bins=bins) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sentiment_metrics([], []), "labels must have shape (N,) with N of 1 or more, got (0,)"),
        (lambda: sentiment_metrics([1.0], [1.0, 2.0]), "labels and predictions must be of one length, got 1 and 2"),
        (lambda: sentiment_metrics([1.0], [np.nan]), "predictions must be finite, got 1 values that are not"),
        (lambda: calibration_error(np.ones(2), np.ones(3)), "correct and confidence must be of one length"),
        (lambda: calibration_error(np.ones(1), np.array([1.5])), "confidence must lie in [0, 1], got 1.5..1.5"),
        (lambda: calibration_error(np.ones(1), np.ones(1), bins=0), "bins must be 1 or more, got 0"),
    ],
)
def test_the_other_metrics_refuse(call, message):
    with pytest.raises(UsageError, match=re.escape(message)):
        call()

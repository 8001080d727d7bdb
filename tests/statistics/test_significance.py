import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from concordant.errors import UsageError
from concordant.statistics.significance import holm, wilcoxon


def holm_by_hand(p_values):
    """Return, for each p-value, the smallest level at which Holm's procedure rejects it."""
    adjusted = []
    for p in p_values:
        worst = 0.0
        for q in {q for q in p_values if q <= p}:
            worst = max(worst, q * sum(r >= q for r in p_values))
        adjusted.append(min(1.0, worst))
    return adjusted


@settings(deadline=None, max_examples=100)
@given(st.lists(st.sampled_from([0.0, 0.001, 0.01, 0.02, 0.03, 0.04, 0.2, 0.5, 1.0]) | st.floats(0, 1), max_size=8))
def test_holm_equals_its_definition(p_values):
    assert holm(p_values) == pytest.approx(holm_by_hand(p_values))


def test_holm_of_a_textbook_table():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_holm_of_one_or_none_changes_nothing():
    assert holm([0.3]) == [0.3]
    assert holm([]) == []


@pytest.mark.parametrize(
    ("given_values", "message"),
    [
        ([[0.1]], "p_values must have shape (n,), got (1, 1)"),
        ([0.1, 1.5], "p_values must lie in [0, 1], got 1.5"),
        ([-0.1], "p_values must lie in [0, 1], got -0.1"),
        ([math.nan], "p_values must lie in [0, 1], got nan"),
    ],
)
def test_holm_refuses(given_values, message):
    with pytest.raises(UsageError, match=re.escape(message)):
        holm(given_values)


@pytest.mark.parametrize("size", [8, 10, 60])
def test_wilcoxon_equals_scipy(size):
    for seed in range(5):
        x = np.random.default_rng(seed).normal(0.4, 1, size)
        assert wilcoxon(x) == pytest.approx(stats.wilcoxon(x).pvalue, rel=1e-12)


def test_wilcoxon_of_one_sided_differences_is_the_smallest_possible():
    assert wilcoxon([1, 2, 3, 4, 5, 6, 7, 8]) == pytest.approx(2 / 2**8)
    assert wilcoxon([-1, -2, -3, -4, -5, -6, -7, -8]) == pytest.approx(2 / 2**8)


def test_wilcoxon_counts_every_sign_pattern():
    x = np.array([3.0, -1, 2, 5, -4, 6, 7, 8])
    ranks = np.abs(x)
    ranks = stats.rankdata(ranks)
    signs = np.array(np.meshgrid(*[[0, 1]] * 8)).reshape(8, -1)
    sums = ranks @ signs
    low = min(ranks[x > 0].sum(), ranks[x < 0].sum())
    assert wilcoxon(x) == pytest.approx(2 * (sums <= low).mean())


def test_wilcoxon_ties_are_not_broken_by_rounding():
    exact = np.array([3, -3, 3, -3, 3, -3, 1, 2, 4, 5])
    tenths = np.array([0.1 + 0.2, -0.3, 0.1 + 0.2, -0.3, 0.1 + 0.2, -0.3, 0.1, 0.2, 0.4, 0.5])
    assert stats.wilcoxon(tenths).pvalue != pytest.approx(stats.wilcoxon(exact).pvalue)
    assert wilcoxon(tenths) == pytest.approx(wilcoxon(exact), rel=1e-12)


def test_wilcoxon_leaves_zeros_out():
    x = [0, 0, 0, 1, 2, -3, 4, 5, 6, 7, 8]
    assert wilcoxon(x) == pytest.approx(stats.wilcoxon(x, zero_method="wilcox", method="exact").pvalue)


def test_wilcoxon_of_zeros_is_one_and_of_few_is_none():
    assert wilcoxon([0.0] * 8) == 1
    assert wilcoxon([1.0] * 7) is None
    assert wilcoxon([]) is None


@pytest.mark.parametrize(
    ("differences", "message"),
    [
        ([[1.0]], "differences must have shape (S,), got (1, 1)"),
        ([1.0, math.inf], "differences must be finite, got inf"),
    ],
)
def test_wilcoxon_refuses(differences, message):
    with pytest.raises(UsageError, match=re.escape(message)):
        wilcoxon(differences)

import numpy as np
import pytest
from scipy import stats

from concordant.statistics.significance import holm
from studies.paper.comparing import compare_seeds, corrected, sign_flips
from studies.paper.writing import difference_text, mark


@pytest.mark.parametrize("count", [2, 3, 5, 10])
def test_sign_flips_are_those_of_scipy(count):
    differences = np.random.default_rng(count).normal(0.5, 1, count)
    expected = stats.permutation_test((differences,), np.mean, permutation_type="samples", n_resamples=np.inf).pvalue
    assert sign_flips(differences) == pytest.approx(expected)


def test_few_seeds_are_never_sure():
    assert [sign_flips(np.arange(1.0, count + 1)) for count in (1, 3, 5)] == [1.0, 0.25, 0.0625]
    assert sign_flips(np.zeros(4)) == 1
    assert sign_flips(np.ones(20)) < 0.001


def test_a_comparison_of_seeds_has_student_s_interval(cell):
    ours, theirs = np.array([1.0, 2.0, 4.0]), np.array([0.5, 1.0, 1.0])
    row = compare_seeds(cell, "sharpness", "context", "self", ours, theirs)
    low, high = stats.t.interval(0.95, 2, loc=1.5, scale=stats.sem(ours - theirs))
    assert (row["low"], row["high"]) == pytest.approx((low, high))
    assert row["p_wilcoxon"] is None
    single = compare_seeds(cell, "sharpness", "context", "self", ours[:1], theirs[:1])
    assert (single["low"], single["p"]) == (None, 1.0)
    assert difference_text(single["low"], "") == "-"


def test_holm_is_over_all_rows_or_over_those_that_agree():
    rows = [{"family": name, "p": p} for name, p in (("a", 0.01), ("a", 0.03), ("b", 0.02))]
    assert [row["p_holm"] for row in corrected(rows)] == holm([0.01, 0.03, 0.02])
    assert [row["p_holm"] for row in corrected(rows, by="family")] == [*holm([0.01, 0.03]), 0.02]


def test_marks_say_who_is_ahead():
    row = {"p_holm": 0.049, "difference": -0.1}
    assert (mark(row), mark(row, less=True)) == (" -", " +")
    assert mark({**row, "p_holm": 0.05}) == mark({**row, "difference": 0.0}) == mark({**row, "p_holm": None}) == ""

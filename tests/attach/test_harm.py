"""The bound on harm against SciPy, and the whole choice against its promise, by simulation."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import beta, binom

from concordant.attach.harm import TOLERANCES, certify, fewest_units, units_harmed, upper_bound


@pytest.mark.parametrize("units", [1, 17, 360, 2000])
@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.999])
def test_the_bound_is_the_beta_quantile(units, confidence):
    for flips in sorted({0, 1, units // 3, units - 1, units}):
        expected = beta.ppf(confidence, flips + 1, units - flips) if flips < units else 1.0
        assert upper_bound(flips, units, confidence) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("harm", "confidence", "candidates"), [(0.02, 0.9, 1), (0.02, 0.9, 3), (0.1, 0.99, 2)])
def test_the_fewest_units_are_just_enough(harm, confidence, candidates):
    fewest, level = fewest_units(harm, confidence, candidates), 1 - (1 - confidence) / candidates
    assert upper_bound(0, fewest, level) <= harm < upper_bound(0, fewest - 1, level)


def simulated(draws, rates, units):
    """Return flips (G, N): a unit that is harmed at a tolerance need not be at the next."""
    return [torch.from_numpy(draws.random((len(one), units)) < np.array(one)[:, None]) for one in rates]


@pytest.mark.parametrize("units", [200, 500])
def test_the_bound_is_broken_no_more_often_than_promised(units):
    """Three candidates; the worst of those that hold to it on the sample is chosen, as no honest choice would be."""
    harm, confidence, draws = 0.02, 0.9, np.random.default_rng(0)
    grid = np.arange(len(TOLERANCES))
    # Rates of flips that pass the allowed share just so: the hardest case for the test.
    rates = [0.021 * (grid >= first) + 0.002 * np.clip(grid - first, 0, None) * (grid > 0) for first in (1, 4, 8)]
    broken = 0
    for _ in range(1000):
        found = certify(simulated(draws, rates, units), harm, confidence)
        broken += max(rate[index] for rate, index in zip(rates, found, strict=True)) > harm
    assert broken <= binom.ppf(0.999, 1000, 1 - confidence)
    assert broken > 0  # the rates are hard enough to break it sometimes


def test_the_choice_goes_down_as_far_as_the_bound_holds():
    none, some = torch.zeros(1, 200, dtype=torch.bool), torch.arange(200)[None] < 9
    assert certify([torch.cat([none, none, none, some, none])], 0.02, 0.9) == [2]  # it stops before the first failure
    assert certify([torch.cat([none, some])], 0.02, 0.9) == [0]
    assert certify([torch.cat([some, none])], 0.02, 0.9, first=True) == [-1]
    assert certify([torch.cat([none, none])[:, :50]], 0.02, 0.9) == [0]
    assert TOLERANCES[0] == math.inf
    assert list(TOLERANCES) == sorted(TOLERANCES, reverse=True)


def test_units_are_rows_or_groups():
    harmed = torch.tensor([[False] * 6, [True, False, False, True, True, False]])
    counted = torch.tensor([True, True, True, True, False, True])
    assert units_harmed(harmed, counted).int().tolist() == [[0] * 5, [1, 0, 0, 1, 0]]
    groups = ["a", "a", "a", "b", "c", "b"]  # no row of c can be harmed
    assert units_harmed(harmed, counted, groups, share=0.4).int().tolist() == [[0, 0], [0, 1]]
    assert units_harmed(harmed, counted, groups, share=0.02).int().tolist() == [[0, 0], [1, 1]]

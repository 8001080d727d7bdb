"""Areas as means of components, against scikit-learn and against the areas that results report."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from concordant.robustness.detection import whether_auroc, which_auroc
from studies.paper.components import placements, whether_components, which_components


@pytest.fixture
def told():
    draws = np.random.default_rng(0)
    reliability = draws.random((40, 3))
    hit = np.zeros((40, 3), np.bool_)
    hit[np.arange(40), draws.integers(3, size=40)] = True
    hit[:5] = False
    reliability[hit] -= 0.3
    before, usual = draws.random((40, 3)), draws.random((30, 3))
    absent = (draws.random((40, 3)) < 0.1) & ~hit
    reliability[absent] = before[absent] = np.nan
    usual[draws.random((30, 3)) < 0.1] = np.nan
    return reliability, before, usual, hit


def test_placements_give_the_area_from_either_side():
    draws = np.random.default_rng(0)
    positive, negative = draws.integers(5, size=30) + 1.0, draws.integers(5, size=20) + 0.0  # with ties
    above, below = placements(positive, negative)
    expected = roc_auc_score(np.r_[np.ones(30), np.zeros(20)], np.r_[positive, negative])
    assert above.mean() == pytest.approx(expected)
    assert below.mean() == pytest.approx(expected)


def test_the_mean_of_the_components_is_the_area(told):
    reliability, before, usual, hit = told
    common = {
        "reference": np.nan_to_num(usual),
        "corrupted": hit,
        "present": ~np.isnan(reliability),
        "reference_present": ~np.isnan(usual),
    }
    filled = np.nan_to_num(reliability)
    which, whether = which_components(*told), whether_components(*told)
    assert len(which) == len(whether) == 35
    assert which.mean() == pytest.approx(which_auroc(filled, **common))
    assert whether.mean() == pytest.approx(whether_auroc(filled, np.nan_to_num(before), **common))


def test_resampling_the_components_is_resampling_the_area(told):
    reliability, before, usual, hit = told
    components = whether_components(*told)
    draws = np.random.default_rng(1)
    rows = np.flatnonzero(hit.any(1))
    areas, means = [], []
    for _ in range(300):
        some = draws.integers(len(rows), size=len(rows))
        again = whether_components(reliability[rows[some]], before[rows[some]], usual, hit[rows[some]])
        areas.append(again.mean())
        means.append(components[some].mean())
    assert np.std(means) == pytest.approx(np.std(areas), rel=0.1)
    assert np.corrcoef(areas, means)[0, 1] > 0.98


def test_a_reliability_that_is_always_the_same_knows_nothing():
    hit = np.array([[True, False], [False, True], [True, False]])
    same = np.ones((3, 2))
    np.testing.assert_allclose(which_components(same, same, same, hit), 0.5)
    np.testing.assert_allclose(whether_components(same, same, same, hit), 0.5)

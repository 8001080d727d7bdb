import numpy as np
import pytest
from sklearn.decomposition import PCA

from concordant.visualisation.projection import pca_maps, tsne_maps


def sides(n=40, d=6):
    before = np.random.default_rng(0).standard_normal((n, d)).astype(np.float32) * np.arange(1, d + 1)
    return before.astype(np.float32), (before * 0.5).astype(np.float32)


def test_one_fit_serves_both_sides():
    before, after = sides()
    both = np.concatenate([before, after]) / before.std(0)
    expected = PCA(2, svd_solver="full").fit_transform(both)
    found = np.concatenate(pca_maps(before, after))
    assert found == pytest.approx(expected, abs=1e-4)


def test_the_same_features_land_on_the_same_place():
    before, _ = sides()
    first, second = pca_maps(before, before)
    assert first == pytest.approx(second, abs=1e-4)
    first, second = tsne_maps(before, before.copy(), seed=0)
    spread = first.std()
    assert np.abs(first - second).max() < spread  # twins are neighbours


def test_tsne_is_the_same_for_the_same_seed():
    before, after = sides()
    assert np.array_equal(tsne_maps(before, after, seed=4)[1], tsne_maps(before, after, seed=4)[1])


def test_constant_features_are_left_out_and_too_few_make_no_map():
    before, after = sides()
    before[:, 0] = 3.0
    assert np.isfinite(pca_maps(before, after)[0]).all()
    assert pca_maps(before[:4], after[:4]) is None
    assert tsne_maps(before[:, :1], after[:, :1], seed=0) is None

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.metrics import silhouette_score
from sklearn.preprocessing import StandardScaler

from concordant.visualisation.projection import probe, probe_within, project, silhouette


def sides(n=40, d=6):
    before = np.random.default_rng(0).standard_normal((n, d)).astype(np.float32) * np.arange(1, d + 1)
    return before.astype(np.float32), (before * 0.5).astype(np.float32)


def test_one_fit_serves_both_sides():
    before, after = sides()
    both = np.concatenate([before, after]) / before.std(0)
    expected = PCA(2, svd_solver="full").fit_transform(both)
    found = np.concatenate(project(before, after, seed=0)["pca"])
    assert found == pytest.approx(expected, abs=1e-4)


def test_the_same_features_land_on_the_same_place():
    before, _ = sides()
    maps = project(before, before, seed=0)
    first, second = maps["pca"]
    assert first == pytest.approx(second, abs=1e-4)
    first, second = maps["tsne"]
    spread = first.std()
    assert np.abs(first - second).max() < spread  # twins are neighbours


def test_tsne_is_the_same_for_the_same_seed():
    before, after = sides()
    assert np.array_equal(*(project(before, after, seed=4)["tsne"][1] for _ in range(2)))


def test_constant_features_are_left_out_and_too_few_make_no_map():
    before, after = sides()
    before[:, 0] = 3.0
    assert np.isfinite(project(before, after, seed=0)["pca"][0]).all()
    assert project(before[:4], after[:4], seed=0) == project(before[:0], after[:0], seed=0) == {}
    assert project(before[:, :1], after[:, :1], seed=0) == {}


def clusters(gap, n=60):
    draws = np.random.default_rng(0)
    labels = np.arange(n) % 3
    return (draws.standard_normal((n, 4)) + gap * np.eye(4)[labels]).astype(np.float32), labels


def test_the_silhouette_is_scikit_learns_on_standardised_features():
    x, y = clusters(3)
    assert silhouette(x, y) == pytest.approx(silhouette_score(StandardScaler().fit_transform(x), y), abs=1e-5)


def test_a_probe_finds_what_is_apart_and_guesses_what_is_not():
    x, y = clusters(6)
    assert probe(x[:30], y[:30], x[30:], y[30:]) == 1.0
    assert probe_within(x, y, seed=0) == 1.0
    x, y = clusters(0, 600)
    assert probe(x[:300], y[:300], x[300:], y[300:]) == pytest.approx(1 / 3, abs=0.1)


def test_where_nothing_can_be_told_there_is_no_number():
    x, y = clusters(1)
    assert silhouette(x, np.zeros(60, int)) is None
    assert silhouette(x[:3], np.arange(3)) is None
    assert probe(x, np.zeros(60, int), x, y) is None
    assert probe_within(x[:3], np.arange(3), seed=0) is None

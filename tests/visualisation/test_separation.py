import numpy as np
import pytest
from sklearn.metrics import silhouette_score
from sklearn.preprocessing import StandardScaler

from concordant.visualisation.separation import probe, probe_within, silhouette


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

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from concordant.robustness.corruptions import KINDS, Context
from concordant.robustness.corruptions.values import some_features


def a_context(x, layout="bd", **more):
    return Context(layout, x, np.arange(len(x)), np.ones(len(x), np.bool_), np.arange(len(x)) % 2, **more)


def values(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def hurt(name, severity, x, context, seed=3):
    return KINDS[name].apply(x, severity, context, np.random.default_rng(seed))


@pytest.mark.parametrize("severity", KINDS["gaussian-noise"].severities)
def test_noise_has_the_stated_standard_deviation_and_is_the_same_noise_at_every_severity(severity):
    x = np.zeros((300, 50), np.float32)
    added = hurt("gaussian-noise", severity, x, a_context(x))
    assert added.std() == pytest.approx(severity, rel=0.02)
    np.testing.assert_allclose(added / severity, hurt("gaussian-noise", 1.0, x, a_context(x)), rtol=1e-6)


@pytest.mark.parametrize("severity", KINDS["impulse"].severities)
def test_impulses_hit_the_stated_share_with_four_deviations_on_both_sides(severity):
    x = values(200, 100)
    found = hurt("impulse", severity, x, a_context(x))
    hit = found != x
    assert hit.mean() == pytest.approx(severity, abs=0.01)
    np.testing.assert_array_equal(np.unique(found[hit]), [-4, 4])
    assert (found[hit] > 0).mean() == pytest.approx(0.5, abs=0.06)
    assert hit[hurt("impulse", severity / 2, x, a_context(x)) != x].all()  # a milder one hits some of the same


@pytest.mark.parametrize(("layout", "shape", "over", "features"), [
    ("bd", (20,), (), 20),
    ("btd", (4, 10), (1,), 10),
    ("bdt", (10, 4), (2,), 10),
    ("bchw", (10, 2, 3), (2, 3), 10),
    ("bchw", (1, 4, 5), (), 20),
    ("bcthw", (1, 3, 4, 5), (2,), 20),
])  # fmt: skip
@pytest.mark.parametrize("severity", KINDS["dimension-dropout"].severities)
def test_the_share_of_features_that_are_zeroed_is_exact(layout, shape, over, features, severity):
    x = values(30, *shape)
    gone = hurt("dimension-dropout", severity, x, a_context(x, layout)) == 0
    if over:
        np.testing.assert_array_equal(gone.all(over), gone.any(over))
        gone = gone.any(over)
    np.testing.assert_array_equal(gone.reshape(30, -1).sum(1), round(severity * features))


def test_at_least_one_feature_is_dropped_and_a_milder_dropout_is_part_of_a_severe_one():
    x = values(20, 4)
    masks = [hurt("dimension-dropout", s, x, a_context(x)) == 0 for s in KINDS["dimension-dropout"].severities]
    assert (masks[0].sum(1) == 1).all()
    for mild, severe in pairwise(masks):
        assert (severe | ~mild).all()


def test_no_feature_is_preferred():
    x = values(4000, 8)
    chosen = some_features(x, 0.25, a_context(x), np.random.default_rng(0))
    np.testing.assert_allclose(chosen.mean(0), 0.25, atol=0.03)


@pytest.mark.parametrize("severity", KINDS["dimension-replacement"].severities)
def test_replaced_features_are_noise_with_three_deviations_that_knows_nothing_of_the_values(severity):
    x = values(400, 100)
    found = hurt("dimension-replacement", severity, x, a_context(x))
    hit = found != x
    np.testing.assert_array_equal(hit.sum(1), round(severity * 100))
    assert found[hit].std() == pytest.approx(3, rel=0.05)
    assert abs(np.corrcoef(found[hit], x[hit])[0, 1]) < 0.1


def test_the_gain_rises_linearly_over_the_valid_steps():
    x = np.ones((3, 5, 2), np.float32)
    lengths = np.array([5, 3, 1])
    found = hurt("scale-drift", 3.0, x, a_context(x, "btd", lengths=lengths))
    expected = [[1, 1.5, 2, 2.5, 3], [1, 2, 3, 1, 1], [3, 1, 1, 1, 1]]
    np.testing.assert_allclose(found[..., 0], expected, rtol=1e-6)
    np.testing.assert_array_equal(found[..., 0], found[..., 1])


def test_the_gain_is_constant_without_steps():
    x = values(4, 6)
    np.testing.assert_allclose(hurt("scale-drift", 2.0, x, a_context(x)), 2 * x)
    one = x[:, None]
    np.testing.assert_allclose(hurt("scale-drift", 2.0, one, a_context(one, "btd")), 2 * one)


@pytest.mark.parametrize("severity", KINDS["clipping"].severities)
def test_clipping_leaves_what_lies_inside_and_bounds_what_does_not(severity):
    x = values(50, 40)
    found = hurt("clipping", severity, x, a_context(x))
    inside = np.abs(x) <= severity
    np.testing.assert_array_equal(found[inside], x[inside])
    np.testing.assert_array_equal(found[~inside], np.float32(severity) * np.sign(x[~inside]))


@pytest.mark.parametrize("severity", KINDS["quantisation"].severities)
def test_quantisation_leaves_as_many_levels_as_stated_each_the_nearest_one(severity):
    x = 2 * values(100, 100)
    found = hurt("quantisation", severity, x, a_context(x))
    levels = (np.arange(severity) + 0.5) * 6 / severity - 3
    np.testing.assert_allclose(np.unique(found), levels, atol=1e-6)
    nearest = levels[np.abs(x[..., None] - levels).argmin(-1)]
    np.testing.assert_allclose(found, nearest, atol=1e-5)
    inside = np.abs(x) <= 3
    assert np.abs(found - x)[inside].max() <= 3 / severity + 1e-5


def test_only_the_chosen_instances_are_drawn_for():
    x = values(10, 6)
    context = replace(a_context(x), rows=np.array([2, 7]))
    assert hurt("gaussian-noise", 1.0, x[[2, 7]], context).shape == (2, 6)

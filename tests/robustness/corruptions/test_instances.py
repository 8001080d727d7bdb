import re
from dataclasses import replace

import numpy as np
import pytest

from concordant.errors import UsageError
from concordant.robustness.corruptions import KINDS, Context

SHAPES = {"bd": (10,), "btd": (6, 4), "bdt": (4, 6), "bchw": (4, 3, 3), "bcthw": (1, 6, 3, 3), "bt": (50,)}
every_layout = pytest.mark.parametrize("layout", SHAPES)
every_weight = pytest.mark.parametrize("weight", KINDS["swap"].severities)


def a_case(layout, count=60, classes=3):
    x = np.random.default_rng(0).standard_normal((count, *SHAPES[layout])).astype(np.float32)
    return x, Context(layout, x, np.arange(count), np.ones(count, np.bool_), np.arange(count) % classes)


def hurt(name, severity, x, context, seed=3):
    return KINDS[name].apply(x, severity, context, np.random.default_rng(seed))


def givers(found, everything):
    """Return whose values each instance has now."""
    same = (found[:, None] == everything[None]).reshape(len(found), len(everything), -1).all(-1)
    assert (same.sum(1) == 1).all()
    return same.argmax(1)


@every_layout
def test_a_full_swap_gives_the_values_of_an_instance_of_another_class(layout):
    x, context = a_case(layout)
    donors = givers(hurt("swap", 1.0, x, context), x)
    assert (context.labels[donors] != context.labels).all()
    assert len(set(donors)) > 20


@every_layout
def test_a_full_swap_within_the_class_gives_the_values_of_another_instance_of_it(layout):
    x, context = a_case(layout)
    donors = givers(hurt("same-class-swap", 1.0, x, context), x)
    np.testing.assert_array_equal(context.labels[donors], context.labels)
    assert (donors != np.arange(60)).all()
    assert len(set(donors)) > 20


@every_weight
@pytest.mark.parametrize("name", ["swap", "same-class-swap"])
def test_a_partial_swap_lies_on_the_line_towards_the_full_one(name, weight):
    x, context = a_case("btd")
    full = hurt(name, 1.0, x, context)
    np.testing.assert_allclose(hurt(name, weight, x, context), (1 - weight) * x + weight * full, atol=1e-5)


def test_every_other_instance_of_the_pool_is_as_likely_as_the_others():
    x, context = a_case("bd", 9)
    counts = np.zeros((9, 9))
    for seed in range(1500):
        counts[np.arange(9), givers(hurt("same-class-swap", 1.0, x, context, seed), x)] += 1
    allowed = (context.labels[:, None] == context.labels) & ~np.eye(9, dtype=bool)
    assert not counts[~allowed].any()
    np.testing.assert_allclose(counts[allowed] / 1500, 0.5, atol=0.06)


@pytest.mark.parametrize("name", ["swap", "same-class-swap", "stale"])
def test_nothing_is_taken_from_an_instance_that_lacks_the_modality(name):
    x, context = a_case("bd")
    donors = np.arange(60) % 4 != 1
    rows = np.flatnonzero(donors)
    everything = np.where(donors[:, None], x, 99).astype(np.float32)
    context = replace(context, everything=everything, donors=donors, rows=rows)
    found = hurt(name, 1.0, x[rows], context)
    assert (found != 99).all()
    assert (found != x[rows]).any(1).all()


def test_nothing_is_taken_from_an_instance_without_a_valid_step():
    x, context = a_case("btd", 4, classes=2)
    lengths = np.array([6, 0, 6, 6])
    x = np.where((np.arange(6) < lengths[:, None])[..., None], x, np.float32(0))
    context = replace(context, everything=x, lengths=lengths)
    donors = givers(hurt("swap", 1.0, x, context)[[0, 2]], x)
    np.testing.assert_array_equal(donors, [3, 3])


def test_a_swap_needs_another_class():
    x, context = a_case("bd", classes=1)
    text = (
        "a swap needs test instances of two classes at least; found none that has the modality and another class than 0"
    )
    with pytest.raises(UsageError, match=re.escape(text)):
        hurt("swap", 0.2, x, context)
    x, context = a_case("bd", classes=2)
    with pytest.raises(UsageError, match=re.escape("and another class than 1")):
        hurt("swap", 0.2, x, replace(context, donors=context.labels == 1))


def test_an_instance_that_is_alone_in_its_class_stays_as_it_is():
    x, context = a_case("bd", 5)
    context = replace(context, labels=np.array([0, 1, 0, 2, 0]))
    found = hurt("same-class-swap", 1.0, x, context)
    np.testing.assert_array_equal((found == x).all(1), [False, True, False, True, False])


def test_a_donors_steps_fill_the_receivers_in_order_and_start_again():
    lengths = np.array([5, 2])
    x = np.array([[1, 2, 3, 4, 5, 0], [7, 8, 0, 0, 0, 0]], np.float32)[..., None]
    everyone = np.ones(2, np.bool_)
    context = Context("btd", x, np.arange(2), everyone, np.arange(2), lengths)
    found = hurt("swap", 1.0, x, context)
    np.testing.assert_array_equal(found[..., 0], [[7, 8, 7, 8, 7, 0], [1, 2, 0, 0, 0, 0]])
    stale = hurt("stale", 0.6, x, context)
    np.testing.assert_array_equal(stale[..., 0], [[7, 8, 7, 4, 5, 0], [1, 8, 0, 0, 0, 0]])


@pytest.mark.parametrize("layout", ["btd", "bdt", "bcthw", "bt"])
@pytest.mark.parametrize("share", KINDS["stale"].severities)
def test_the_leading_steps_are_still_the_previous_instances(layout, share):
    x, context = a_case(layout)
    steps = x.shape[layout.index("t")]
    count = round(share * steps)
    after, before = (np.moveaxis(one, layout.index("t"), 1) for one in (hurt("stale", share, x, context), x))
    np.testing.assert_array_equal(after[:, :count], np.roll(before, 1, 0)[:, :count])
    np.testing.assert_array_equal(after[:, count:], before[:, count:])


@pytest.mark.parametrize("share", KINDS["stale"].severities)
def test_without_steps_a_share_of_the_features_is_still_the_previous_instances(share):
    x, context = a_case("bd")
    found = hurt("stale", share, x, context)
    stale = found != x
    assert (stale.sum(1) == round(share * 10)).all()
    np.testing.assert_array_equal(found, np.where(stale, np.roll(x, 1, 0), x))


def test_a_waveform_of_a_single_sample_is_all_the_previous_instances():
    x = np.arange(5, dtype=np.float32)[:, None]
    context = Context("bt", x, np.arange(5), np.ones(5, np.bool_), np.zeros(5, np.int64))
    np.testing.assert_array_equal(hurt("stale", 0.2, x, context), np.roll(x, 1, 0))


def test_the_previous_instance_is_the_last_one_that_has_the_modality():
    x, context = a_case("bd", 6)
    donors = np.array([False, True, True, False, True, False])
    rows = np.array([1, 2, 4])
    found = hurt("stale", 1.0, x[rows], replace(context, donors=donors, rows=rows))
    np.testing.assert_array_equal(found, x[[4, 1, 2]])


def test_a_modality_that_nobody_has_is_left_alone_by_the_lag():
    x, context = a_case("bd", 6)
    np.testing.assert_array_equal(hurt("stale", 1.0, x, replace(context, donors=np.zeros(6, np.bool_))), x)

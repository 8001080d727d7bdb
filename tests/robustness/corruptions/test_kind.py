"""Contexts, what fits them, axes, shares and donors, against loops; checks of every kind are in test_kinds.py."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from concordant.errors import UsageError
from concordant.robustness.corruptions import KINDS
from concordant.robustness.corruptions.kind import (
    NO_DONOR,
    Context,
    always,
    choose,
    filled,
    has_features,
    has_pixels,
    has_steps,
    how_many,
    is_wave,
    lowest,
    over_instances,
    over_steps,
    size,
    steps_back,
    steps_first,
    stretch,
    valid_steps,
)


def context(**changes):
    x = np.zeros((4, 6, 2), np.float32)
    known = {
        "layout": "btd",
        "everything": x,
        "rows": np.array([0, 3]),
        "donors": np.ones(4, np.bool_),
        "labels": np.zeros(4, np.int64),
        "lengths": np.array([0, 1, 5, 6]),
    }
    return Context(**{**known, **changes})


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"rows": np.array([0, 4])}, "rows must lie between 0 and 3; found 4"),
        ({"rows": np.array([-1, 0])}, "rows must lie between 0 and 3; found -1"),
        ({"lengths": np.array([7, 2, 0, 0])}, "lengths must lie between 0 and 6; found 7"),
        (
            {"rows": np.array([0, 7]), "lengths": np.array([1, 2, -2, 99])},
            "rows must lie between 0 and 3; found 7; lengths must lie between 0 and 6; found -2",
        ),
        ({"rows": np.array([9, 9]), "donors": np.ones(1, np.bool_)}, "donors must have shape (4,); found (1,)"),
    ],
)
def test_rows_and_lengths_that_are_not_there_are_refused(changes, text):
    with pytest.raises(UsageError) as caught:
        context(**changes)
    assert str(caught.value) == text


def test_a_split_may_be_empty():
    nothing = np.zeros(0, np.int64)
    assert len(context(rows=nothing).rows) == 0
    fields = dict.fromkeys(("rows", "labels", "lengths"), nothing)
    assert len(context(everything=np.zeros((0, 6, 2)), donors=nothing == 1, **fields).everything) == 0


shapes = st.sampled_from(["bd", "btd", "bdt", "bchw", "bcthw", "bt"]).flatmap(
    lambda layout: st.tuples(st.just(layout), st.tuples(*[st.integers(0, 2) for _ in layout]))
)


@given(shapes)
def test_what_fits_follows_from_the_axes(case):
    layout, shape = case
    axes = dict(zip(layout, shape, strict=True))
    assert [size(layout, shape, letter) for letter in "btdchw"] == [axes.get(letter, 0) for letter in "btdchw"]
    assert has_features(layout, shape) == (max(axes.get("d", 0), axes.get("c", 0)) >= 1)
    assert has_steps(layout, shape) == (axes.get("t", 0) >= 2)
    assert has_pixels(layout, shape) == (min(axes.get("h", 0), axes.get("w", 0)) >= 2)
    assert is_wave(layout, shape) == (set(axes) == {"b", "t"} and axes["t"] >= 2)
    assert always(layout, shape) == (np.zeros(shape[1:]).size > 0)


SIZES = {"b": 3, "t": 4, "d": 2, "c": 2, "h": 2, "w": 5}
every_layout = pytest.mark.parametrize("layout", ["btd", "bdt", "bcthw", "bt"])
below_one = st.floats(0, 1, exclude_max=True)


def values(layout, dtype=np.float32):
    shape = [SIZES[letter] for letter in layout]
    return np.arange(np.prod(shape)).reshape(shape).astype(dtype)


def whole(x, layout, lengths=None, donors=None):
    """Return the context of a split of which all instances are changed."""
    count = len(x)
    donors = np.ones(count, np.bool_) if donors is None else donors
    return Context(layout, x, np.arange(count), donors, np.zeros(count, np.int64), lengths)


@every_layout
def test_steps_are_brought_to_the_front_and_back(layout):
    x = values(layout)
    first = steps_first(x, layout)
    for step in range(4):
        np.testing.assert_array_equal(first[:, step], x.take(step, layout.index("t")))
    np.testing.assert_array_equal(steps_back(first, layout), x)


@every_layout
def test_a_value_a_step_and_a_value_an_instance_broadcast(layout):
    x, steps, instances = values(layout), np.random.default_rng(0).random((3, 4)), np.arange(3.0)
    for place in np.ndindex(x.shape):
        where = dict(zip(layout, place, strict=True))
        assert np.broadcast_to(over_steps(steps, layout), x.shape)[place] == steps[where["b"], where["t"]]
        assert np.broadcast_to(over_instances(instances, layout), x.shape)[place] == where["b"]


@every_layout
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("lengths", [None, np.array([0, 2, 4])])
def test_what_is_finished_is_single_precision_with_padding_as_it_was(layout, dtype, lengths):
    x = values(layout, dtype)
    kind = replace(KINDS["clipping"], function=lambda *_: np.float64(-1))
    found = kind.apply(x, 1.0, whole(x, layout, lengths), np.random.default_rng(0))
    assert found.dtype == np.float32
    assert found.flags.writeable
    first, before = steps_first(found, layout), steps_first(x, layout)
    for row, length in enumerate([4, 4, 4] if lengths is None else lengths):
        assert (first[row, :length] == -1).all()
        np.testing.assert_array_equal(first[row, length:], before[row, length:])


@pytest.mark.parametrize("name", [name for name in KINDS if KINDS[name].fits("btd", (3, 4, 2))])
def test_kinds_give_single_precision_whatever_they_get(name):
    x = np.random.default_rng(0).standard_normal((3, 4, 2))
    lengths = np.array([4, 3, 4])
    context = Context("btd", x, np.arange(3), np.ones(3, np.bool_), np.arange(3), lengths)
    assert KINDS[name].apply(x, KINDS[name].severities[2], context, np.random.default_rng(1)).dtype == np.float32


def test_all_steps_are_valid_where_no_lengths_are_given():
    x = values("bdt")
    np.testing.assert_array_equal(whole(x, "bdt", None).lengths_of(), [4, 4, 4])
    some = whole(x, "bdt", np.array([0, 1, 4]))
    np.testing.assert_array_equal(some.lengths_of(), [0, 1, 4])
    np.testing.assert_array_equal(some.lengths_of(np.array([2, 0])), [4, 0])
    np.testing.assert_array_equal(valid_steps(np.array([0, 1, 4]), 4).sum(1), [0, 1, 4])


@given(st.floats(0, 1), st.lists(st.integers(0, 50), min_size=1), st.integers(0, 3))
def test_a_share_is_rounded_at_least_so_many_and_at_most_all(share, of, least):
    found = how_many(share, np.array(of), least)
    assert found.tolist() == [min(max(round(share * count), least), count) for count in of]


@given(st.lists(st.sampled_from([0.0, 0.25, 0.5, 0.75]), min_size=5, max_size=5), st.integers(0, 5), st.integers(0, 5))
def test_higher_counts_choose_more_and_all_that_lower_ones_do(drawn, few, many):
    few, many = sorted((few, many))
    one, two = (lowest(np.array([drawn, drawn[::-1]]), np.array([few, count])) for count in (few, many))
    assert one.sum(1).tolist() == [few, few]
    assert two.sum(1).tolist() == [few, many]
    assert not (one & ~two).any()
    assert sorted(np.array(drawn)[one[0]]) == sorted(drawn)[:few]  # the lowest, ties included


@given(below_one | st.just(np.nextafter(1, 0)), st.integers(1, 10**6), st.data())
def test_a_longer_stretch_contains_the_shorter_one_and_both_lie_within(drawn, of, data):
    short, long = sorted(data.draw(st.tuples(st.integers(0, of), st.integers(0, of))))
    first, second = (int(stretch(np.array([drawn]), np.array([count]), np.array([of]))[0]) for count in (short, long))
    assert 0 <= second <= first
    assert first + short <= second + long <= of


rows = st.sets(st.integers(0, 9), max_size=10).map(lambda chosen: np.array(sorted(chosen), np.int64))


@given(rows, rows, st.integers(0, 9), st.booleans())
def test_a_donor_is_any_of_the_pool_but_the_receiver(pool, receivers, seed, by_steps):
    drawn = np.random.default_rng(seed).random((len(receivers), 3) if by_steps else len(receivers))
    found = choose(pool, receivers, drawn)
    assert found.shape == drawn.shape
    assert found.dtype == np.int64
    flat, chosen = (x if by_steps else x[:, None] for x in (drawn, found))
    for receiver, own, given_to in zip(receivers, flat, chosen, strict=True):
        others = [row for row in pool if row != receiver]
        assert given_to.tolist() == [others[int(u * len(others))] if others else NO_DONOR for u in own]


@pytest.mark.parametrize("count", [2, 3, 7, 1000, 65537])
def test_the_highest_draw_still_finds_the_last_of_the_pool(count):
    pool, highest = np.arange(count), np.nextafter(1, 0)
    found = choose(pool, np.array([0, count - 1, count]), np.full(3, highest))
    assert found.tolist() == [count - 1, count - 2, count - 1]


def test_a_donor_has_the_modality_and_a_valid_step_of_it():
    x, donors = np.zeros((4, 3, 1), np.float32), np.array([True, True, False, False])
    assert whole(x, "btd", np.array([0, 1, 0, 2]), donors).able().tolist() == [False, True, False, False]
    assert whole(x, "btd", None, donors).able().tolist() == donors.tolist()


@pytest.mark.parametrize("layout", ["btd", "bdt", "bt", "bcthw"])
@pytest.mark.parametrize("lengths", [None, np.array([5, 2, 1, 0])])
def test_donor_steps_go_on_from_the_first_when_they_run_out(layout, lengths):
    sizes = {"b": 4, "t": 5, "d": 2, "c": 1, "h": 2, "w": 3}
    x = np.random.default_rng(0).standard_normal([sizes[letter] for letter in layout]).astype(np.float32)
    donors, axis = np.array([2, 0, 1, 1, 0]), layout.index("t")
    found = filled(donors, whole(x, layout, lengths))
    for row, donor in enumerate(donors):
        length = 5 if lengths is None else lengths[donor]
        for step in range(5):
            expected = x[donor].take(step % length, axis - 1)
            np.testing.assert_array_equal(found[row].take(step, axis - 1), expected)


def test_without_steps_the_donor_s_values_are_taken():
    x = np.arange(6, dtype=np.float32).reshape(3, 2)
    np.testing.assert_array_equal(filled(np.array([2, 0, 2]), whole(x, "bd")), x[[2, 0, 2]])


def test_the_single_strength_of_a_run_takes_steps_unchanged():
    x, lengths = np.random.default_rng(0).standard_normal((3, 4, 2)).astype(np.float32), np.array([4, 1, 2])
    plain = replace(whole(x, "btd", lengths), nested=False)
    np.testing.assert_array_equal(filled(np.array([1, 0, 2]), plain), x[[1, 0, 2]])

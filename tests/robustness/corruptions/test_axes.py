"""Steps, lengths and shares in every layout, against loops."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from concordant.robustness.corruptions import KINDS
from concordant.robustness.corruptions.axes import (
    finished,
    how_many,
    lengths_of,
    lowest,
    over_instances,
    over_steps,
    steps_back,
    steps_first,
    stretch,
    valid_steps,
)
from concordant.robustness.corruptions.kind import Site

SIZES = {"b": 3, "t": 4, "d": 2, "c": 2, "h": 2, "w": 5}
every_layout = pytest.mark.parametrize("layout", ["btd", "bdt", "bcthw", "bt"])
below_one = st.floats(0, 1, exclude_max=True)


def values(layout, dtype=np.float32):
    shape = [SIZES[letter] for letter in layout]
    return np.arange(np.prod(shape)).reshape(shape).astype(dtype)


def site_of(x, layout, lengths):
    count = len(x)
    return Site(layout, x, np.arange(count), np.ones(count, np.bool_), np.zeros(count, np.int64), lengths)


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
    found = finished(np.float64(-1), x, site_of(x, layout, lengths))
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
    site = Site("btd", x, np.arange(3), np.ones(3, np.bool_), np.arange(3), lengths, lengths)
    assert KINDS[name].apply(x, KINDS[name].severities[2], site, np.random.default_rng(1)).dtype == np.float32


def test_all_steps_are_valid_where_no_lengths_are_given():
    x = values("bdt")
    np.testing.assert_array_equal(lengths_of(x, site_of(x, "bdt", None)), [4, 4, 4])
    np.testing.assert_array_equal(lengths_of(x, site_of(x, "bdt", np.array([0, 1, 4]))), [0, 1, 4])
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

"""Who gives, and how a donor's steps fill those of whoever takes them, against loops."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from concordant.robustness.corruptions.donors import NOBODY, able, choose, filled
from concordant.robustness.corruptions.kind import Site

rows = st.sets(st.integers(0, 9), max_size=10).map(lambda chosen: np.array(sorted(chosen), np.int64))


@given(rows, rows, st.integers(0, 9), st.booleans())
def test_a_donor_is_any_of_the_pool_but_the_taker(pool, takers, seed, by_steps):
    drawn = np.random.default_rng(seed).random((len(takers), 3) if by_steps else len(takers))
    found = choose(pool, takers, drawn)
    assert found.shape == drawn.shape
    assert found.dtype == np.int64
    flat, chosen = (x if by_steps else x[:, None] for x in (drawn, found))
    for taker, own, given_to in zip(takers, flat, chosen, strict=True):
        others = [row for row in pool if row != taker]
        assert given_to.tolist() == [others[int(u * len(others))] if others else NOBODY for u in own]


@pytest.mark.parametrize("count", [2, 3, 7, 1000, 65537])
def test_the_highest_draw_still_finds_the_last_of_the_pool(count):
    pool, highest = np.arange(count), np.nextafter(1, 0)
    found = choose(pool, np.array([0, count - 1, count]), np.full(3, highest))
    assert found.tolist() == [count - 1, count - 2, count - 1]


def site(layout, x, lengths=None, donors=None):
    count = len(x)
    donors = np.ones(count, np.bool_) if donors is None else donors
    own = None if lengths is None else lengths
    return Site(layout, x, np.arange(count), donors, np.zeros(count, np.int64), own, lengths)


def test_whoever_has_the_modality_and_a_step_of_it_is_able():
    x, donors = np.zeros((4, 3, 1), np.float32), np.array([True, True, False, False])
    assert able(site("btd", x, np.array([0, 1, 0, 2]), donors)).tolist() == [False, True, False, False]
    assert able(site("btd", x, None, donors)).tolist() == donors.tolist()


@pytest.mark.parametrize("layout", ["btd", "bdt", "bt", "bcthw"])
@pytest.mark.parametrize("lengths", [None, np.array([5, 2, 1, 0])])
def test_steps_go_on_from_the_first_when_they_run_out(layout, lengths):
    sizes = {"b": 4, "t": 5, "d": 2, "c": 1, "h": 2, "w": 3}
    x = np.random.default_rng(0).standard_normal([sizes[letter] for letter in layout]).astype(np.float32)
    donors, axis = np.array([2, 0, 1, 1, 0]), layout.index("t")
    found = filled(donors, site(layout, x, lengths))
    for row, donor in enumerate(donors):
        length = 5 if lengths is None else lengths[donor]
        for step in range(5):
            expected = x[donor].take(step % length, axis - 1)
            np.testing.assert_array_equal(found[row].take(step, axis - 1), expected)


def test_without_steps_the_donor_s_values_are_taken():
    x = np.arange(6, dtype=np.float32).reshape(3, 2)
    np.testing.assert_array_equal(filled(np.array([2, 0, 2]), site("bd", x)), x[[2, 0, 2]])

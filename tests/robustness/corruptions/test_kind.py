"""Where corruption happens, and what fits there; every kind's own checks are in test_kinds.py."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from concordant.errors import UsageError
from concordant.robustness.corruptions.kind import Site, always, has_features, has_pixels, has_steps, is_wave, size


def site(**changes):
    x = np.zeros((4, 6, 2), np.float32)
    known = {
        "layout": "btd",
        "everything": x,
        "rows": np.array([0, 3]),
        "donors": np.ones(4, np.bool_),
        "labels": np.zeros(4, np.int64),
        "lengths": np.array([0, 6]),
        "all_lengths": np.array([0, 1, 5, 6]),
    }
    return Site(**{**known, **changes})


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"rows": np.array([0, 4])}, "rows must lie between 0 and 3; found 4"),
        ({"rows": np.array([-1, 0])}, "rows must lie between 0 and 3; found -1"),
        ({"lengths": np.array([7, 2])}, "lengths must lie between 0 and 6; found 7"),
        (
            {"lengths": np.array([2, -2]), "all_lengths": np.array([1, 2, 3, 99])},
            "lengths must lie between 0 and 6; found -2; all_lengths must lie between 0 and 6; found 99",
        ),
        ({"rows": np.array([9, 9]), "donors": np.ones(1, np.bool_)}, "donors must have shape (4,); found (1,)"),
    ],
)
def test_rows_and_lengths_that_are_not_there_are_refused(changes, text):
    with pytest.raises(UsageError) as caught:
        site(**changes)
    assert str(caught.value) == text


def test_a_part_may_have_nothing():
    nothing = np.zeros(0, np.int64)
    assert len(site(rows=nothing, lengths=nothing).rows) == 0
    fields = dict.fromkeys(("rows", "labels", "lengths", "all_lengths"), nothing)
    assert len(site(everything=np.zeros((0, 6, 2)), donors=nothing == 1, **fields).everything) == 0


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

import re
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from concordant.errors import UsageError
from concordant.robustness.corruptions import KINDS, Context

LAYOUTS = {"btd": (3,), "bdt": (3,), "bcthw": (2, 2, 2), "bt": ()}
every_layout = pytest.mark.parametrize("layout", LAYOUTS)


def a_case(layout="btd", count=20, steps=20, lengths=None):
    """Return values whose first entry at step t of instance i is 1000 i + t + 1; 0 beyond the lengths."""
    number = (1000 * np.arange(count)[:, None] + np.arange(steps) + 1).astype(np.float32)
    if lengths is not None:
        number = np.where(np.arange(steps) < lengths[:, None], number, 0).astype(np.float32)
    shape = [{"b": count, "t": steps}.get(letter, 1) for letter in layout]
    full = [{"b": count, "t": steps, "c": 2, "h": 2, "w": 2, "d": 3}[letter] for letter in layout]
    x = np.broadcast_to(number.reshape(shape), full).copy()
    everyone = np.ones(count, np.bool_)
    return x, Context(layout, x, np.arange(count), everyone, np.arange(count) % 2, lengths)


def hurt(name, severity, x, context, seed=3):
    return KINDS[name].apply(x, severity, context, np.random.default_rng(seed))


def seen(x, layout):
    """Return the number at each step, (n, T), the same at all its features."""
    flat = np.moveaxis(x, layout.index("t"), 1).reshape(*(x.shape[0], x.shape[layout.index("t")], -1))
    np.testing.assert_array_equal(flat, flat[:, :, :1] * np.ones_like(flat))
    return flat[:, :, 0]


def one_stretch(mask):
    """Return the beginnings and lengths of the one stretch of True in every row."""
    edges = np.diff(np.pad(mask.astype(int), ((0, 0), (1, 1))), axis=1)
    assert ((edges == 1).sum(1) == 1).all()
    return edges.argmax(1), mask.sum(1)


@every_layout
@pytest.mark.parametrize("severity", KINDS["time-masking"].severities)
def test_one_stretch_of_the_stated_share_is_zero(layout, severity):
    x, context = a_case(layout)
    found = seen(hurt("time-masking", severity, x, context), layout)
    begin, length = one_stretch(found == 0)
    assert (length == round(severity * 20)).all()
    assert len(set(begin)) > 1
    np.testing.assert_array_equal(found[found != 0], seen(x, layout)[found != 0])


@pytest.mark.parametrize("severity", KINDS["time-masking"].severities)
def test_a_stretch_begins_wherever_it_fits_with_equal_chance(severity):
    x, context = a_case(count=4000)
    begin, length = one_stretch(seen(hurt("time-masking", severity, x, context), "btd") == 0)
    places = 20 - length[0] + 1
    np.testing.assert_allclose(np.bincount(begin) / 4000, np.full(places, 1 / places), atol=0.03)


@pytest.mark.parametrize("name", ["time-masking", "freeze", "token-replacement"])
def test_a_milder_severity_hits_some_of_the_same_steps(name):
    x, context = a_case(count=200)
    hits = [seen(hurt(name, severity, x, context) != x, "btd") for severity in KINDS[name].severities]
    for mild, severe in pairwise(hits):
        if name == "freeze":  # the first step of a longer stretch is an earlier one, and the same as before
            assert (severe.sum(1) > mild.sum(1)).all()
        else:
            assert (severe | ~mild).all()


@every_layout
@pytest.mark.parametrize("severity", KINDS["misalignment"].severities)
def test_a_misaligned_modality_is_rolled_either_way(layout, severity):
    x, context = a_case(layout)
    found, axis, shift = hurt("misalignment", severity, x, context), layout.index("t") - 1, round(severity * 20)
    ways = set()
    for one, original in zip(found, x, strict=True):
        same = [way for way in (1, -1) if np.array_equal(one, np.roll(original, way * shift, axis))]
        assert same
        ways.update(same)
    assert ways == {1, -1}


@pytest.mark.parametrize("severity", [0.1, 0.35])
def test_padded_sequences_are_rolled_within_their_valid_steps(severity):
    lengths = np.arange(20) + 1
    x, context = a_case(lengths=lengths)
    found = hurt("misalignment", severity, x, context)
    for one, original, length in zip(found, x, lengths, strict=True):
        shift = max(1, round(severity * length))
        ways = [np.roll(original[:length], way * shift, 0) for way in (1, -1)]
        assert any(np.array_equal(one[:length], way) for way in ways)


@every_layout
@pytest.mark.parametrize("severity", KINDS["freeze"].severities)
def test_a_frozen_stretch_repeats_its_first_step(layout, severity):
    x, context = a_case(layout)
    before, after = seen(x, layout), seen(hurt("freeze", severity, x, context), layout)
    still, length = one_stretch(after != before)  # the first step of the stretch is what it was
    assert (length == round(severity * 20) - 1).all()
    for row, (begin, count) in enumerate(zip(still, length, strict=True)):
        assert (after[row, begin - 1 : begin + count] == before[row, begin - 1]).all()


@every_layout
@pytest.mark.parametrize("severity", KINDS["token-replacement"].severities)
def test_replaced_tokens_come_from_other_instances(layout, severity):
    x, context = a_case(layout)
    before, after = seen(x, layout), seen(hurt("token-replacement", severity, x, context), layout)
    foreign = after != before
    assert (foreign.sum(1) == round(severity * 20)).all()
    givers = (after[foreign] // 1000).astype(int)
    assert (givers != np.broadcast_to(np.arange(20)[:, None], foreign.shape)[foreign]).all()
    assert len(set(givers)) > 10
    assert set(after[foreign]) <= set(before.ravel())


def test_replaced_tokens_come_from_valid_steps_of_those_that_have_the_modality():
    lengths = np.arange(20) % 6 + 1
    x, context = a_case(lengths=lengths)
    donors = np.arange(20) % 3 > 0
    everything = np.where(donors[:, None, None], x, -1).astype(np.float32)  # whoever lacks it must give nothing
    found = hurt("token-replacement", 0.9, x, replace(context, everything=everything, donors=donors))
    valid = np.arange(20) < lengths[:, None]
    assert (found[valid] > 0).all()
    assert not found[~valid].any()


def test_replaced_tokens_need_another_instance():
    x, context = a_case(count=3)
    text = "token-replacement needs two test instances that have the modality; found no other one"
    with pytest.raises(UsageError, match=re.escape(text)):
        hurt("token-replacement", 0.5, x, replace(context, donors=np.zeros(3, np.bool_)))
    alone = replace(context, donors=np.array([True, False, False]), rows=np.array([0]))
    with pytest.raises(UsageError, match=re.escape(text)):
        hurt("token-replacement", 0.5, x[:1], alone)


@pytest.mark.parametrize("severity", KINDS["time-masking"].severities)
def test_shares_are_shares_of_the_valid_steps(severity):
    lengths = np.arange(20) + 1
    x, context = a_case(lengths=lengths)
    masked = seen(hurt("time-masking", severity, x, context), "btd")
    gone = ((masked == 0) & (np.arange(20) < lengths[:, None])).sum(1)
    np.testing.assert_array_equal(gone, [max(1, round(severity * length)) for length in lengths.tolist()])

"""What holds for every kind of corruption, whatever it does."""

import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from concordant.calibration.perturbation import Perturbation
from concordant.errors import UsageError
from concordant.robustness.corruptions import GROUPS, KINDS, SEVERITIES, Context, Kind
from concordant.robustness.corruptions.kind import always

SHAPES = {"bd": (7,), "btd": (9, 4), "bdt": (4, 9), "bchw": (2, 10, 8), "bcthw": (1, 5, 9, 8), "bt": (600,)}
every_kind = pytest.mark.parametrize("name", KINDS)
MONOTONE = [name for name in KINDS if name != "misalignment"]  # all moves of independent steps are equally far


def padded(x, layout, lengths):
    steps = x.shape[layout.index("t")]
    shape = [len(x) if axis == "b" else steps if axis == "t" else 1 for axis in layout]
    return np.where((np.arange(steps) < lengths[:, None]).reshape(shape), x, np.float32(0))


def a_case(layout, count=12, *, seed=0, chosen=None, ragged=False, shape=None):
    """Return values (n, ...) and their context in a split of `count` instances with three classes."""
    draws = np.random.default_rng(seed)
    x = draws.standard_normal((count, *(shape or SHAPES[layout]))).astype(np.float32)
    rows = np.arange(count) if chosen is None else np.sort(draws.choice(count, chosen, replace=False))
    context = Context(layout, x, rows, np.ones(count, np.bool_), np.arange(count) % 3, rate=100.0)
    if ragged:
        lengths = draws.integers(1, x.shape[layout.index("t")] + 1, count)
        x = padded(x, layout, lengths)
        context = replace(context, everything=x, lengths=lengths)
    return x[rows], context


def hurt(name, severity, x, context, seed=5):
    return KINDS[name].apply(x, severity, context, np.random.default_rng(seed))


def layouts_of(name):
    return [layout for layout, shape in SHAPES.items() if KINDS[name].fits(layout, (12, *shape))]


@st.composite
def cases(draw, name):
    layout = draw(st.sampled_from(layouts_of(name)))
    low = 2 if KINDS[name].group in ("image", "audio", "time") else 1
    sizes = {"c": st.integers(1, 3), "d": st.integers(1, 6), "h": st.integers(low, 12), "w": st.integers(low, 12)}
    sizes["t"] = st.integers(low, 300) if layout == "bt" else st.integers(low, 6)
    shape = tuple(draw(sizes[letter]) for letter in layout[1:])
    count = draw(st.integers(3, 7))
    ragged = "t" in layout and draw(st.booleans())
    chosen = draw(st.integers(0, count))
    x, context = a_case(layout, count, seed=draw(st.integers(0, 99)), chosen=chosen, ragged=ragged, shape=shape)
    return x, context, draw(st.integers(0, SEVERITIES - 1))


@every_kind
@settings(deadline=None, max_examples=15)
@given(data=st.data())
def test_values_of_any_shape_come_back_new_finite_and_the_same_for_the_same_seed(name, data):
    x, context, level = data.draw(cases(name))
    kind = KINDS[name]
    assert kind.fits(context.layout, context.everything.shape)
    before, everything = x.copy(), context.everything.copy()
    x.flags.writeable = context.everything.flags.writeable = False  # not even for a moment
    found = hurt(name, kind.severities[level], x, context)
    assert found.shape == x.shape
    assert found.dtype == np.float32
    assert np.isfinite(found).all()
    assert not np.shares_memory(found, x)
    assert not np.shares_memory(found, context.everything)
    np.testing.assert_array_equal(x, before)
    np.testing.assert_array_equal(context.everything, everything)
    np.testing.assert_array_equal(found, hurt(name, kind.severities[level], x, context))
    if context.lengths is not None:
        np.testing.assert_array_equal(found, padded(found, context.layout, context.lengths[context.rows]))


@pytest.mark.parametrize(
    ("name", "layout"), [(name, layout) for name in KINDS for layout in layouts_of(name) if "t" in layout]
)
def test_padding_stays_as_it_is_even_where_it_is_not_zero(name, layout):
    x, context = a_case(layout, ragged=True)
    here = padded(np.ones_like(x), layout, context.lengths) == 1
    x = np.where(here, x, np.float32(7))
    for severity in KINDS[name].severities:
        found = hurt(name, severity, x, context)
        assert (found[~here] == 7).all()


@pytest.mark.parametrize(("name", "layout"), [(name, layout) for name in KINDS for layout in layouts_of(name)])
def test_every_severity_changes_every_modality_that_a_kind_fits(name, layout):
    x, context = a_case(layout, 60)
    for severity in KINDS[name].severities:
        found = hurt(name, severity, x, context)
        changed = (found != x).reshape(len(x), -1).any(1)
        assert changed.mean() > 0.1  # at the mildest severity few values of an instance are hit


@pytest.mark.parametrize(("name", "layout"), [(name, layout) for name in MONOTONE for layout in layouts_of(name)])
def test_a_more_severe_corruption_goes_farther(name, layout):
    x, context = a_case(layout, 90)
    far = [np.square(hurt(name, severity, x, context) - x).mean() for severity in KINDS[name].severities]
    assert far[0] > 0
    steps = np.diff(far)
    assert (steps >= 0).all(), far
    assert far[-1] > 1.5 * far[0]


@every_kind
def test_another_seed_gives_another_corruption_where_anything_is_drawn(name):
    layout = layouts_of(name)[0]
    x, context = a_case(layout, 30)
    fixed = name in {"scale-drift", "clipping", "quantisation", "blur", "jpeg", "band-limit"}
    steady = fixed or (name == "stale" and "t" in layout)
    severity = KINDS[name].severities[2]
    assert np.array_equal(hurt(name, severity, x, context, 1), hurt(name, severity, x, context, 2)) == steady


@every_kind
def test_nothing_comes_of_no_instances(name):
    for layout in layouts_of(name):
        x, context = a_case(layout, chosen=0)
        assert hurt(name, KINDS[name].severities[0], x, context).shape == x.shape


@pytest.mark.parametrize("name", ["time-masking", "misalignment", "freeze", "token-replacement", "stale", "dropouts"])
def test_an_instance_without_a_valid_step_is_left_alone(name):
    layout = layouts_of(name)[-1]
    x, context = a_case(layout, ragged=True)
    lengths = context.lengths.copy()
    lengths[3] = 0
    x = padded(x, layout, lengths)
    context = replace(context, everything=x, lengths=lengths)
    found = hurt(name, KINDS[name].severities[4], x, context)
    assert not found[3].any()
    assert (found[4] != x[4]).any()


def test_the_registry_holds_every_kind_with_what_a_report_says_of_it():
    assert len(KINDS) == 22
    for name in KINDS:
        kind = KINDS[name]
        assert kind.name == name
        assert kind.summary
        assert kind.unit
        assert len(set(kind.severities)) == SEVERITIES == 5
        assert list(kind.severities) in (sorted(kind.severities), sorted(kind.severities, reverse=True))
    assert {KINDS[name].group for name in KINDS} == set(GROUPS)
    assert {name for name in KINDS if KINDS[name].seen} == {
        "gaussian-noise",
        "dimension-replacement",
        "swap",
        "same-class-swap",
    }


@pytest.mark.parametrize(
    ("layout", "shape", "groups"),
    [
        ("bd", (5, 3), {"values", "instances"}),
        ("btd", (5, 4, 3), {"values", "instances", "time"}),
        ("bdt", (5, 3, 1), {"values", "instances"}),
        ("bchw", (5, 1, 4, 4), {"values", "instances", "image"}),
        ("bchw", (5, 9, 1, 1), {"values", "instances"}),
        ("bcthw", (5, 1, 2, 4, 4), {"values", "instances", "image", "time"}),
        ("bt", (5, 80), {"instances", "time", "audio"}),
        ("bd", (5, 0), set()),
    ],
)
def test_a_kind_fits_the_modalities_that_have_what_it_changes(layout, shape, groups):
    assert {KINDS[name].group for name in KINDS if KINDS[name].fits(layout, shape)} == groups
    assert all(KINDS[name].fits(layout, shape) == (KINDS[name].group in groups) for name in KINDS)


def test_a_shape_without_the_batch_axis_is_refused():
    for name in KINDS:
        if KINDS[name].group == "audio":  # which looks no further than the layout
            continue
        with pytest.raises(UsageError, match=re.escape("layout 'btd' has 3 axes, batch first; found shape (4, 3)")):
            KINDS[name].fits("btd", (4, 3))


def test_an_unknown_kind_is_refused_with_the_choices():
    with pytest.raises(UsageError, match="unknown corruption 'smoke'; choose from: gaussian-noise, impulse, "):
        KINDS["smoke"]


def test_a_kind_needs_five_severities_and_a_known_group():
    def nothing(x, severity, context, draws):
        return x

    with pytest.raises(UsageError, match=re.escape("corruption 'a' needs 5 severities; found [1, 2]")):
        Kind("a", "b", "values", "c", (1, 2), always, nothing)
    text = "corruption 'a' must be of one of values, time, instances, image, audio; found 'smell'"
    with pytest.raises(UsageError, match=re.escape(text)):
        Kind("a", "b", "smell", "c", (1, 2, 3, 4, 5), always, nothing)


def test_a_context_names_all_that_does_not_belong_together():
    x, rows = np.zeros((6, 4, 3), np.float32), np.array([0, 2])
    with pytest.raises(UsageError) as caught:
        Context("tbd", x, rows, np.ones(5, np.bool_), np.zeros(6, np.int64), lengths=np.array([1, 2, 3]))
    assert str(caught.value) == (
        "layout must start with b and name the 3 axes of everything; found 'tbd' for shape (6, 4, 3); "
        "donors must have shape (6,); found (5,); lengths must have shape (6,); found (3,)"
    )
    with pytest.raises(UsageError, match="lengths is given, but layout 'bd' has no steps; leave it out"):
        Context("bd", x[:, 0], rows, np.ones(6, np.bool_), np.zeros(6, np.int64), lengths=np.arange(6))


@pytest.mark.parametrize(
    ("name", "perturbation", "ranges"),
    [
        ("gaussian-noise", "noise", Perturbation().strength),
        ("dimension-replacement", "dimensions", Perturbation().share),
    ],
)
def test_no_severity_lies_where_training_draws_its_strengths(name, perturbation, ranges):
    # A full swap is common to both, but a test swaps between classes (or, in the control, within one).
    assert perturbation in Perturbation().kinds
    assert KINDS[name].seen
    for severity in KINDS[name].severities:
        assert not any(low <= severity <= high for low, high in ranges)

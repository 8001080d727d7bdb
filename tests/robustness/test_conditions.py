"""What each condition changes, and that it changes nothing else."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from concordant.benchmarks.benchmark import Waves
from concordant.data.scaling import fit
from concordant.data.split import Split
from concordant.errors import UsageError
from concordant.robustness.conditions import (
    RUN,
    SplitContext,
    check_kinds,
    corrupt,
    corruption,
    oracle,
    presence,
    removal,
    run_conditions,
    stress_conditions,
    subset,
    thinned,
    victims,
)
from concordant.robustness.corruptions import KINDS
from concordant.robustness.own_data import as_split

LAYOUTS = {"v": "bd", "s": "btd", "m": "bchw", "i": "bchw", "f": "bcthw"}
SHAPES = {"v": (10,), "s": (6, 8), "m": (4, 3, 3), "i": (1, 8, 5), "f": (1, 4, 6, 5)}

every_kind = pytest.mark.parametrize("kind", RUN)


def a_split(count=60, *, names="vsmif", classes=3, seed=0, **more):
    draws = np.random.default_rng(seed)
    inputs = {name: draws.normal(size=(count, *SHAPES[name])).astype(np.float32) for name in names}
    return Split(inputs, np.arange(count) % classes, np.arange(count).astype(np.str_), None, **more)


def perturb(split, kind, seed=0, layouts=LAYOUTS):
    """Return a split under a corruption of `concordant run`, and where it was perturbed."""
    (condition,) = (one for one in run_conditions(split, layouts, seed) if one.name == f"corruption.{kind}")
    changed, perturbed = condition.change(split, None)
    return SimpleNamespace(split=changed, perturbed=perturbed, names=tuple(split.inputs))


def rows_of(found, name):
    return np.flatnonzero(found.perturbed[:, found.names.index(name)])


def same(first, second):
    return np.array([np.array_equal(a, b) for a, b in zip(first, second, strict=True)])


@every_kind
def test_one_modality_of_every_instance_is_perturbed_and_only_that_one_changes(kind):
    split = a_split()
    before = {name: x.copy() for name, x in split.inputs.items()}
    found = perturb(split, kind)
    assert (found.perturbed.sum(1) == 1).all()
    for column, name in enumerate(split.inputs):
        np.testing.assert_array_equal(split.inputs[name], before[name])
        np.testing.assert_array_equal(~same(found.split.inputs[name], before[name]), found.perturbed[:, column])
        assert found.split.inputs[name].dtype == np.float32
        assert found.split.inputs[name].shape == before[name].shape
    for field in ("labels", "ids", "groups", "masks", "present"):
        assert getattr(found.split, field) is getattr(split, field)


@every_kind
def test_every_modality_is_perturbed_as_often_as_the_others(kind):
    perturbed = perturb(a_split(3000, names="vs"), kind).perturbed
    np.testing.assert_allclose(perturbed.mean(0), 0.5, atol=0.04)


@every_kind
@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 999))
def test_absent_modalities_are_never_chosen(kind, seed):
    present = {name: np.random.default_rng([seed, i]).random(60) < 0.5 for i, name in enumerate("vs")}
    split = a_split(names="vsi", present=present)
    found = perturb(split, kind, seed)
    here = np.stack([present["v"], present["s"], np.ones(60, np.bool_)], 1)
    assert (found.perturbed.sum(1) == 1).all()
    assert not found.perturbed[~here].any()


@every_kind
def test_an_instance_without_any_modality_is_left_alone(kind):
    present = {name: np.arange(60) % 2 == 0 for name in "vs"}
    split = a_split(names="vs", present=present)
    found = perturb(split, kind)
    np.testing.assert_array_equal(found.perturbed.any(1), present["v"])
    for name, x in split.inputs.items():
        np.testing.assert_array_equal(found.split.inputs[name][1::2], x[1::2])


@every_kind
def test_victims_among_the_present_modalities_are_equally_likely(kind):
    present = {"v": np.zeros(3000, np.bool_)}
    perturbed = perturb(a_split(3000, names="vsi", present=present), kind).perturbed
    np.testing.assert_allclose(perturbed.mean(0), [0, 0.5, 0.5], atol=0.04)


@every_kind
def test_the_same_seed_gives_the_same_corruption(kind):
    found, again, other = (perturb(a_split(), kind, seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(found.perturbed, again.perturbed)
    for name, x in found.split.inputs.items():
        np.testing.assert_array_equal(x, again.split.inputs[name])
    assert (found.perturbed != other.perturbed).any()


@every_kind
def test_what_was_drawn_elsewhere_has_no_influence(kind):
    np.random.seed(0)  # noqa: NPY002 - the global stream must not matter
    found = perturb(a_split(), kind)
    np.random.seed(1)  # noqa: NPY002
    perturb(a_split(), "noise", 8)
    again = perturb(a_split(), kind)
    assert all(np.array_equal(x, again.split.inputs[name]) for name, x in found.split.inputs.items())


def test_other_kinds_have_other_victims():
    masks = [perturb(a_split(), kind).perturbed for kind in RUN]
    for number, first in enumerate(masks):
        assert all((first != other).any() for other in masks[number + 1 :])


@pytest.mark.parametrize("name", LAYOUTS)
def test_noise_adds_independent_values_with_standard_deviation_one_and_a_half(name):
    split = a_split(2000, names=name + ("v" if name != "v" else "s"))
    found = perturb(split, "noise")
    rows = rows_of(found, name)
    added = (found.split.inputs[name] - split.inputs[name])[rows].reshape(len(rows), -1)
    assert added.std() == pytest.approx(1.5, rel=0.03)
    assert added.mean() == pytest.approx(0, abs=0.05)
    between = np.corrcoef(added, rowvar=False)
    assert np.abs(between - np.eye(len(between))).max() < 0.2


@pytest.mark.parametrize(
    ("name", "features", "repeated"),
    [
        ("v", 10, ()),  # columns
        ("s", 8, (1,)),  # columns, at all steps
        ("m", 4, (2, 3)),  # channels, at all places
        ("i", 40, ()),  # pixels
        ("f", 30, (2,)),  # pixels, in all frames
    ],
)
def test_dimensions_replaces_half_of_the_features_wherever_they_repeat(name, features, repeated):
    split = a_split(400, names=name + ("v" if name != "v" else "s"))
    found = perturb(split, "dimensions")
    rows = rows_of(found, name)
    x, changed = split.inputs[name][rows], found.split.inputs[name][rows]
    replaced = x != changed
    if repeated:
        assert (replaced.all(repeated) == replaced.any(repeated)).all()
    chosen = (replaced.any(repeated) if repeated else replaced).reshape(len(rows), -1)
    assert chosen.shape[1] == features
    assert (chosen.sum(1) == features // 2).all()
    assert changed[replaced].std() == pytest.approx(3, rel=0.05)
    assert changed[replaced].mean() == pytest.approx(0, abs=0.2)
    assert np.abs(np.corrcoef(changed[replaced], x[replaced])[0, 1]) < 0.1
    np.testing.assert_allclose(chosen.mean(0), 0.5, atol=0.15)  # no feature is preferred
    assert len(np.unique(chosen, axis=0)) > 1


def test_dimensions_replaces_the_only_feature_of_a_modality_that_has_one():
    inputs = {name: np.zeros((40, 1), np.float32) for name in "vw"}
    split = Split(inputs, np.zeros(40, np.int64), np.arange(40).astype(np.str_))
    found = perturb(split, "dimensions", layouts={"v": "bd", "w": "bd"})
    for column, name in enumerate("vw"):
        np.testing.assert_array_equal(found.split.inputs[name][:, 0] != 0, found.perturbed[:, column])


@pytest.mark.parametrize("name", LAYOUTS)
def test_swap_takes_the_modality_of_an_instance_of_another_class(name):
    split = a_split(names=name + ("v" if name != "v" else "s"))
    found = perturb(split, "swap")
    rows = rows_of(found, name)
    donors = []
    for row in rows:
        same_as = np.flatnonzero(
            same(split.inputs[name], np.broadcast_to(found.split.inputs[name][row], split.inputs[name].shape))
        )
        assert len(same_as) == 1
        assert split.labels[same_as[0]] != split.labels[row]
        donors.append(same_as[0])
    assert len(set(donors)) > len(rows) // 3


def test_swap_takes_nothing_from_instances_without_the_modality():
    split = a_split(200, names="vs", present={"v": np.arange(200) % 4 == 0})
    split.inputs["v"][np.arange(200) % 4 != 0] = 99
    found = perturb(split, "swap")
    assert len(rows_of(found, "v")) > 5
    assert (found.split.inputs["v"][rows_of(found, "v")] != 99).all()


@pytest.mark.parametrize("name", LAYOUTS)
def test_zero_leaves_zeros(name):
    split = a_split(names=name + ("v" if name != "v" else "s"))
    found = perturb(split, "zero")
    assert len(rows_of(found, name)) > 5
    assert not found.split.inputs[name][rows_of(found, name)].any()


@every_kind
@pytest.mark.parametrize(("name", "steps"), [("s", 6), ("f", 4)])
def test_padding_stays_zero(kind, name, steps):
    lengths = np.arange(60) % steps + 1
    mask = np.arange(steps) < lengths[:, None]
    split = a_split(names=name + "v", masks={name: mask})
    time = LAYOUTS[name].index("t")
    padding = ~mask.reshape([60 if axis == 0 else steps if axis == time else 1 for axis in range(len(LAYOUTS[name]))])
    split.inputs[name][np.broadcast_to(padding, split.inputs[name].shape)] = 0
    found = perturb(split, kind)
    x = found.split.inputs[name]
    assert not x[np.broadcast_to(padding, x.shape)].any()
    assert x.dtype == np.float32
    np.testing.assert_array_equal(~same(x, split.inputs[name]), found.perturbed[:, 0])


@pytest.mark.parametrize(
    ("labels", "present", "wanted"),
    [
        (np.arange(60) % 2, None, True),
        (np.zeros(60, np.int64), None, False),
        (np.linspace(-1, 1, 60, dtype=np.float32), None, True),
        (np.linspace(1, 5, 60, dtype=np.float32), None, False),
        (np.arange(60) % 2, np.arange(60) % 2 == 0, False),
        (np.arange(60) % 2, np.zeros(60, np.bool_), True),
    ],
)
def test_a_run_leaves_a_swap_out_that_cannot_be_measured(labels, present, wanted):
    split = replace(a_split(), labels=labels, present={} if present is None else {"v": present})
    names = [one.name for one in run_conditions(split, LAYOUTS, 0)]
    assert ("corruption.swap" in names) == wanted
    assert names[1:4:2] == ["corruption.noise", "corruption.swap" if wanted else "corruption.zero"]
    for one in run_conditions(split, LAYOUTS, 0):
        one.change(split, None)


def test_a_swap_needs_two_classes():
    with pytest.raises(UsageError, match="a swap needs test instances of two classes at least; found none"):
        corruption(KINDS["swap"], 5, ("v", "s"), SplitContext(LAYOUTS), 0).change(a_split(classes=1), None)


def test_a_removed_modality_is_absent_everywhere_and_its_values_are_gone():
    split = a_split(names="vs", present={"s": np.arange(60) % 2 == 0}, masks={"s": np.ones((60, 6), np.bool_)})
    before = split.inputs["v"].copy()
    without, perturbed = removal("v").change(split, None)
    assert not perturbed.any()
    assert not without.present["v"].any()
    assert without.present["v"].shape == (60,)
    assert without.present["s"] is split.present["s"]
    assert not without.inputs["v"].any()
    assert without.inputs["s"] is split.inputs["s"]
    assert without.masks is split.masks
    assert without.ids is split.ids
    assert without.labels is split.labels
    np.testing.assert_array_equal(split.inputs["v"], before)
    assert set(split.present) == {"s"}


def some_split(count=60, seed=0, **more):
    draws = np.random.default_rng(seed)
    x = {
        "v": draws.standard_normal((count, 6)),
        "s": draws.standard_normal((count, 10, 3)),
        "m": draws.standard_normal((count, 1, 8, 8)),
    }
    return as_split(x, np.arange(count) % 3, **more)


@given(st.integers(0, 1000))
@settings(max_examples=20)
def test_one_present_modality_of_every_instance_is_hit_where_two_are_there(seed):
    draws = np.random.default_rng(seed)
    present = {name: draws.random(60) < 0.7 for name in ("v", "m")}
    split = some_split(present=present)
    here = np.stack([present["v"], np.ones(60, bool), present["m"]], 1)
    perturbed = victims(split, ("v", "s", "m"), seed)
    assert not (perturbed & ~here).any()
    assert np.array_equal(perturbed.sum(1), (here.sum(1) > 1).astype(int))
    only = victims(split, ("m",), seed)
    assert np.array_equal(only.any(1), present["m"] & (here.sum(1) > 1))
    assert np.array_equal(victims(split, ("v", "s", "m"), seed), perturbed)


def test_what_is_not_hit_stays_as_it_is_and_padding_too():
    masks = {"s": np.arange(10) < np.random.default_rng(1).integers(3, 11, (60, 1))}
    split = some_split(masks=masks)
    split.inputs["s"][~masks["s"]] = 7.0  # whatever padding holds stays
    for name in KINDS:
        kind = KINDS[name]
        able = SplitContext(LAYOUTS).able(kind, split.shapes)
        if not able:
            assert kind.group == "audio"
            continue
        perturbed = victims(split, able, 0)
        found = corrupt(split, kind, kind.severities[-1], SplitContext(LAYOUTS), seed=0, perturbed=perturbed)[0]
        for column, modality in enumerate(split.inputs):
            before, after = split.inputs[modality], found.inputs[modality]
            assert np.array_equal(after[~perturbed[:, column]], before[~perturbed[:, column]]), name
            if modality in able and kind.name != "same-class-swap":
                assert not np.array_equal(after, before), name
        assert (found.inputs["s"][~masks["s"]] == 7.0).all(), name


def test_valid_steps_that_are_not_the_leading_ones_are_found():
    mask = np.zeros((60, 10), bool)
    mask[:, 4:9] = True
    split = some_split(masks={"s": mask})
    kind = KINDS["time-masking"]
    perturbed = victims(split, ("s",), 0)
    found = corrupt(split, kind, 0.9, SplitContext(LAYOUTS), seed=0, perturbed=perturbed)[0].inputs["s"]
    zero = (found == 0).all(2)
    assert not zero[~mask].any()
    assert (zero[:, 4:9].sum(1) >= 4).all()


def test_values_that_are_not_standardised_are_corrupted_in_their_own_units():
    split = some_split()
    wide = split.with_inputs({**split.inputs, "v": (split.inputs["v"] * 50 + 1000).astype(np.float32)})
    scales = {"v": fit(wide.inputs["v"], "bd")}
    perturbed = victims(split, ("v",), 0)
    kind = KINDS["gaussian-noise"]
    found = corrupt(wide, kind, 1.5, SplitContext(LAYOUTS, scales=scales), seed=0, perturbed=perturbed)[0].inputs["v"]
    moved = (found - wide.inputs["v"])[perturbed[:, 0]]
    # Noise is 1.5 standard deviations of each feature, which is about 75 here.
    assert moved.std() == pytest.approx(1.5 * wide.inputs["v"].std(0).mean(), rel=0.1)
    clipped = corrupt(wide, KINDS["clipping"], 0.25, SplitContext(LAYOUTS, scales=scales), seed=0, perturbed=perturbed)[
        0
    ]
    bound = scales["v"].mean + 0.25 * scales["v"].std
    assert (clipped.inputs["v"][perturbed[:, 0]] <= bound * (1 + 1e-5)).all()


def test_draws_are_the_same_at_every_severity_and_for_every_model():
    split = some_split()
    kind = KINDS["gaussian-noise"]
    perturbed = victims(split, ("v",), 3)
    low, high = (
        corrupt(split, kind, severity, SplitContext(LAYOUTS), seed=3, perturbed=perturbed)[0].inputs["v"]
        - split.inputs["v"]
        for severity in (0.25, 3.0)
    )
    assert high == pytest.approx(12 * low, abs=1e-4)


def test_image_kinds_leave_maps_alone_that_are_no_images():
    split = some_split()
    kind = KINDS["blur"]
    assert SplitContext(LAYOUTS).able(kind, split.shapes) == ("m",)
    assert SplitContext(LAYOUTS, {"m": "spectrogram"}).able(kind, split.shapes) == ()


def test_audio_kinds_change_the_waveform_behind_a_modality():
    split = some_split(count=6)
    waves = np.random.default_rng(2).standard_normal((6, 800)).astype(np.float32)

    def inputs(changed):
        return changed.reshape(-1, 8, 100).mean(2)[:, None, :, None].repeat(8, 3).astype(np.float32)

    signal = Waves(waves, np.full(6, 800), 8000.0, inputs)
    context = SplitContext(LAYOUTS, {"m": "spectrogram"}, signals={"m": signal})
    kind = KINDS["audio-noise"]
    assert context.able(kind, split.shapes) == ("m",)
    perturbed = victims(split, ("m",), 0)
    found = corrupt(split, kind, 0.0, context, seed=0, perturbed=perturbed)[0].inputs["m"]
    clean = inputs(waves)
    assert not np.allclose(found, clean)
    assert np.allclose(found, clean, atol=1.0)


def test_kinds_are_chosen_by_name():
    assert [kind.name for kind in check_kinds(["swap", "blur", "swap"])] == ["swap", "blur"]
    assert len(check_kinds(None)) == len(list(KINDS)) >= 12
    with pytest.raises(UsageError, match="unknown corruption 'fog', 'rain'; choose from: gaussian-noise"):
        check_kinds(["fog", "swap", "rain"])
    with pytest.raises(UsageError, match=r"unknown corruption \(none named\)"):
        check_kinds([])


@given(st.integers(0, 1000), st.integers(1, 5), st.floats(0, 0.95))
def test_thinning_leaves_one_and_is_nested(seed, modalities, rate):
    count = 40
    draws = np.random.default_rng(seed)
    x = {f"m{k}": draws.standard_normal((count, 2)) + 5 for k in range(modalities)}
    lacking = draws.random(count) < 0.2
    split = as_split(x, np.zeros(count, int), present={"m0": ~lacking})
    some, more = (thinned(chance, seed).change(split, None)[0] for chance in (rate / 2, rate))
    here = {which: presence(changed) for which, changed in (("some", some), ("more", more))}
    assert not (here["more"] & ~here["some"]).any()
    had = (~lacking | (modalities > 1)).sum()
    assert here["more"].any(1).sum() == had
    assert not here["more"][lacking, 0].any()
    for name in x:
        gone = ~more.present[name]
        assert (more.inputs[name][gone] == 0).all()
        assert np.array_equal(more.inputs[name][~gone], split.inputs[name][~gone])


def test_what_is_not_kept_is_absent_and_its_values_gone():
    split = as_split({"a": np.ones((3, 2)), "b": np.ones((3, 2))}, [0, 1, 0])
    kept, _ = subset(["a"]).change(split, None)
    assert not kept.present["b"].any()
    assert (kept.inputs["b"] == 0).all()
    assert "a" not in kept.present


def test_conditions_of_a_stress_test_are_named_and_each_oracle_stands_once():
    split = some_split()
    context = SplitContext(LAYOUTS)
    names = [one.name for one in stress_conditions(split, context, check_kinds(["swap", "blur", "impulse"]), 0)]
    kinds = [f"corruption.{kind}.{level}" for kind in ("swap", "blur", "impulse") for level in range(1, 6)]
    assert names == ["clean", *kinds, "oracle.v+s+m", "oracle.m"]
    few = [one.name for one in stress_conditions(split, context, check_kinds(["swap"]), 0, severities=(1, 5))]
    assert few == ["clean", "corruption.swap.1", "corruption.swap.5", "oracle.v+s+m"]


def test_an_oracle_gets_as_absent_what_the_corruption_perturbs():
    split, context = some_split(), SplitContext(LAYOUTS)
    _, perturbed = corruption(KINDS["swap"], 5, ("v", "s"), context, 4).change(split, None)
    shown, known = oracle(("v", "s"), 4).change(split, None)
    assert np.array_equal(known, perturbed)
    assert np.array_equal(presence(shown), ~perturbed)
    assert not shown.inputs["s"][perturbed[:, 1]].any()


def test_the_corruptions_of_a_run_are_kinds_of_the_registry_at_one_strength():
    split = a_split(names="vs")
    zero, context = perturb(split, "zero"), SplitContext(LAYOUTS)
    dropped, _ = corrupt(split, KINDS["dimension-dropout"], 1.0, context, seed=7, perturbed=zero.perturbed)
    for name in "vs":
        assert np.array_equal(zero.split.inputs[name], dropped.inputs[name])


def test_chunks_of_a_split_have_draws_of_their_own():
    split, context = some_split(), SplitContext(LAYOUTS)
    one = corruption(KINDS["gaussian-noise"], 5, ("v", "s", "m"), context, 0)
    first, second, again = (one.change(split, number) for number in (0, 1, 0))
    assert not np.array_equal(first[1], second[1])
    assert np.array_equal(first[0].inputs["v"], again[0].inputs["v"])

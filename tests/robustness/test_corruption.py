import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from concordant.data.split import Split
from concordant.errors import UsageError
from concordant.robustness.corruption import CORRUPTIONS, corrupt, remove

LAYOUTS = {"v": "bd", "s": "btd", "m": "bchw", "i": "bchw", "f": "bcthw"}
SHAPES = {"v": (10,), "s": (6, 8), "m": (4, 3, 3), "i": (1, 8, 5), "f": (1, 4, 6, 5)}

every_kind = pytest.mark.parametrize("kind", CORRUPTIONS)


def a_part(count=60, *, names="vsmif", classes=3, seed=0, **more):
    draws = np.random.default_rng(seed)
    inputs = {name: draws.normal(size=(count, *SHAPES[name])).astype(np.float32) for name in names}
    return Split(inputs, np.arange(count) % classes, np.arange(count).astype(np.str_), None, **more)


def hurt(part, kind, seed=0):
    return corrupt(part, kind, layouts=LAYOUTS, seed=seed)


def rows_of(corrupted, name):
    return np.flatnonzero(corrupted.hit[:, corrupted.names.index(name)])


def same(first, second):
    return np.array([np.array_equal(a, b) for a, b in zip(first, second, strict=True)])


@every_kind
def test_one_modality_of_every_instance_is_hit_and_only_that_one_changes(kind):
    part = a_part()
    before = {name: x.copy() for name, x in part.inputs.items()}
    found = hurt(part, kind)
    assert found.names == tuple(part.inputs)
    assert (found.hit.sum(1) == 1).all()
    for column, name in enumerate(found.names):
        np.testing.assert_array_equal(part.inputs[name], before[name])
        np.testing.assert_array_equal(~same(found.part.inputs[name], before[name]), found.hit[:, column])
        assert found.part.inputs[name].dtype == np.float32
        assert found.part.inputs[name].shape == before[name].shape
    for field in ("labels", "ids", "groups", "masks", "present"):
        assert getattr(found.part, field) is getattr(part, field)


@every_kind
def test_every_modality_is_hit_as_often_as_the_others(kind):
    hit = hurt(a_part(3000, names="vs"), kind).hit
    np.testing.assert_allclose(hit.mean(0), 0.5, atol=0.04)


@every_kind
@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 999))
def test_absent_modalities_are_never_chosen(kind, seed):
    present = {name: np.random.default_rng([seed, i]).random(60) < 0.5 for i, name in enumerate("vs")}
    part = a_part(names="vsi", present=present)
    found = hurt(part, kind, seed)
    here = np.stack([present["v"], present["s"], np.ones(60, np.bool_)], 1)
    assert (found.hit.sum(1) == 1).all()
    assert not found.hit[~here].any()


@every_kind
def test_an_instance_without_any_modality_is_left_alone(kind):
    present = {name: np.arange(60) % 2 == 0 for name in "vs"}
    part = a_part(names="vs", present=present)
    found = hurt(part, kind)
    np.testing.assert_array_equal(found.hit.any(1), present["v"])
    for name, x in part.inputs.items():
        np.testing.assert_array_equal(found.part.inputs[name][1::2], x[1::2])


@every_kind
def test_victims_among_the_present_modalities_are_equally_likely(kind):
    present = {"v": np.zeros(3000, np.bool_)}
    hit = hurt(a_part(3000, names="vsi", present=present), kind).hit
    np.testing.assert_allclose(hit.mean(0), [0, 0.5, 0.5], atol=0.04)


@every_kind
def test_the_same_seed_gives_the_same_corruption(kind):
    found, again, other = (hurt(a_part(), kind, seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(found.hit, again.hit)
    for name, x in found.part.inputs.items():
        np.testing.assert_array_equal(x, again.part.inputs[name])
    assert (found.hit != other.hit).any()


@every_kind
def test_what_was_drawn_elsewhere_has_no_influence(kind):
    np.random.seed(0)  # noqa: NPY002 - the global stream must not matter
    found = hurt(a_part(), kind)
    np.random.seed(1)  # noqa: NPY002
    hurt(a_part(), "noise", 8)
    again = hurt(a_part(), kind)
    assert all(np.array_equal(x, again.part.inputs[name]) for name, x in found.part.inputs.items())


def test_other_kinds_have_other_victims():
    hits = [hurt(a_part(), kind).hit for kind in CORRUPTIONS]
    for number, first in enumerate(hits):
        assert all((first != other).any() for other in hits[number + 1 :])


@pytest.mark.parametrize("name", LAYOUTS)
def test_noise_adds_independent_values_with_standard_deviation_one_and_a_half(name):
    part = a_part(2000, names=name + ("v" if name != "v" else "s"))
    found = hurt(part, "noise")
    rows = rows_of(found, name)
    added = (found.part.inputs[name] - part.inputs[name])[rows].reshape(len(rows), -1)
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
    part = a_part(400, names=name + ("v" if name != "v" else "s"))
    found = hurt(part, "dimensions")
    rows = rows_of(found, name)
    x, changed = part.inputs[name][rows], found.part.inputs[name][rows]
    touched = x != changed
    if repeated:
        assert (touched.all(repeated) == touched.any(repeated)).all()
    chosen = (touched.any(repeated) if repeated else touched).reshape(len(rows), -1)
    assert chosen.shape[1] == features
    assert (chosen.sum(1) == features // 2).all()
    assert changed[touched].std() == pytest.approx(3, rel=0.05)
    assert changed[touched].mean() == pytest.approx(0, abs=0.2)
    assert np.abs(np.corrcoef(changed[touched], x[touched])[0, 1]) < 0.1
    np.testing.assert_allclose(chosen.mean(0), 0.5, atol=0.15)  # no feature is preferred
    assert len(np.unique(chosen, axis=0)) > 1


def test_dimensions_replaces_the_only_feature_of_a_modality_that_has_one():
    inputs = {name: np.zeros((40, 1), np.float32) for name in "vw"}
    part = Split(inputs, np.zeros(40, np.int64), np.arange(40).astype(np.str_))
    found = corrupt(part, "dimensions", layouts={"v": "bd", "w": "bd"}, seed=0)
    for column, name in enumerate("vw"):
        np.testing.assert_array_equal(found.part.inputs[name][:, 0] != 0, found.hit[:, column])


@pytest.mark.parametrize("name", LAYOUTS)
def test_swap_takes_the_modality_of_an_instance_of_another_class(name):
    part = a_part(names=name + ("v" if name != "v" else "s"))
    found = hurt(part, "swap")
    rows = rows_of(found, name)
    donors = []
    for row in rows:
        same_as = np.flatnonzero(
            same(part.inputs[name], np.broadcast_to(found.part.inputs[name][row], part.inputs[name].shape))
        )
        assert len(same_as) == 1
        assert part.labels[same_as[0]] != part.labels[row]
        donors.append(same_as[0])
    assert len(set(donors)) > len(rows) // 3


def test_swap_takes_nothing_from_instances_without_the_modality():
    part = a_part(200, names="vs", present={"v": np.arange(200) % 4 == 0})
    part.inputs["v"][np.arange(200) % 4 != 0] = 99
    found = hurt(part, "swap")
    assert len(rows_of(found, "v")) > 5
    assert (found.part.inputs["v"][rows_of(found, "v")] != 99).all()


@pytest.mark.parametrize("name", LAYOUTS)
def test_zero_leaves_zeros(name):
    part = a_part(names=name + ("v" if name != "v" else "s"))
    found = hurt(part, "zero")
    assert len(rows_of(found, name)) > 5
    assert not found.part.inputs[name][rows_of(found, name)].any()


@every_kind
@pytest.mark.parametrize(("name", "steps"), [("s", 6), ("f", 4)])
def test_padding_stays_zero(kind, name, steps):
    lengths = np.arange(60) % steps + 1
    mask = np.arange(steps) < lengths[:, None]
    part = a_part(names=name + "v", masks={name: mask})
    time = LAYOUTS[name].index("t")
    padding = ~mask.reshape([60 if axis == 0 else steps if axis == time else 1 for axis in range(len(LAYOUTS[name]))])
    part.inputs[name][np.broadcast_to(padding, part.inputs[name].shape)] = 0
    found = hurt(part, kind)
    x = found.part.inputs[name]
    assert not x[np.broadcast_to(padding, x.shape)].any()
    assert x.dtype == np.float32
    np.testing.assert_array_equal(~same(x, part.inputs[name]), found.hit[:, 0])


def test_an_unknown_kind_is_refused_with_the_choices():
    text = "unknown corruption 'blur'; choose from: noise, dimensions, swap, zero"
    with pytest.raises(UsageError, match=re.escape(text)):
        hurt(a_part(), "blur")


def test_a_swap_needs_two_classes():
    with pytest.raises(UsageError, match="a swap needs test instances of two classes at least; found one class"):
        hurt(a_part(classes=1), "swap")


def test_a_removed_modality_is_absent_everywhere_and_its_values_are_gone():
    part = a_part(names="vs", present={"s": np.arange(60) % 2 == 0}, masks={"s": np.ones((60, 6), np.bool_)})
    before = part.inputs["v"].copy()
    without = remove(part, "v")
    assert not without.present["v"].any()
    assert without.present["v"].shape == (60,)
    assert without.present["s"] is part.present["s"]
    assert not without.inputs["v"].any()
    assert without.inputs["s"] is part.inputs["s"]
    assert without.masks is part.masks
    assert without.ids is part.ids
    assert without.labels is part.labels
    np.testing.assert_array_equal(part.inputs["v"], before)
    assert set(part.present) == {"s"}


def test_two_removals_add_up():
    without = remove(remove(a_part(names="vsi"), "v"), "i")
    assert not without.present["v"].any()
    assert not without.present["i"].any()
    assert without.inputs["s"].any()

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.preprocessing import StandardScaler

from concordant.data.scaling import CLIP, apply, fit
from concordant.data.split import Split, Task

SHAPES = {"bd": (12, 3), "btd": (12, 5, 3), "bchw": (12, 3, 4, 2), "bcthw": (12, 3, 5, 2, 4)}


def feature_axis(layout):
    return layout.index("c" if "c" in layout else "d")


def part(inputs, **more):
    count = len(next(iter(inputs.values())))
    return Split(inputs, np.zeros(count, np.int64), np.arange(count).astype(np.str_), **more)


def scaled_splits(*splits, layouts):
    task = Task((), layouts, *splits).scaled()
    return task.train, task.valid, task.test


@settings(deadline=None, max_examples=30)
@given(st.integers(2, 30), st.integers(1, 5), st.integers(0, 99))
def test_vectors_are_scaled_as_scikit_learn_does_and_then_cut(count, width, seed):
    draws = np.random.default_rng(seed)
    train, test = (draws.normal(3, 2, (n, width)).astype(np.float32) for n in (count, 9))
    test[0] *= 50
    reference = StandardScaler().fit(train)
    scale = fit(train, "bd")
    for x in (train, test):
        np.testing.assert_allclose(apply(scale, x, "bd"), reference.transform(x).clip(-6, 6), rtol=1e-4, atol=1e-5)


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 6), st.integers(1, 6), st.integers(1, 3), st.integers(0, 99))
def test_sequences_are_scaled_over_their_valid_steps(count, length, width, seed):
    draws = np.random.default_rng(seed)
    x = draws.normal(-1, 4, (count, length, width)).astype(np.float32)
    valid = draws.random((count, length)) < 0.6
    expected = np.zeros_like(x, dtype=np.float64)
    for d in range(width):
        seen = np.array([x[n, t, d] for n in range(count) for t in range(length) if valid[n, t]], np.float64)
        for n in range(count):
            for t in range(length):
                if valid[n, t] and len(seen) > 1:
                    expected[n, t, d] = np.clip((x[n, t, d] - seen.mean()) / seen.std(), -6, 6)
    spoilt = np.where(valid[..., None], x, np.nan)
    np.testing.assert_allclose(apply(fit(spoilt, "btd", valid), spoilt, "btd", valid), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("layout", SHAPES)
def test_every_feature_has_mean_0_and_standard_deviation_1_over_all_else(layout):
    x = np.random.default_rng(0).normal(5, 3, SHAPES[layout]).astype(np.float32)
    x *= np.arange(1, 4).reshape([3 if i == feature_axis(layout) else 1 for i in range(x.ndim)])
    scaled = apply(fit(x, layout), x, layout)
    rows = np.moveaxis(scaled, feature_axis(layout), 0).reshape(3, -1)
    np.testing.assert_allclose(rows.mean(1), 0, atol=1e-5)
    np.testing.assert_allclose(rows.std(1), 1, rtol=1e-5)
    assert scaled.dtype == np.float32
    assert scaled.shape == x.shape


@pytest.mark.parametrize("layout", SHAPES)
def test_absent_instances_do_not_count_and_are_zero(layout):
    x = np.random.default_rng(1).normal(2, 3, SHAPES[layout]).astype(np.float32)
    here = np.arange(12) % 3 != 0
    spoilt = x.copy()
    spoilt[~here] = np.nan
    scaled = apply(fit(spoilt, layout, here), spoilt, layout, here)
    np.testing.assert_array_equal(scaled[here], apply(fit(x[here], layout), x[here], layout))
    assert not scaled[~here].any()


def test_steps_of_a_film_are_masked_along_time():
    x = np.random.default_rng(2).normal(size=SHAPES["bcthw"]).astype(np.float32)
    valid = np.broadcast_to(np.arange(5) < 3, (12, 5))
    scaled = apply(fit(x, "bcthw", valid), x, "bcthw", valid)
    np.testing.assert_allclose(scaled[:, :, :3], apply(fit(x[:, :, :3], "bcthw"), x[:, :, :3], "bcthw"), rtol=1e-6)
    assert not scaled[:, :, 3:].any()


@pytest.mark.parametrize("value", [0.0, 1.0, -1e8, 1e-20, 0.1])
def test_constant_features_become_zero_even_where_new_values_differ(value):
    x = np.full((7, 2), value, np.float32)
    x[:, 1] = np.arange(7)
    scale = fit(x, "bd")
    assert not apply(scale, x, "bd")[:, 0].any()
    assert not apply(scale, x + 100, "bd")[:, 0].any()
    assert apply(scale, x, "bd")[:, 1].any()


def test_rounding_on_a_large_offset_is_no_signal():
    offset = np.float32(1e7)
    x = np.full((64, 2), offset, np.float32)
    x[::2, 0] = np.nextafter(offset, np.float32(np.inf))  # the next number that a float32 can hold
    x[::2, 1] += 1000
    scaled = apply(fit(x, "bd"), x, "bd")
    assert not scaled[:, 0].any()
    np.testing.assert_allclose(np.abs(scaled[:, 1]), 1, rtol=1e-6)


def test_a_small_signal_is_kept():
    x = (1e-12 * np.random.default_rng(0).normal(size=(50, 1))).astype(np.float32)
    assert apply(fit(x, "bd"), x, "bd").std() == pytest.approx(1, rel=1e-5)


def test_values_beyond_six_standard_deviations_are_cut():
    x = np.concatenate([np.full(500, -1), np.full(500, 1)]).astype(np.float32)[:, None]
    scaled = apply(fit(x, "bd"), np.array([[5.9], [6.1], [-1e6], [np.inf]], np.float32), "bd")
    assert scaled[:, 0].tolist() == [pytest.approx(5.9), CLIP, -CLIP, CLIP]
    assert CLIP == 6


def test_nothing_but_the_training_part_decides_the_scale():
    draws = np.random.default_rng(3)
    train, other = (draws.normal(size=(20, 4)).astype(np.float32) for _ in range(2))
    plain = scaled_splits(part({"x": train}), part({"x": other}), part({"x": other}), layouts={"x": "bd"})
    shifted = scaled_splits(part({"x": train}), part({"x": 9 * other}), part({"x": other + 5}), layouts={"x": "bd"})
    np.testing.assert_array_equal(plain[0].inputs["x"], shifted[0].inputs["x"])
    reference = StandardScaler().fit(train)
    for number, values in ((1, 9 * other), (2, other + 5)):
        expected = reference.transform(values).clip(-6, 6)
        np.testing.assert_allclose(shifted[number].inputs["x"], expected, rtol=1e-4, atol=1e-5)


def test_parts_keep_all_but_their_inputs_and_the_originals_are_untouched():
    draws = np.random.default_rng(4)
    x = draws.normal(3, 2, (10, 4, 2)).astype(np.float32)
    mask, here = draws.random((10, 4)) < 0.7, draws.random(10) < 0.7
    given_part = part({"x": x, "y": x[:, 0]}, masks={"x": mask}, present={"x": here, "y": ~here})
    before = x.copy()
    scaled = scaled_splits(given_part, given_part, given_part, layouts={"x": "btd", "y": "bd"})
    np.testing.assert_array_equal(x, before)
    counts = mask & here[:, None]
    for one in scaled:
        assert one.labels is given_part.labels
        assert one.ids is given_part.ids
        assert one.masks is given_part.masks
        assert one.present is given_part.present
        assert not one.inputs["x"][~counts].any()
        assert not one.inputs["y"][here].any()
        np.testing.assert_allclose(one.inputs["x"][counts], StandardScaler().fit_transform(x[counts]), atol=1e-5)
        np.testing.assert_allclose(one.inputs["y"][~here], StandardScaler().fit_transform(x[~here, 0]), atol=1e-5)


def test_a_modality_that_no_training_instance_has_becomes_zero():
    nowhere = part({"x": np.full((4, 2), np.nan, np.float32)}, present={"x": np.zeros(4, np.bool_)})
    everywhere = part({"x": np.ones((4, 2), np.float32)})
    scaled = scaled_splits(nowhere, everywhere, everywhere, layouts={"x": "bd"})
    assert all(not one.inputs["x"].any() for one in scaled)


@pytest.mark.parametrize("layout", list(SHAPES))
def test_blocks_of_rows_give_what_the_whole_gives(layout, monkeypatch):
    draws = np.random.default_rng(0)
    x = draws.normal(3, 2, SHAPES[layout]).astype(np.float32)
    valid = draws.random((12, 5) if "t" in layout else 12) < 0.8
    whole = fit(x, layout, valid)
    expected = apply(whole, x, layout, valid)
    monkeypatch.setattr("concordant.data.scaling.BLOCK", x[0].size * 5)
    found = fit(x, layout, valid)
    np.testing.assert_allclose(found.mean, whole.mean, rtol=1e-12)
    np.testing.assert_allclose(found.std, whole.std, rtol=1e-12)
    assert np.array_equal(apply(whole, x, layout, valid), expected)
    assert apply(whole, x, layout, valid, in_place=True) is x
    assert np.array_equal(x, expected)

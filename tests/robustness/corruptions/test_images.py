import io
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from concordant.robustness.corruptions import KINDS, Context

LAYOUTS = {"bchw": (3, 20, 16), "bcthw": (2, 4, 20, 16)}
every_layout = pytest.mark.parametrize("layout", LAYOUTS)


def a_case(layout="bchw", count=12):
    x = np.random.default_rng(0).standard_normal((count, *LAYOUTS[layout])).astype(np.float32)
    return x, Context(layout, x, np.arange(count), np.ones(count, np.bool_), np.arange(count) % 2)


def hurt(name, severity, x, context, seed=3):
    return KINDS[name].apply(x, severity, context, np.random.default_rng(seed))


@every_layout
@pytest.mark.parametrize("sigma", KINDS["blur"].severities)
def test_every_channel_and_frame_is_blurred_as_scipy_blurs_an_image(layout, sigma):
    from scipy.ndimage import gaussian_filter

    x, context = a_case(layout)
    expected = np.stack([gaussian_filter(plane, sigma, mode="nearest") for plane in x.reshape(-1, 20, 16)])
    np.testing.assert_allclose(hurt("blur", sigma, x, context), expected.reshape(x.shape), atol=1e-6)


@pytest.mark.parametrize("name", [name for name in KINDS if KINDS[name].group in ("image", "time")])
def test_films_with_the_channels_last_are_corrupted_alike(name):
    x, context = a_case("bcthw")
    last = np.moveaxis(x, 1, -1)
    found = hurt(name, KINDS[name].severities[1], last, replace(context, layout="bthwc", everything=last))
    expected = np.moveaxis(hurt(name, KINDS[name].severities[1], x, context), 1, -1)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("sigma", KINDS["blur"].severities)
def test_a_point_becomes_the_gaussian_it_is_blurred_by(sigma):
    x = np.zeros((1, 1, 41, 41), np.float32)
    x[0, 0, 20, 20] = 1
    everyone = np.ones(1, np.bool_)
    found = hurt("blur", sigma, x, Context("bchw", x, np.arange(1), everyone, np.zeros(1, np.int64)))[0, 0]
    bell = np.exp(-((np.arange(41) - 20) ** 2) / (2 * sigma**2))
    np.testing.assert_allclose(found, np.outer(bell, bell) / bell.sum() ** 2, atol=2e-5)


@every_layout
@pytest.mark.parametrize("share", KINDS["occlusion"].severities)
def test_one_block_of_the_stated_area_is_covered_in_all_channels_and_frames(layout, share):
    x, context = a_case(layout, 60)
    planes = (hurt("occlusion", share, x, context) == 0).reshape(60, -1, 20, 16)
    np.testing.assert_array_equal(planes.all(1), planes.any(1))
    gone = planes[:, 0]
    high, wide = gone.any(2).sum(1), gone.any(1).sum(1)
    np.testing.assert_array_equal(gone.sum((1, 2)), high * wide)  # a full rectangle
    assert (high == round(np.sqrt(share) * 20)).all()
    assert (wide == round(np.sqrt(share) * 16)).all()
    assert abs((high * wide / 320).mean() - share) < 0.03
    for axis in (1, 2):
        assert (np.diff(np.pad(gone.any(axis), ((0, 0), (1, 1))).astype(int), axis=1) == 1).sum(1).max() == 1
    assert len({tuple(np.argwhere(one)[0]) for one in gone}) > 5


def test_a_larger_block_contains_the_smaller_one():
    x, context = a_case(count=60)
    blocks = [hurt("occlusion", share, x, context) == 0 for share in KINDS["occlusion"].severities]
    for small, large in pairwise(blocks):
        assert (large | ~small).all()


@every_layout
@pytest.mark.parametrize("share", KINDS["brightness"].severities)
def test_brightness_moves_an_instance_by_a_share_of_the_parts_range(layout, share):
    x, context = a_case(layout)
    change = (hurt("brightness", share, x, context) - x).reshape(12, -1)
    low, high = np.percentile(x, (1, 99))
    np.testing.assert_allclose(np.abs(change), share * (high - low), rtol=1e-3)
    assert set(np.sign(change[:, 0])) == {-1, 1}
    np.testing.assert_array_equal(np.sign(change), np.sign(change[:, :1]) * np.ones_like(change))


def test_the_range_of_brightness_leaves_out_padding_and_absent_instances():
    x, context = a_case("bcthw")
    lengths, donors = np.full(12, 2), np.arange(12) < 8
    valid = x[:8, :, :2].copy()
    x[:, :, 2:] = 0
    x[8:] = 1000
    context = replace(context, rows=np.arange(8), donors=donors, lengths=lengths)
    found = hurt("brightness", 0.5, x[:8], context)
    low, high = np.percentile(valid, (1, 99))
    np.testing.assert_allclose(np.abs(found - x[:8])[:, :, :2], 0.5 * (high - low), rtol=1e-3)
    assert not found[:, :, 2:].any()


@every_layout
@pytest.mark.parametrize("quality", KINDS["jpeg"].severities)
def test_jpeg_is_what_pillow_makes_of_every_channel_and_frame(layout, quality):
    from PIL import Image

    x, context = a_case(layout, 3)
    found = hurt("jpeg", quality, x, context)
    for one, changed in zip(x, found, strict=True):
        low, high = float(one.min()), float(one.max())
        for plane, result in zip(one.reshape(-1, 20, 16), changed.reshape(-1, 20, 16), strict=True):
            file = io.BytesIO()
            grey = np.rint((plane.astype(np.float64) - low) / (high - low) * 255).astype(np.uint8)
            Image.fromarray(grey, "L").save(file, format="JPEG", quality=int(quality))
            read = np.asarray(Image.open(io.BytesIO(file.getvalue())), np.float64)
            np.testing.assert_allclose(result, low + read / 255 * (high - low), atol=1e-5)


def test_jpeg_keeps_an_image_of_one_value_and_ignores_padding():
    x, context = a_case("bcthw", 2)
    x[0] = 3.5
    x = np.abs(x) + 5
    lengths = np.array([4, 2])
    short = np.where((np.arange(4) < lengths[:, None])[:, None, :, None, None], x, np.float32(0))
    found = hurt("jpeg", 50, short, replace(context, everything=short, lengths=lengths))
    np.testing.assert_array_equal(found[0], x[0])
    alone = x[1:, :, :2]
    everyone = np.ones(1, np.bool_)
    expected = hurt("jpeg", 50, alone, Context("bcthw", alone, np.arange(1), everyone, np.zeros(1, np.int64)))
    np.testing.assert_array_equal(found[1:, :, :2], expected)
    assert not found[1, :, 2:].any()


def test_a_smooth_image_survives_jpeg():
    ramp = np.add.outer(np.arange(32), np.arange(32)).astype(np.float32)[None, None]
    everyone = np.ones(1, np.bool_)
    found = hurt("jpeg", 50, ramp, Context("bchw", ramp, np.arange(1), everyone, np.zeros(1, np.int64)))
    assert np.abs(found - ramp).max() < 0.05 * 62

import base64
import io

import numpy as np
import pytest
from PIL import Image

from concordant.visualisation.pictures import SIDE, picture


def opened(address):
    head, _, data = address.partition(",")
    assert head == "data:image/png;base64"
    return Image.open(io.BytesIO(base64.b64decode(data)))


def sketch(address):
    head, _, data = address.partition(",")
    assert head == "data:image/svg+xml;base64"
    return base64.b64decode(data).decode()


@pytest.mark.parametrize(
    ("shape", "layout", "size", "mode"),
    [
        ((1, 8, 6), "bchw", (6, 8), "L"),
        ((3, 8, 6), "bchw", (6, 8), "RGB"),
        ((8, 6, 3), "bhwc", (6, 8), "RGB"),
        ((5, 8, 6), "bchw", (6, 8), "L"),
        ((1, 4, 200, 100), "bcthw", (SIDE // 2, SIDE), "L"),
        ((4, 8, 6, 3), "bthwc", (6, 8), "RGB"),
        ((9, 20), "btd", (9, 20), "L"),
    ],
)
def test_maps_films_and_wide_sequences_are_pixels(shape, layout, size, mode):
    drawn = opened(picture(np.random.default_rng(0).normal(size=shape), layout))
    assert (drawn.size, drawn.mode) == (size, mode)


def test_the_brightest_value_is_white_and_a_film_is_its_middle_frame():
    film = np.zeros((1, 3, 2, 2))
    film[0, 1, 0, 1] = 1.0
    assert np.array(opened(picture(film, "bcthw"))).tolist() == [[0, 255], [0, 0]]


@pytest.mark.parametrize(("shape", "layout", "curves"), [((400, 1), "btd", 1), ((1, 400), "bdt", 1), ((64,), "bd", 1)])
def test_waveforms_and_vectors_are_curves(shape, layout, curves):
    text = sketch(picture(np.random.default_rng(0).normal(size=shape), layout))
    assert text.count("<polyline") == curves
    assert len(text) < 3000


def test_a_skeleton_has_its_joints():
    assert sketch(picture(np.random.default_rng(0).normal(size=(64, 60)), "btd", skeleton=True)).count("<circle") == 20


def test_constant_values_are_a_picture():
    assert picture(np.zeros((1, 4, 4)), "bchw")
    assert picture(np.zeros((4, 1)), "btd")

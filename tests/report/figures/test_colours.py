import itertools

import numpy as np
import pytest

from concordant.report.figures.colours import CLASSES, COLOURS, MARKERS, colour_of, dash_of, marker_of
from concordant.rivals import CALIBRATORS

DARK = "#15181b"


# Machado, Oliveira and Fernandes (2009), severity 1: what is seen of linear light without one kind of cone.
SEEN = {
    "all": np.eye(3),
    "no green": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "no red": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "no blue": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


def linear(colour):
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    return np.array([one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in parts])


def luminance(colour):
    return float(linear(colour) @ [0.2126, 0.7152, 0.0722])


def oklab(light):
    cones = light @ np.transpose(
        [
            [0.41222147, 0.53633254, 0.05144599],
            [0.21190350, 0.68069955, 0.10739696],
            [0.08830246, 0.28171884, 0.62997870],
        ]
    )
    return np.cbrt(np.maximum(cones, 0)) @ np.transpose(
        [
            [0.21045426, 0.79361779, -0.00407205],
            [1.97799850, -2.42859221, 0.45059371],
            [0.02590404, 0.78277177, -0.80867577],
        ]
    )


def contrast(one, other):
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("label", [*COLOURS, "some-other", "unlisted"])
def test_a_colour_has_contrast_on_light_and_on_dark_background(label):
    assert contrast(colour_of(label), "#ffffff") >= 3
    assert contrast(colour_of(label), DARK) >= 3


def test_methods_differ_in_colour_dash_and_marker():
    for one, other in itertools.combinations(COLOURS, 2):
        assert colour_of(one) != colour_of(other)
        assert (dash_of(one), marker_of(one)) != (dash_of(other), marker_of(other))


def test_a_method_always_looks_the_same():
    assert colour_of("some-other") == colour_of("some-other")
    assert (dash_of("context"), marker_of("context")) == ("", "circle")


def test_every_calibrator_with_a_colour_is_called_as_in_the_registry():
    assert all(name in CALIBRATORS for name in COLOURS if name != "none+perturbed")


@pytest.mark.parametrize("seen", SEEN)
def test_ten_classes_differ_for_every_eye(seen):
    places = [oklab(np.clip(linear(colour) @ np.transpose(SEEN[seen]), 0, 1)) for colour in CLASSES]
    least = min(float(np.linalg.norm(a - b)) for a, b in itertools.combinations(places, 2))
    assert least > (0.15 if seen == "all" else 0.095)  # a difference of 0.02 is just seen
    assert len(CLASSES) == len(MARKERS) == 10


def test_classes_are_seen_on_both_grounds():
    for colour in CLASSES:
        assert contrast(colour, "#ffffff") >= 2.1
        assert contrast(colour, DARK) >= 3.1

import itertools

import pytest

from concordant.report.figures.colours import COLOURS, colour_of, dash_of, marker_of
from concordant.rivals import CALIBRATORS

DARK = "#15181b"


def luminance(colour):
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    r, g, b = (one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in parts)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


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
    assert (dash_of("context"), marker_of("context")) == ("solid", "circle")


def test_every_calibrator_with_a_colour_is_called_as_in_the_registry():
    assert all(name in CALIBRATORS for name in COLOURS if name != "none+perturbed")

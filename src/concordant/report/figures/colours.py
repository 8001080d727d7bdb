"""One colour, dash and marker per method, equal in every figure.

The colours are distinguishable with colour blindness, and each has a contrast of at least 3 to 1 against white and
against the report's dark background. Dash and marker identify a method without colour.
"""

from __future__ import annotations

import zlib

COLOURS = {
    "none": "#8f949b",
    "none+perturbed": "#6f7a8a",
    "self": "#b8761a",
    "joint": "#3f82c4",
    "gmu": "#b0579d",
    "modality-dropout": "#c9562f",
    "uncertainty": "#1f93a6",
    "evidential": "#7d6bd0",
    "evidential-conflict": "#a5652f",
    "aecf": "#7d8a1c",
    "attention": "#c44f7a",
    "after-fusion": "#8a7f5a",
    "context": "#1b7f5c",
}
_OTHERS = ("#c9562f", "#1f93a6", "#7d6bd0", "#a5652f", "#7d8a1c", "#b0579d")
# Ten classes: of all colours with a contrast of 2.1 to 1 against white and 3.1 against the dark ground, ten that differ
# most, also where red, green or blue is not seen (under Machado's simulations they are 0.098 apart in OKLab at least).
CLASSES = (
    "#4455ff",
    "#cc7711",
    "#00aa77",
    "#cc1122",
    "#55bbff",
    "#bb00bb",
    "#aabb00",
    "#776666",
    "#ff88bb",
    "#aa77cc",
)
# As SVG has dashes. The first dash and the first marker belong to "context".
DASHES = ("", "2 3", "7 4", "8 3 2 3", "12 4", "12 3 2 3", "2 2", "10 3", "8 2 2 2 2 2", "5 2", "12 2 4 2")
MARKERS = ("circle", "square", "diamond", "triangle-up", "cross", "x", "triangle-down", "star", "hexagon", "pentagon")


def colour_of(label: str) -> str:
    """Return the colour of a method; methods that are not listed share a few, chosen by name."""
    return COLOURS.get(label) or _OTHERS[zlib.crc32(label.encode()) % len(_OTHERS)]


def dash_of(label: str) -> str:
    """Return the dash of a method's lines; that of "context" is solid."""
    return _style(DASHES, label)


def marker_of(label: str) -> str:
    """Return the marker of a method; that of "context" is a circle."""
    return _style(MARKERS, label)


def _style(styles: tuple[str, ...], label: str) -> str:
    known = [name for name in COLOURS if name != "context"]
    place = known.index(label) if label in known else zlib.crc32(label.encode())
    return styles[0] if label == "context" else styles[1 + place % (len(styles) - 1)]

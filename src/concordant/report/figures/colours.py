"""One colour, dash and marker per method, equal in every figure.

The colours are distinguishable with colour blindness, and each has a contrast of at least 3 to 1 against white and
against the report's dark background. Dash and marker identify a method without colour.
"""

from __future__ import annotations

import zlib

COLOURS = {
    "none": "#8f949b",
    "none+perturbed": "#5f6875",
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
# The first dash and the first marker belong to "context".
_NAMED = ("solid", "dot", "dash", "dashdot", "longdash", "longdashdot")
DASHES = (*_NAMED, "2px,2px", "10px,3px", "8px,2px,2px,2px,2px,2px", "5px,2px", "12px,2px,4px,2px")
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

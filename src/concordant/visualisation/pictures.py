"""Small pictures of inputs: what an instance that the calibrator distrusts looks like, as data URLs.

Images, spectrograms and films (their middle frame) are pictures of pixels; sequences of a few features are drawn as
curves, skeletons as joints; sequences of many features are pictures of their values, time from left to right.
Axis letters: T time, D feature size, C colours, H W height and width.
"""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

SIDE = 72  # pixels, at most
CURVES = 3  # features of a sequence that is drawn as curves
STEPS = 120  # of a curve, at most


def picture(values: NDArray[Any], layout: str, *, skeleton: bool = False) -> str:
    """Return a picture of one instance of a modality as a data URL.

    The layout is batch first, the values have no batch axis. A skeleton's features are joints in three axes, one after
    the other.
    """
    axes = layout[1:]
    if "h" in axes:
        kept = values.take(values.shape[axes.index("t")] // 2, axes.index("t")) if "t" in axes else values
        order = axes.replace("t", "")
        return _pixels(np.transpose(kept, [order.index(axis) for axis in "hwc"]))
    rows = values if "t" in axes else values[:, None]  # (T, D); a vector is a curve over its features
    if axes == "dt":
        rows = values.T
    if skeleton and rows.shape[1] % 3 == 0:
        return _joints(rows.reshape(len(rows), -1, 3))
    return _curves(rows) if rows.shape[1] <= CURVES else _pixels(rows.T[:, :, None])


def _pixels(image: NDArray[Any]) -> str:
    """Return an image (H, W, C) as PNG: in colour for three, in grey for the mean of others."""
    from PIL import Image

    image = image if image.shape[2] == 3 else image.mean(2)
    low, high = np.percentile(image, [1, 99])
    scaled = np.clip((image - low) / max(high - low, 1e-9), 0, 1)
    drawn = Image.fromarray((255 * scaled).astype(np.uint8))
    drawn.thumbnail((SIDE, SIDE))
    file = io.BytesIO()
    drawn.save(file, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def _curves(rows: NDArray[Any]) -> str:
    """Return a sequence (T, D) as one curve per feature, on one scale."""
    places = np.unique(np.linspace(0, len(rows) - 1, STEPS).astype(int))
    some = rows[places]
    y = SIDE - 2 - (SIDE - 4) * (some - some.min()) / max(float(np.ptp(some)), 1e-9)
    x = np.linspace(0, SIDE, len(some))
    paths = (" ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, column, strict=True)) for column in y.T)
    return _svg("".join(f'<polyline points="{path}" fill="none" stroke="#3f82c4"/>' for path in paths))


def _joints(rows: NDArray[Any]) -> str:
    """Return a sequence of joints (T, J, 3) from the front, in the middle of its time."""
    flat = rows[len(rows) // 2, :, :2]
    low, reach = flat.min(0), max(float(np.ptp(flat, axis=0).max()), 1e-9)
    at = 4 + (SIDE - 8) * (flat - low) / reach
    return _svg("".join(f'<circle cx="{x:.1f}" cy="{SIDE - y:.1f}" r="2" fill="#3f82c4"/>' for x, y in at))


def _svg(inside: str) -> str:
    size = f'width="{SIDE}" height="{SIDE}" viewBox="0 0 {SIDE} {SIDE}"'
    text = f'<svg xmlns="http://www.w3.org/2000/svg" {size}>{inside}</svg>'
    return f"data:image/svg+xml;base64,{base64.b64encode(text.encode()).decode()}"

"""Corruptions of images, in layouts with height and width; all channels and frames of an instance alike.

Shapes: values (n, C, H, W) or (n, C, T, H, W).
"""

from __future__ import annotations

import io
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from concordant.data.split import Floats
from concordant.robustness.corruptions.kind import (
    Context,
    corruption,
    has_pixels,
    over_instances,
    size,
    steps_first,
    stretch,
    valid_steps,
)

_image = partial(corruption, group="image", fits=has_pixels)


@_image(
    "blur",
    "the image is blurred by a Gaussian",
    unit="pixels, the standard deviation of the Gaussian",
    severities=(0.5, 1.0, 1.5, 2.0, 3.0),
)
def blur(x: Floats, severity: float, context: Context, draws: np.random.Generator) -> NDArray[Any]:
    """Blur by a Gaussian with this standard deviation in pixels; the border is repeated beyond the edge."""
    from scipy.ndimage import gaussian_filter

    places = (context.layout.index("h"), context.layout.index("w"))
    return np.asarray(gaussian_filter(x, severity, mode="nearest", axes=places))


@_image(
    "occlusion", "one block of the image is set to 0", unit="share of the area", severities=(0.05, 0.1, 0.2, 0.35, 0.5)
)
def occlude(x: Floats, severity: float, context: Context, draws: np.random.Generator) -> NDArray[Any]:
    """Set one block that covers this share of the area to 0; its sides relate as the image's do."""
    covered = np.ones((len(x), *(1 for _ in context.layout[1:])), np.bool_)
    for letter in "hw":
        length = np.full(len(x), size(context.layout, x.shape, letter))
        side = np.maximum(1, np.rint(np.sqrt(severity) * length)).astype(np.int64)
        begin = stretch(draws.random(len(x)), side, length)[:, None]
        place = np.arange(size(context.layout, x.shape, letter))
        within = (place >= begin) & (place < begin + side[:, None])  # (n, H) or (n, W)
        shape = [{"b": len(x), letter: len(place)}.get(axis, 1) for axis in context.layout]
        covered = covered & within.reshape(shape)
    return np.where(covered, 0, x)


@_image(
    "brightness",
    "the image becomes brighter or darker",
    unit="share of the range from the 1st to the 99th percentile",
    severities=(0.1, 0.2, 0.3, 0.4, 0.5),
)
def brighten(x: Floats, severity: float, context: Context, draws: np.random.Generator) -> NDArray[Any]:
    """Add or subtract this share of the range that the split's values have, from their 1st to 99th percentile."""
    low, high = np.percentile(_present_values(context), (1, 99))
    sign = np.where(draws.random(len(x)) < 0.5, 1, -1)
    change = (severity * (high - low) * sign).astype(np.float32)
    return np.asarray(x + over_instances(change, context.layout))


@_image(
    "jpeg", "the image is compressed as JPEG", unit="JPEG quality, 0 to 100", severities=(50.0, 30.0, 20.0, 10.0, 5.0)
)
def compress(x: Floats, severity: float, context: Context, draws: np.random.Generator) -> NDArray[Any]:
    """Write and read every channel and frame as JPEG of this quality, 8 bits over the instance's own range."""
    result = np.empty(x.shape, np.float32)
    places = (context.layout.index("h") - 1, context.layout.index("w") - 1)
    for number, one in enumerate(x):
        valid = one
        if context.lengths is not None:  # padding does not count in the range
            length = context.lengths[context.rows[number]]
            valid = steps_first(x[number : number + 1], context.layout)[0, :length]
        low, high = (float(valid.min()), float(valid.max())) if valid.size else (0.0, 0.0)
        if high == low:
            result[number] = one
            continue
        grey = np.rint(np.clip((one - low) / (high - low), 0, 1) * 255).astype(np.uint8)
        images = np.moveaxis(grey, places, (-2, -1))  # (..., H, W)
        planes = [_jpeg(plane, round(severity)) for plane in images.reshape(-1, *images.shape[-2:])]
        back = np.moveaxis(np.stack(planes).reshape(images.shape), (-2, -1), places)
        result[number] = back / np.float32(255) * (high - low) + low
    return result


def _jpeg(grey: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    """Return a grey image (H, W) after JPEG."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(grey).save(file, "JPEG", quality=quality)
    with Image.open(file) as image:
        return np.asarray(image)


def _present_values(context: Context) -> Floats:
    """Return all values of the split that exist: of instances with the modality, at valid steps."""
    present = context.donors.copy()
    present[context.rows] = True
    if context.lengths is None:
        return context.everything[present]
    frames = steps_first(context.everything, context.layout)
    values: Floats = frames[present[:, None] & valid_steps(context.lengths, context.steps)]
    return values if len(values) else np.zeros(1, np.float32)

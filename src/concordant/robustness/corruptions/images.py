"""Corruptions of images, in layouts with height and width; all channels and frames of an instance alike.

Shapes: values (n, C, H, W) or (n, C, T, H, W).
"""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray

from concordant.robustness.corruptions.axes import finished, over_instances, stretch, valid_steps
from concordant.robustness.corruptions.axes import steps_first as frames_first
from concordant.robustness.corruptions.kind import Floats, Kind, Site, has_pixels, size


def blur(x: Floats, severity: float, site: Site, draws: np.random.Generator) -> Floats:
    """Blur by a Gaussian with this standard deviation in pixels; the border is repeated beyond the edge."""
    from scipy.ndimage import gaussian_filter

    places = (site.layout.index("h"), site.layout.index("w"))
    return finished(gaussian_filter(x, severity, mode="nearest", axes=places), x, site)


def occlude(x: Floats, severity: float, site: Site, draws: np.random.Generator) -> Floats:
    """Set one block that covers this share of the area to 0; its sides relate as the image's do."""
    covered = np.ones((len(x), *(1 for _ in site.layout[1:])), np.bool_)
    for letter in "hw":
        length = np.full(len(x), size(site.layout, x.shape, letter))
        side = np.maximum(1, np.rint(np.sqrt(severity) * length)).astype(np.int64)
        begin = stretch(draws.random(len(x)), side, length)[:, None]
        place = np.arange(size(site.layout, x.shape, letter))
        within = (place >= begin) & (place < begin + side[:, None])  # (n, H) or (n, W)
        shape = [{"b": len(x), letter: len(place)}.get(axis, 1) for axis in site.layout]
        covered = covered & within.reshape(shape)
    return finished(np.where(covered, 0, x), x, site)


def brighten(x: Floats, severity: float, site: Site, draws: np.random.Generator) -> Floats:
    """Add or subtract this share of the range that the part's values have, from their 1st to 99th percentile."""
    low, high = np.percentile(_present(site), (1, 99))
    sign = np.where(draws.random(len(x)) < 0.5, 1, -1)
    change = (severity * (high - low) * sign).astype(np.float32)
    return finished(x + over_instances(change, site.layout), x, site)


def compress(x: Floats, severity: float, site: Site, draws: np.random.Generator) -> Floats:
    """Write and read every channel and frame as JPEG of this quality, 8 bits over the instance's own range."""
    result = np.empty(x.shape, np.float32)
    for number, one in enumerate(x):
        valid = one
        if site.lengths is not None:  # padding is no part of the range
            valid = frames_first(x[number : number + 1], site.layout)[0, : site.lengths[number]]
        low, high = (float(valid.min()), float(valid.max())) if valid.size else (0.0, 0.0)
        if high == low:
            result[number] = one
            continue
        grey = np.rint(np.clip((one - low) / (high - low), 0, 1) * 255).astype(np.uint8)
        planes = [_jpeg(plane, round(severity)) for plane in grey.reshape(-1, *one.shape[-2:])]
        result[number] = np.stack(planes).reshape(one.shape) / np.float32(255) * (high - low) + low
    return finished(result, x, site)


def _jpeg(grey: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    """Return a grey image (H, W) after JPEG."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(grey).save(file, "JPEG", quality=quality)
    with Image.open(file) as image:
        return np.asarray(image)


def _present(site: Site) -> Floats:
    """Return all values of the part that are really there: of instances with the modality, at valid steps."""
    here = site.donors.copy()
    here[site.rows] = True
    if site.all_lengths is None:
        return site.everything[here]
    steps = size(site.layout, site.everything.shape, "t")
    values: Floats = frames_first(site.everything, site.layout)[here[:, None] & valid_steps(site.all_lengths, steps)]
    return values if len(values) else np.zeros(1, np.float32)


IMAGES = (
    Kind(
        "blur",
        "the image is blurred by a Gaussian",
        "image",
        "pixels, the standard deviation of the Gaussian",
        (0.5, 1.0, 1.5, 2.0, 3.0),
        has_pixels,
        blur,
    ),
    Kind(
        "occlusion",
        "one block of the image is set to 0",
        "image",
        "share of the area",
        (0.05, 0.1, 0.2, 0.35, 0.5),
        has_pixels,
        occlude,
    ),
    Kind(
        "brightness",
        "the image becomes brighter or darker",
        "image",
        "share of the range from the 1st to the 99th percentile",
        (0.1, 0.2, 0.3, 0.4, 0.5),
        has_pixels,
        brighten,
    ),
    Kind(
        "jpeg",
        "the image is compressed as JPEG",
        "image",
        "JPEG quality, 0 to 100",
        (50.0, 30.0, 20.0, 10.0, 5.0),
        has_pixels,
        compress,
    ),
)

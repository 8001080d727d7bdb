"""Dense optical flow between the frames of a film, by OpenCV, or out of published flow images.

Shapes: grey frames (T, H, W) give flow (2, T - 1, H, W): to the right and down, in pixels a frame.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from concordant.errors import UsageError

#: Farnebäck, SCIA 2003, with the parameters of OpenCV's documentation.
FARNEBACK = {"pyr_scale": 0.5, "levels": 3, "winsize": 15, "iterations": 3, "poly_n": 5, "poly_sigma": 1.2, "flags": 0}
METHODS = ("farneback", "dis")


def optical_flow(grey: NDArray[np.uint8], *, method: str = "farneback") -> NDArray[np.float32]:
    """Return the flow from each frame to the next.

    Args:
        grey: (T, H, W), two frames or more.
        method: "farneback", or "dis" (Kroeger et al., ECCV 2016, OpenCV's medium preset).

    Raises:
        UsageError: fewer than two frames, or an unknown method.
    """
    import cv2

    if method not in METHODS:
        raise UsageError(f"unknown flow {method!r}; choose from: {', '.join(METHODS)}")
    if grey.ndim != 3 or len(grey) < 2 or grey.dtype != np.uint8:
        raise UsageError(f"flow needs grey frames uint8 (T, H, W), two or more; found {grey.dtype} {grey.shape}")
    dis: Any = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM) if method == "dis" else None
    found = []
    for one, other in pairwise(grey):
        flow = dis.calc(one, other, None) if dis is not None else _farneback(one, other)
        found.append(np.moveaxis(np.asarray(flow, np.float32), -1, 0))
    return np.stack(found, 1)


def _farneback(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> Any:  # noqa: ANN401 - OpenCV's array
    import cv2

    calc: Any = cv2.calcOpticalFlowFarneback
    return calc(one, other, None, **FARNEBACK)


def flow_from_images(u: NDArray[np.uint8], v: NDArray[np.uint8], *, bound: float = 20.0) -> NDArray[np.float32]:
    """Return the flow (2, T, H, W) that grey images hold: 0 to 255 for minus to plus `bound` pixels.

    Raises:
        UsageError: the two differ in shape.
    """
    if u.shape != v.shape or u.ndim != 3:
        raise UsageError(f"u and v must be of one shape (T, H, W); found {u.shape} and {v.shape}")
    return np.stack([u, v]).astype(np.float32) * np.float32(2 * bound / 255) - np.float32(bound)

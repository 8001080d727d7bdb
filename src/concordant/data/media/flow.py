"""Dense optical flow between the frames of a film, by OpenCV, or from published flow images.

Shapes: grey frames (T, H, W) give flow (2, T - 1, H, W): to the right and down, in pixels per frame.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from concordant.errors import UsageError

# Farnebäck, SCIA 2003, with the parameters of OpenCV's documentation.
FARNEBACK = {"pyr_scale": 0.5, "levels": 3, "winsize": 15, "iterations": 3, "poly_n": 5, "poly_sigma": 1.2, "flags": 0}


def optical_flow(grey: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the flow from each frame to the next.

    Args:
        grey: (T, H, W), two frames or more.

    Raises:
        UsageError: there are fewer than two frames, or they are not grey.
    """
    import cv2

    if grey.ndim != 3 or len(grey) < 2 or grey.dtype != np.uint8:
        raise UsageError(f"flow needs grey frames uint8 (T, H, W), two or more; found {grey.dtype} {grey.shape}")
    calculate: Any = cv2.calcOpticalFlowFarneback
    flows = [calculate(one, other, None, **FARNEBACK) for one, other in pairwise(grey)]  # (H, W, 2) each
    return np.ascontiguousarray(np.moveaxis(np.stack(flows), -1, 0), np.float32)


def flow_from_images(u: NDArray[np.uint8], v: NDArray[np.uint8], *, bound: float = 20.0) -> NDArray[np.float32]:
    """Return the flow (2, T, H, W) of grey images: 0 to 255 for minus to plus `bound` pixels.

    Raises:
        UsageError: the two differ in shape.
    """
    if u.shape != v.shape or u.ndim != 3:
        raise UsageError(f"u and v must be of one shape (T, H, W); found {u.shape} and {v.shape}")
    return np.stack([u, v]).astype(np.float32) * np.float32(2 * bound / 255) - np.float32(bound)

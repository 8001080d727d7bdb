import numpy as np
import pytest

pytest.importorskip("cv2")

from scipy.ndimage import gaussian_filter, shift

from concordant.data.media.flow import flow_from_images, optical_flow
from concordant.errors import UsageError


@pytest.mark.parametrize(("right", "down"), [(2.0, 0.0), (0.0, -3.0), (1.5, 1.0)])
def test_a_picture_that_moves_has_that_flow(right, down):
    texture = gaussian_filter(np.random.default_rng(0).standard_normal((96, 96)), 3)
    texture = 128 + 100 * texture / np.abs(texture).max()
    frames = (
        np.stack([shift(texture, (k * down, k * right), mode="wrap") for k in range(3)]).clip(0, 255).astype(np.uint8)
    )
    flow = optical_flow(frames)
    assert flow.shape == (2, 2, 96, 96)
    assert flow.dtype == np.float32
    middle = np.median(flow[:, :, 20:-20, 20:-20], axis=(2, 3))
    np.testing.assert_allclose(middle, [[right, right], [down, down]], atol=0.25)


def test_flow_images_hold_pixels_between_the_bounds():
    u = np.array([[[0, 255, 51]]], np.uint8)
    found = flow_from_images(u, u[..., ::-1])
    np.testing.assert_allclose(found[:, 0, 0], [[-20, 20, -12], [-12, 20, -20]], atol=1e-5)


def test_what_has_no_flow_is_refused():
    with pytest.raises(UsageError, match=r"two or more; found uint8 \(1, 8, 8\)"):
        optical_flow(np.zeros((1, 8, 8), np.uint8))
    with pytest.raises(
        UsageError, match=r"u and v must be of one shape \(T, H, W\); found \(1, 2, 2\) and \(1, 2, 3\)"
    ):
        flow_from_images(np.zeros((1, 2, 2), np.uint8), np.zeros((1, 2, 3), np.uint8))

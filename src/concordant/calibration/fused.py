"""Where kernels of our own stand in for plain operations, with their gradients: on NVIDIA GPUs that have Triton.

Each reads features from memory once. The plain operations remain what defines the result, and what every other
device, float64, `torch.func` and compiled or exported graphs use: there PyTorch's compiler fuses by itself, and kernels
gained nothing (docs/performance-gpu.md).
Shapes: x (B, L, D), valid (B, L) or (B, 1), scale (B, D).
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from concordant.calibration.tracing import values_are_known

SMALLEST_VARIANCE = 1e-8  # added to variances, so that a constant sequence has a gradient
HAVE_TRITON = find_spec("triton") is not None
OLDEST = 7  # major number of the capability that Triton asks for
DEVICES = ("cuda",)  # tests add CPUs, on which Triton interprets
DTYPES = (torch.float32, torch.float16, torch.bfloat16)


def fused(x: Tensor) -> bool:
    """Return True where kernels take x: there is Triton, and no compiler and no transform looks on."""
    if not HAVE_TRITON or x.device.type not in DEVICES or x.dtype not in DTYPES or not values_are_known():
        return False
    return x.device.type == "cpu" or torch.cuda.get_device_properties(x.device).major >= OLDEST


def pooled(x: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation over valid positions, and bool (B,): what is valid is finite."""
    if torch.is_grad_enabled() and x.requires_grad:
        result: tuple[Tensor, Tensor] = _Pool.apply(x, valid)  # type: ignore[no-untyped-call]
        return result
    from concordant.calibration import kernels

    return kernels.pool(x, valid, SMALLEST_VARIANCE)


def scaled(x: Tensor, scale: Tensor, valid: Tensor | None) -> Tensor:
    """Return x times its scale where valid; elsewhere x, with 0 for what is not finite."""
    if torch.is_grad_enabled() and (x.requires_grad or scale.requires_grad):
        result: Tensor = _Scale.apply(x, scale, valid)  # type: ignore[no-untyped-call]
        return result
    from concordant.calibration import kernels

    return kernels.scale(x, scale, valid)


class _Pool(Function):
    """What is saved is the input, its mask and the result."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor]:  # noqa: ANN401 - PyTorch's context
        from concordant.calibration import kernels

        result, finite = kernels.pool(x, valid, SMALLEST_VARIANCE)
        ctx.save_for_backward(x, valid, result)
        ctx.mark_non_differentiable(finite)
        return result, finite

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, _: Tensor) -> tuple[Tensor, None]:  # noqa: ANN401
        from concordant.calibration import kernels

        x, valid, result = ctx.saved_tensors
        if torch.is_grad_enabled():  # somebody wants a gradient of this gradient
            return pool_gradient(gradient, x, valid, result), None
        return kernels.pool_backward(x, valid, result, gradient), None


def pool_gradient(gradient: Tensor, x: Tensor, valid: Tensor | None, result: Tensor) -> Tensor:
    """Return the gradient of x from that of its mean and deviation, in plain operations."""
    mean, deviation = result.chunk(2, 1)
    to_mean, to_deviation = gradient.chunk(2, 1)
    count: Tensor | int = x.shape[1]
    if valid is not None and valid.shape[1] > 1:
        count = valid.sum(1, keepdim=True).clamp(min=1)
    slope = to_deviation / (deviation * count)
    found = ((x - mean.unsqueeze(1)) * slope.unsqueeze(1) + (to_mean / count).unsqueeze(1)).to(x.dtype)
    return found if valid is None else torch.where(valid.unsqueeze(2), found, 0)


class _Scale(Function):
    """What is saved is the input, the scale and the mask."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, valid: Tensor | None) -> Tensor:  # noqa: ANN401
        from concordant.calibration import kernels

        ctx.save_for_backward(x, scale, valid)
        return kernels.scale(x, scale, valid)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor, None]:  # noqa: ANN401
        from concordant.calibration import kernels

        x, scale, valid = ctx.saved_tensors
        if torch.is_grad_enabled():  # somebody wants a gradient of this gradient
            keep = None if valid is None else valid.unsqueeze(2)
            to_x, to_factor = scale_gradients(gradient, x, scale.unsqueeze(1), keep)
            return to_x, to_factor.squeeze(1), None
        return *kernels.scale_backward(gradient, x, scale, valid, for_x=ctx.needs_input_grad[0]), None


def scale_gradients(gradient: Tensor, x: Tensor, factor: Tensor, keep: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return the gradients of x and of its factor, in plain operations; all shapes broadcast over x."""
    if keep is None:
        return gradient * factor, (gradient * x).sum_to_size(factor.shape)
    to_x = torch.where(keep, gradient * factor, torch.where(torch.isfinite(x), gradient, 0))
    return to_x, torch.where(keep, gradient * torch.where(keep, x, 0), 0).sum_to_size(factor.shape)

"""Mean and standard deviation over positions in one read of memory, and a backward that keeps the input alone.

A deviation needs the mean first, so a tensor is read twice; in blocks of instances that fit into the processor's
cache the second read is not one of memory, and what lies between never leaves the cache. The deviation is taken
from the mean itself, not from a difference of large sums, so that large offsets cost no digits.
Shapes: x (B, L, D), valid (B, L) or (B, 1) -> (B, 2D).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from concordant.calibration.fused import SMALLEST_VARIANCE, pool_gradient

BLOCK = 1 << 20  # bytes; about what the cache next to a core holds


def blocks(x: Tensor) -> Iterator[slice]:
    """Yield ranges of instances of x (B, ...), each of about `BLOCK` bytes; all at once on other devices than CPUs."""
    size = x.shape[0]
    rows = size
    if x.device.type == "cpu" and size:
        rows = max(1, BLOCK // max(1, x[0].numel() * x.element_size()))
    for start in range(0, size, max(rows, 1)):
        yield slice(start, min(start + rows, size))


def pooled_in_blocks(x: Tensor, valid: Tensor | None) -> Tensor:
    """Return mean and standard deviation over valid positions; see `concordant.calibration.summary.pool`."""
    if torch.is_grad_enabled() and x.requires_grad:
        result: Tensor = _Pool.apply(x, valid)  # type: ignore[no-untyped-call]
        return result
    return _forward(x, valid)


def _forward(x: Tensor, valid: Tensor | None) -> Tensor:
    dtype = torch.promote_types(x.dtype, torch.float32)
    everywhere = valid is None or valid.shape[1] == 1  # but for absent instances, which follow below
    found = []
    for rows in blocks(x):
        part = x[rows]
        mean, variance = _whole(part, dtype) if everywhere else _masked(part, valid[rows], dtype)  # type: ignore[index]
        found.append(torch.cat([mean, variance.add_(SMALLEST_VARIANCE).sqrt_()], 1))
    if not found:
        return torch.empty((0, 2 * x.shape[2]), dtype=dtype, device=x.device)
    result = found[0] if len(found) == 1 else torch.cat(found)
    if valid is not None and valid.shape[1] == 1:
        width = x.shape[2]
        nothing = torch.zeros(2 * width, dtype=dtype, device=x.device)
        nothing[width:] = SMALLEST_VARIANCE**0.5
        result = torch.where(valid, result, nothing)
    return result


def _whole(part: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return mean and variance over all positions."""
    mean = part.mean(1, dtype=dtype)
    return mean, (part - mean.unsqueeze(1)).square_().mean(1)


def _masked(part: Tensor, keep: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return mean and variance over the positions at `keep` (B, L).

    Weights of 0 leave positions out without a copy, unless those hold what times 0 is not 0: then they are
    cleared first.
    """
    weight = keep.unsqueeze(1).to(dtype)  # (B, 1, L)
    count = keep.sum(1, keepdim=True).clamp_(min=1)
    part = part.to(dtype)
    mean = torch.bmm(weight, part).squeeze(1) / count
    variance = torch.bmm(weight, (part - mean.unsqueeze(1)).square_()).squeeze(1) / count
    if bool(torch.isfinite(mean.sum() + variance.sum())):
        return mean, variance
    away = ~keep.unsqueeze(2)
    part = part.masked_fill(away, 0)
    mean = torch.bmm(weight, part).squeeze(1) / count
    deviation = (part - mean.unsqueeze(1)).masked_fill_(away, 0)
    return mean, torch.bmm(weight, deviation.square_()).squeeze(1) / count


class _Pool(Function):
    """The same with a gradient; what is saved is the input, its mask and the result."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, valid: Tensor | None) -> Tensor:  # noqa: ANN401 - PyTorch's context
        result = _forward(x, valid)
        ctx.save_for_backward(x, valid, result)
        return result

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # noqa: ANN401
        x, valid, result = ctx.saved_tensors
        if torch.is_grad_enabled():  # somebody wants a gradient of this gradient
            return pool_gradient(gradient, x, valid, result), None
        mean, deviation = result.chunk(2, 1)
        to_mean, to_deviation = gradient.chunk(2, 1)
        count: Tensor | int = x.shape[1]
        if valid is not None and valid.shape[1] > 1:
            count = valid.sum(1, keepdim=True).clamp(min=1)
        to_mean, slope = to_mean / count, to_deviation / (deviation * count)
        mean, to_mean, slope = mean.unsqueeze(1), to_mean.unsqueeze(1), slope.unsqueeze(1)  # (B, 1, D)
        away = None if valid is None else ~valid.unsqueeze(2)  # (B, L, 1) or (B, 1, 1)
        result = torch.empty_like(x)
        for rows in blocks(x):
            part = (x[rows] - mean[rows]).mul_(slope[rows]).add_(to_mean[rows])
            result[rows] = part if away is None else part.masked_fill_(away[rows], 0)
        return result, None

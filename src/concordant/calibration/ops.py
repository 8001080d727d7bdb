"""The two operations on full-sized features: `pool` reads them to summarise, `scale` reads and writes them.

The one place for speed. `_pool` and `_scale` define the results; they serve small features, and every compiler and
transform. Large features in eager mode go through the same formulas in blocks of instances that fit into the
processor's cache, each step written over the one before, with a backward that keeps the inputs alone.
Shapes: `pool` takes x (B, L, D) and valid (B, L) or (B, 1); `scale` takes x in any layout, and what broadcasts over it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.forward_ad import unpack_dual

from concordant.modalities import values_are_known

BLOCK = 1 << 20  # bytes of features per block; about the size of the cache next to a core
SMALLEST_VARIANCE = 1e-8  # added to variances over positions, which gives a constant sequence a gradient
LARGEST = 1e15  # summaries and spreads take larger values as this one, whose squares still add up in float32


def pool(x: Tensor, valid: Tensor | None = None) -> Tensor:
    """Return the mean over valid positions and the standard deviation beside it, (B, L, D) -> (B, 2D).

    Args:
        x: (B, L, D), any floating dtype; sums run in float32 or, for float64 input, in float64. Values beyond
            `LARGEST` count as `LARGEST`.
        valid: bool (B, L) or (B, 1); None = all. Positions that are not valid have no influence at all, whatever
            they hold (NaN included), in forward and backward; a row without a valid position has a mean of 0.
    """
    if values_are_known() and x.numel() * x.element_size() > BLOCK and not _forward_mode(x):
        found: Tensor = _Pool.apply(x, valid)  # type: ignore[no-untyped-call]
        return found
    return _pool(x, valid)


def scale(x: Tensor, factor: Tensor, valid: Tensor | None = None, *, axis: int = 0) -> Tensor:
    """Return x times its factor where valid, within the range of its dtype; elsewhere x, with 0 for NaN and infinity.

    Args:
        x: features in their layout.
        factor: of the dtype of x; broadcasts over x, as `valid` does.
        valid: bool; None = everywhere.
        axis: of the instances.
    """
    # In this order: a question about sizes would fix them in an exported graph.
    if values_are_known() and x.numel() * x.element_size() > BLOCK and not _forward_mode(x, factor):
        found: Tensor = _Scale.apply(x, factor, valid, axis)  # type: ignore[no-untyped-call]
        return found
    return _scale(x, factor, valid)


def clear(x: Tensor, valid: Tensor) -> Tensor:
    """Return x as it is, but for NaN and infinity where it is not valid, which become 0; see `scale`."""
    if values_are_known() and bool(x.detach().sum(dtype=torch.promote_types(x.dtype, torch.float32)).isfinite()):
        return x  # spares the copy
    return torch.where(valid, x, torch.nan_to_num(x, nan=0.0, posinf=0.0, neginf=0.0))


def _forward_mode(*tensors: Tensor) -> bool:
    """Return whether a forward-mode derivative is asked for, which the functions in blocks do not have."""
    return any(unpack_dual(one).tangent is not None for one in tensors)  # type: ignore[no-untyped-call]


def _blocks(x: Tensor) -> Iterator[slice]:
    """Yield ranges of instances of about `BLOCK` bytes each; all instances at once on other devices than CPUs."""
    rows = max(1, BLOCK // max(1, x[0].numel() * x.element_size())) if x.device.type == "cpu" else len(x)
    for start in range(0, len(x), rows):
        yield slice(start, min(start + rows, len(x)))


def _of(valid: Tensor | None, rows: slice) -> Tensor | None:
    return None if valid is None else valid[rows]


def bounded(x: Tensor, out: Tensor | None = None) -> Tensor:
    """Return x in float32, or float64 if it is, cut to [-LARGEST, LARGEST]; no sum of its squares overflows then."""
    return torch.clamp(x.to(torch.promote_types(x.dtype, torch.float32)), -LARGEST, LARGEST, out=out)


def _pool(x: Tensor, valid: Tensor | None, out: Tensor | None = None) -> Tensor:
    """Return what `pool` does; each step is written to `out`, of the shape of x, or None = to new memory."""
    x = bounded(x, out)
    # The deviation is taken from the mean, not from a difference of large sums: large offsets cost no digits.
    if valid is None:
        mean = x.mean(1)
        deviation = torch.sub(x, mean.unsqueeze(1), out=out)
        variance = torch.square(deviation, out=out).mean(1)
    else:
        keep, nothing = valid.unsqueeze(2), x.new_zeros(())  # (B, L, 1) or (B, 1, 1)
        count = valid.expand(-1, x.shape[1]).sum(1, keepdim=True).clamp(min=1)  # (B, 1)
        x = torch.where(keep, x, nothing, out=out)
        mean = x.sum(1) / count
        deviation = torch.where(keep, torch.sub(x, mean.unsqueeze(1), out=out), nothing, out=out)
        variance = torch.square(deviation, out=out).sum(1) / count
    return torch.cat([mean, (variance + SMALLEST_VARIANCE).sqrt()], 1)


def _scale(x: Tensor, factor: Tensor, valid: Tensor | None, out: Tensor | None = None) -> Tensor:
    """Return what `scale` does; written to `out`, or None = to new memory."""
    most = torch.finfo(x.dtype).max
    if valid is None:
        return torch.clamp(torch.mul(x, factor, out=out), -most, most, out=out)
    # The inner choice keeps NaN where x is not valid out of the gradient of the factor.
    scaled = torch.mul(torch.where(valid, x, x.new_zeros(()), out=out), factor, out=out)
    scaled = torch.clamp(scaled, -most, most, out=out)
    return torch.where(valid, scaled, torch.nan_to_num(x, nan=0.0, posinf=0.0, neginf=0.0), out=out)


def _plainly(above: Tensor) -> bool:
    """Return whether a backward pass takes the plain formula: its gradient is wanted, or it is one of many at once."""
    # Autograd hides the level of vmap from a backward pass, but not the kind of its tensors, of which there are two.
    of = torch._C._functorch
    return torch.is_grad_enabled() or of.is_batchedtensor(above) or of.is_legacy_batchedtensor(above)


def _plain_gradients(
    formula: Callable[..., Tensor], inputs: Sequence[Tensor | None], wanted: Sequence[bool], above: Tensor
) -> list[Tensor | None]:
    """Return the gradients of a formula with respect to the wanted inputs, None for the others."""
    further = torch.is_grad_enabled()
    with torch.enable_grad():
        # Views: a factor that is computed from x must not pass its gradient on to x here as well.
        given = [None if one is None else one.view_as(one) for one in inputs]
        asked = [one for one, yes in zip(given, wanted, strict=True) if yes and one is not None]
        found = iter(torch.autograd.grad(formula(*given), asked, above, create_graph=further))
    return [next(found) if yes else None for yes in wanted]


class _Pool(Function):
    """`_pool` in blocks; saves the input, the mask and the result."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, valid: Tensor | None) -> Tensor:  # noqa: ANN401 - PyTorch's context
        found, room = [], torch.empty(0, dtype=torch.promote_types(x.dtype, torch.float32), device=x.device)
        for rows in _blocks(x):
            room = room if len(room) else room.new_empty(x[rows].shape)  # of the first block, the longest
            found.append(_pool(x[rows], _of(valid, rows), room[: rows.stop - rows.start]))
        result = torch.cat(found)
        ctx.save_for_backward(x, valid, result)
        return result

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, None]:  # noqa: ANN401
        x, valid, result = ctx.saved_tensors
        if _plainly(gradient):
            return _plain_gradients(_pool, (x, valid), (True, False), gradient)[0], None
        count: Tensor | int = x.shape[1]
        if valid is not None:
            count = valid.expand(-1, x.shape[1]).sum(1, keepdim=True).clamp(min=1)
        mean, deviation = result.unsqueeze(1).chunk(2, 2)  # (B, 1, D)
        to_mean, to_deviation = (gradient / count).unsqueeze(1).chunk(2, 2)
        slope, to_x = to_deviation / deviation, torch.empty_like(x)
        for rows in _blocks(x):
            into = to_x[rows]
            these = bounded(x[rows], into if x.dtype == mean.dtype else None)
            these.sub_(mean[rows]).mul_(slope[rows]).add_(to_mean[rows])
            if valid is not None:
                these.masked_fill_(~valid[rows].unsqueeze(2), 0)
            if these is not into:  # half precision
                into.copy_(these)
        return to_x, None


class _Scale(Function):
    """`_scale` in blocks; saves the input, the factor and the mask."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: Tensor, valid: Tensor | None, axis: int) -> Tensor:  # noqa: ANN401
        ctx.save_for_backward(x, factor, valid)
        ctx.axis, result = axis, torch.empty_like(x)
        into, x, factor = (tensor.movedim(axis, 0) for tensor in (result, x, factor))
        keep = None if valid is None else valid.movedim(axis, 0)
        for rows in _blocks(x):
            _scale(x[rows], factor[rows], _of(keep, rows), into[rows])
        return result

    @staticmethod
    def backward(ctx: Any, above: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:  # noqa: ANN401
        x, factor, valid = ctx.saved_tensors
        for_x, for_factor = ctx.needs_input_grad[:2]
        if _plainly(above):
            to_x, to_factor, _ = _plain_gradients(_scale, (x, factor, valid), (for_x, for_factor, False), above)
            return to_x, to_factor, None, None
        to_x, to_factor = torch.empty_like(x if for_x else factor), torch.empty_like(factor)
        above, x, factor = (tensor.movedim(ctx.axis, 0) for tensor in (above, x, factor))
        into_x, into_factor = to_x.movedim(ctx.axis, 0), to_factor.movedim(ctx.axis, 0)
        keep = None if valid is None else valid.movedim(ctx.axis, 0)
        for rows in _blocks(x):
            here = _of(keep, rows)
            if for_x:
                product = torch.mul(above[rows], factor[rows], out=into_x[rows])
                if here is not None:
                    torch.where(here, product, above[rows] * x[rows].isfinite(), out=product)
            if for_factor:
                product = above[rows] * x[rows]
                product = product if here is None else product.masked_fill_(~here, 0)
                into_factor[rows] = product.sum_to_size(factor[rows].shape)
        return to_x if for_x else None, to_factor if for_factor else None, None, None

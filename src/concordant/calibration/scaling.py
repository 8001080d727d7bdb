"""The features times one number a feature: the only full-sized tensor that a calibrator makes.

What is not valid passes as it is, but for NaN and infinity, which become 0.
Shapes: x in its layout, scale (B, D), valid (B, L) or (B, 1).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from concordant.calibration import fused
from concordant.calibration.finite import surely_finite
from concordant.calibration.fused import scale_gradients
from concordant.calibration.pooling import BLOCK, blocks
from concordant.calibration.summary import valid_positions
from concordant.calibration.tracing import values_are_known
from concordant.modalities import Layout, ModalityBatch, from_positions, over_features, over_positions, to_positions

FEWEST = 1 << 18  # bytes, up to which the fewest operations are the quickest where gradients are wanted


def scaled(x: Tensor, scale: Tensor, layout: Layout, valid: Tensor | None = None) -> Tensor:
    """Return features times their scale.

    Args:
        x: features in `layout`.
        scale: (B, D), of the same dtype.
        layout: where the axes are.
        valid: bool (B, L) or (B, 1), True where features are scaled; None = everywhere.
    """
    factor = over_features(scale, layout)
    keep = None if valid is None else over_positions(valid, x, layout)
    if not values_are_known():
        return _plain(x, factor, keep)
    size = x.numel() * x.element_size()
    if keep is None and size <= BLOCK:
        return x * factor
    learns = torch.is_grad_enabled() and (x.requires_grad or scale.requires_grad)
    on_cpu = x.device.type == "cpu"  # elsewhere a choice costs no more than a product
    if keep is not None and size <= (FEWEST if learns and on_cpu else BLOCK):
        if not surely_finite(x):
            return _plain(x, factor, keep)
        return torch.where(keep, x * factor, x) if learns or not on_cpu else x * _only(factor, keep)
    if fused.fused(x):
        flat = to_positions(x, layout)
        if flat.data_ptr() == x.data_ptr():  # a view
            return from_positions(fused.scaled(flat, scale, valid), x, layout)
    if learns:
        result: Tensor = _Scale.apply(x, factor, keep, layout)  # type: ignore[no-untyped-call]
        return result
    return _forward(x, factor, keep, layout)


def pass_on(batch: ModalityBatch) -> dict[str, Tensor]:
    """Return a batch's features as they are, but for NaN and infinity where they are not valid, which become 0."""
    if batch.all_present:
        return dict(batch.features)
    found = {}
    for name, x in batch.features.items():
        if values_are_known() and surely_finite(x):
            found[name] = x
            continue
        valid = valid_positions(batch.column(name), batch.masks.get(name))
        found[name] = torch.where(over_positions(valid, x, batch.layouts[name]), x, _cleared(x))
    return found


def _plain(x: Tensor, factor: Tensor, keep: Tensor | None) -> Tensor:
    """Return the result from operations that every transform and every export knows."""
    if keep is None:
        return x * factor
    return torch.where(keep, torch.where(keep, x, 0) * factor, _cleared(x))


def _cleared(x: Tensor) -> Tensor:
    return torch.nan_to_num(x, nan=0.0, posinf=0.0, neginf=0.0)


def _forward(x: Tensor, factor: Tensor, keep: Tensor | None, layout: Layout) -> Tensor:
    result = torch.empty_like(x)
    x, factor, target = (t.movedim(layout.batch, 0) for t in (x, factor, result))
    keep = None if keep is None else keep.movedim(layout.batch, 0)
    for rows in blocks(x):
        _multiply(target[rows], x[rows], factor[rows], None if keep is None else keep[rows], layout)
    return result


def _only(factor: Tensor, keep: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Return the factor where it is to be used, and exactly 1 elsewhere: faster than a choice for every product."""
    kept = keep.to(factor.dtype)
    return torch.mul(kept, factor, out=out).add_(1 - kept)


def _multiply(
    into: Tensor, values: Tensor, factor: Tensor, keep: Tensor | None, layout: Layout, *, finite: Tensor | None = None
) -> None:
    """Write values times factor, where they are to be kept; elsewhere values, or 0 where `_restore` says so."""
    if keep is None:
        torch.mul(values, factor, out=into)
        return
    # Where every position has a factor of its own they are made in place, so that nothing else of this size is.
    own = keep.numel() * into.shape[layout.feature] == into.numel()
    torch.mul(values, _only(factor, keep, out=into if own else None), out=into)
    if not surely_finite(into if finite is None else finite):
        _restore(into, values, keep, layout, finite=finite)


def _restore(into: Tensor, values: Tensor, keep: Tensor, layout: Layout, *, finite: Tensor | None = None) -> None:
    """Write values over what is not to be kept; where they (or `finite`, if given) are not finite, write 0."""
    judged = values if finite is None else finite
    if layout.feature == len(layout.name) - 1 and into.is_contiguous() and values.is_contiguous():
        # Whole steps at a time: much faster than a choice for every number.
        away = (~keep).expand(*into.shape[:-1], 1).flatten().nonzero().squeeze(1)
        taken = values.flatten(0, -2).index_select(0, away)
        judged = taken if finite is None else finite.flatten(0, -2).index_select(0, away)
        if not surely_finite(judged):
            taken = torch.where(torch.isfinite(judged), taken, 0)
        into.flatten(0, -2).index_copy_(0, away, taken)
        return
    if not surely_finite(judged):
        values = torch.where(torch.isfinite(judged), values, 0)
    torch.where(keep, into, values, out=into)


class _Scale(Function):
    """The same with a gradient; what is saved is the input, the scale and the mask."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: Tensor, keep: Tensor | None, layout: Layout) -> Tensor:  # noqa: ANN401
        ctx.save_for_backward(x, factor, keep)
        ctx.layout = layout
        return _forward(x, factor, keep, layout)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:  # noqa: ANN401
        x, factor, keep = ctx.saved_tensors
        layout: Layout = ctx.layout
        if torch.is_grad_enabled():  # somebody wants a gradient of this gradient
            return *scale_gradients(gradient, x, factor, keep), None, None
        for_x, for_factor = ctx.needs_input_grad[:2]
        to_x = torch.empty_like(x) if for_x else None
        to_factor = torch.empty_like(factor) if for_factor else None
        axis = layout.batch
        gradient, x, factor = (t.movedim(axis, 0) for t in (gradient, x, factor))
        keep = None if keep is None else keep.movedim(axis, 0)
        for rows in blocks(x):
            above, part = gradient[rows], x[rows]
            kept = None if keep is None else keep[rows]
            if to_x is not None:
                into = to_x.movedim(axis, 0)[rows]
                _multiply(into, above, factor[rows], kept, layout, finite=part)
            if to_factor is not None:
                product = above * part
                if kept is not None:
                    product.masked_fill_(~kept, 0)
                into = to_factor.movedim(axis, 0)[rows]
                into.copy_(product.sum_to_size(into.shape))
        return to_x, to_factor, None, None

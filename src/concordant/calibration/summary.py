"""Summaries: one vector an instance and modality, pooled over valid positions and standardised.

A vector is its own summary. For sequences and maps the standard deviation over positions is appended to
the mean, because noise on the input averages out of a mean and is invisible there.
Shapes: features (B, L, D) -> summary (B, S) with S = D, or 2D with the standard deviation; energy (B, E)
with E = 1 or 2.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from concordant.calibration import fused
from concordant.calibration.fused import SMALLEST_VARIANCE
from concordant.calibration.pooling import pooled_in_blocks
from concordant.calibration.tracing import values_are_known

FLOOR = 1e-4  # added to variances and mean squares before roots and logarithms
CLIP = 5.0  # standardised summaries and energies are cut here
SMALLEST_STEP = 0.05  # the running statistics forget with this step, after a plain average at first


def valid_positions(present: Tensor, mask: Tensor | None) -> Tensor:
    """Return where a modality's features count: bool (B, L), or (B, 1) when it has no mask."""
    return present.unsqueeze(1) if mask is None else mask & present.unsqueeze(1)


def pool(x: Tensor, valid: Tensor | None = None, *, spread: bool) -> Tensor:
    """Return the mean over valid positions and, with `spread`, the standard deviation beside it.

    Args:
        x: (B, L, D), any floating dtype; sums run in float32 or, for float64 input, in float64.
        valid: bool (B, L) or (B, 1); None = all. Positions that are not valid have no influence at all,
            whatever they hold (NaN included), in forward and backward; a row without a valid position is 0.
        spread: append the standard deviation over the valid positions (of the population, not a sample).

    Returns:
        (B, D) or (B, 2D).
    """
    if x.shape[1] == 1:
        return _of_vectors(x.squeeze(1), valid, spread=spread)
    if spread and fused.fused(x):
        return fused.pooled(x, valid)[0]
    if spread and values_are_known():
        return pooled_in_blocks(x, valid)
    dtype = torch.promote_types(x.dtype, torch.float32)
    if valid is None:
        mean = x.mean(1, dtype=dtype)
        if not spread:
            return mean
        variance = (x - mean.unsqueeze(1)).square().mean(1)  # much faster than var() on permuted maps
        return torch.cat([mean, (variance + SMALLEST_VARIANCE).sqrt()], 1)
    keep = valid.unsqueeze(-1).expand(-1, x.shape[1], -1)  # (B, L, 1)
    clean = torch.where(keep, x, 0).to(dtype)
    count = keep.sum(1).clamp(min=1)  # (B, 1)
    mean = clean.sum(1) / count
    if not spread:
        return mean
    deviation = torch.where(keep, clean - mean.unsqueeze(1), 0)
    return torch.cat([mean, (deviation.square().sum(1) / count + SMALLEST_VARIANCE).sqrt()], 1)


def pool_and_judge(x: Tensor, valid: Tensor | None = None, *, spread: bool) -> tuple[Tensor, Tensor]:
    """Return the same, and bool (B,), whether all that is valid is finite: one read, of features that kernels take."""
    if spread and x.shape[1] > 1:
        return fused.pooled(x, valid)
    summary = pool(x, valid, spread=spread)
    return summary, torch.isfinite(summary).all(1)


def emptied(summary: Tensor, keep: Tensor, *, spread: bool) -> Tensor:
    """Return summaries with those of an absent modality where `keep` (B,) is False."""
    nothing = torch.zeros_like(summary)
    if spread:
        nothing[:, summary.shape[1] // 2 :] = SMALLEST_VARIANCE**0.5
    return torch.where(keep.unsqueeze(1), summary, nothing)


def _of_vectors(x: Tensor, valid: Tensor | None, *, spread: bool) -> Tensor:
    """Return the summary of vectors (B, D): themselves, and no deviation."""
    mean = x.to(torch.promote_types(x.dtype, torch.float32))
    if valid is not None:
        mean = torch.where(valid, mean, 0)
    return torch.cat([mean, torch.full_like(mean, SMALLEST_VARIANCE**0.5)], 1) if spread else mean


def energy(summary: Tensor, *, spread: bool) -> Tensor:
    """Return the logarithm of a summary's root mean square: (..., S) -> (..., 1), or (..., 2), one for each half.

    An emptied modality has an energy far below its usual one; standardising would hide nothing of that.
    """
    count = 2 if spread else 1
    halves = summary.view(*summary.shape[:-1], count, summary.shape[-1] // count)  # (..., E, D)
    # The division after the sum: a mean's gradient is divided at its full size.
    return 0.5 * (halves.square().sum(-1) / halves.shape[-1] + FLOOR).log()


class RunningStandardiser(nn.Module):
    """Standardises with running statistics, learnt from untouched, present instances only.

    The same statistics serve training and evaluation, so that an instance's result never depends on the
    others of its batch in evaluation, and an emptied modality is not blown up to a normal-looking one as a
    normalisation over features would.

    Args:
        size: number of columns S.
    """

    mean: Tensor
    variance: Tensor
    updates: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("variance", torch.ones(size))
        self.register_buffer("updates", torch.zeros(()))

    @torch.no_grad()
    def update(self, values: Tensor, rows: Tensor) -> None:
        """Move the statistics towards those of `values` (B, S) at the True `rows` (B,), step max(0.05, 1/n).

        A batch whose statistics overflow is left out: they would never recover from it.
        """
        keep = rows.unsqueeze(1)
        count = keep.sum()
        mean = torch.where(keep, values, 0).sum(0) / count.clamp(min=1)
        variance = torch.where(keep, (values - mean).square(), 0).sum(0) / count.clamp(min=1)
        # One row has no variance.
        usable = (count > 1) & mean.isfinite().all() & variance.isfinite().all()
        self.updates += usable
        step = (1 / self.updates.clamp(min=1)).clamp(min=SMALLEST_STEP)
        for old, new in ((self.mean, mean), (self.variance, variance)):
            moved = torch.lerp(old, new.to(old.dtype), step.to(old.dtype))
            old.copy_(torch.where(usable, moved, old))

    def forward(self, values: Tensor) -> Tensor:
        """Return (values - mean) / sqrt(variance + 1e-4), cut to [-5, 5]; shape (B, S)."""
        # Copies, because a later update writes in place what this call's backward would need.
        mean, variance = self.mean.to(values.dtype, copy=True), self.variance.to(values.dtype, copy=True)
        return ((values - mean) / (variance + FLOOR).sqrt()).clamp(-CLIP, CLIP)


def standardise_together(
    parts: Sequence[tuple[RunningStandardiser, RunningStandardiser]], values: Tensor, rows: Tensor | None
) -> Tensor:
    """Standardise what several modalities of one size have, each by its own statistics; the same as one by one.

    Args:
        parts: the standardisers of each modality, of its summary and of its energies.
        values: summaries and energies side by side, (M, B, S + E).
        rows: bool (M, B), what the statistics learn from first; None = nothing.

    Returns:
        (M, B, S + E).
    """
    if rows is not None and values_are_known():
        _learn_together(parts, values.detach(), rows)
    every = [standardiser for pair in parts for standardiser in pair]
    shape = (len(parts), values.shape[2])
    # Side by side they are copies, which a later update does not change.
    mean = torch.cat([standardiser.mean for standardiser in every]).view(shape)
    variance = torch.cat([standardiser.variance for standardiser in every]).view(shape)
    if rows is not None and not values_are_known():
        mean, variance = _learn_unseen(parts, mean, variance, values.detach(), rows)
    mean, variance = mean.to(values.dtype).unsqueeze(1), variance.to(values.dtype).unsqueeze(1)
    return F.hardtanh((values - mean) / (variance + FLOOR).sqrt(), -CLIP, CLIP)


@torch.no_grad()
def _learn_together(
    parts: Sequence[tuple[RunningStandardiser, RunningStandardiser]], values: Tensor, rows: Tensor
) -> None:
    """Update all statistics at once where all can be; else one by one."""
    every = [standardiser for pair in parts for standardiser in pair]
    widths = [len(standardiser.mean) for standardiser in every]
    mean, variance, count = _statistics_of(values, rows)
    updates = {*torch.stack([standardiser.updates for standardiser in every]).tolist()}
    usable = bool(torch.isfinite((mean + variance).sum()) & (count > 1).all())
    if len(updates) > 1 or not usable or every[0].mean.dtype != values.dtype:
        for index, pair in enumerate(parts):
            width = len(pair[0].mean)
            pair[0].update(values[index, :, :width], rows[index])
            pair[1].update(values[index, :, width:], rows[index])
        return
    step = max(SMALLEST_STEP, 1 / (updates.pop() + 1))
    torch._foreach_lerp_([standardiser.mean for standardiser in every], torch.split(mean.flatten(), widths), step)
    torch._foreach_lerp_(
        [standardiser.variance for standardiser in every], torch.split(variance.flatten(), widths), step
    )
    torch._foreach_add_([standardiser.updates for standardiser in every], 1)


@torch.no_grad()
def _learn_unseen(
    parts: Sequence[tuple[RunningStandardiser, RunningStandardiser]],
    mean: Tensor,
    variance: Tensor,
    values: Tensor,
    rows: Tensor,
) -> tuple[Tensor, Tensor]:
    """Update all statistics, which are given side by side, where no value may be looked at; return what they became.

    Where something is not finite in any row, nothing is learnt from the batch.
    """
    new_mean, new_variance, count = _statistics_of(values, rows)
    width = len(parts[0][0].mean)
    pieces = [width, values.shape[2] - width]
    finite = torch.split(torch.isfinite(new_mean + new_variance), pieces, 1)
    usable = torch.stack([piece.all(1) for piece in finite], 1) & (count > 1)  # (M, 2)
    updates = torch.stack([standardiser.updates for pair in parts for standardiser in pair]).view(-1, 2) + usable
    step = torch.where(usable, (1 / updates.clamp(min=1)).clamp(min=SMALLEST_STEP), 0)

    def along(value: Tensor) -> Tensor:
        """Bring what is one number a standardiser, (M, 2), beside the statistics, (M, S + E)."""
        return torch.cat([value[:, :1].expand(-1, width), value[:, 1:].expand(-1, pieces[1])], 1)

    step, taken = along(step).to(mean.dtype), along(usable)
    moved = []
    for old, new in ((mean, new_mean), (variance, new_variance)):
        moved.append(torch.lerp(old, torch.where(taken, new.to(old.dtype), old), step))
    for index, pair in enumerate(parts):
        for place, standardiser in enumerate(pair):
            columns = slice(None, width) if place == 0 else slice(width, None)
            standardiser.mean.copy_(moved[0][index, columns])
            standardiser.variance.copy_(moved[1][index, columns])
            standardiser.updates.copy_(updates[index, place])
    return moved[0], moved[1]


def _statistics_of(values: Tensor, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return mean and variance over the True rows, (M, S + E), and how many these are, (M, 1).

    What is not finite in another row spoils both, and is then found in them.
    """
    weight = rows.to(values.dtype).contiguous().unsqueeze(2)  # (M, B, 1); faster than a choice
    count = rows.sum(1, keepdim=True)
    some = count.clamp(min=1)
    mean = (values * weight).sum(1) / some
    return mean, ((values - mean.unsqueeze(1)).square() * weight).sum(1) / some, count

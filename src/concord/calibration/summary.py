"""Summaries: one vector an instance and modality, pooled over valid positions and standardised.

A vector is its own summary. For sequences and maps the standard deviation over positions is appended to
the mean, because noise on the input averages out of a mean and is invisible there.
Shapes: features (B, L, D) -> summary (B, S) with S = D, or 2D with the standard deviation; energy (B, E)
with E = 1 or 2.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from concord.calibration.pooling import SMALLEST_VARIANCE, pooled_in_blocks
from concord.calibration.tracing import values_are_known

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


def _of_vectors(x: Tensor, valid: Tensor | None, *, spread: bool) -> Tensor:
    """Return the summary of vectors (B, D): themselves, and no deviation."""
    mean = x.to(torch.promote_types(x.dtype, torch.float32))
    if valid is not None:
        mean = torch.where(valid, mean, 0)
    return torch.cat([mean, torch.full_like(mean, SMALLEST_VARIANCE**0.5)], 1) if spread else mean


def energy(summary: Tensor, *, spread: bool) -> Tensor:
    """Return the logarithm of a summary's root mean square: (B, 1), or (B, 2), one for each half.

    An emptied modality has an energy far below its usual one; standardising would hide nothing of that.
    """
    halves = summary.chunk(2, 1) if spread else (summary,)
    return torch.stack([0.5 * (half.square().mean(1) + FLOOR).log() for half in halves], 1)


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

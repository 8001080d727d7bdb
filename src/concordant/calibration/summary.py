"""Steps 1 and 2: one vector per instance and modality, pooled over its valid positions and standardised.

A vector is its own summary. For sequences and maps the standard deviation over positions stands beside the mean,
because noise on the input averages out of a mean and is invisible there.
Shapes: features (B, L, D) -> summary (B, S) with S = D, or 2D with the deviation; energy (B, E) with E = 1 or 2.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Self

import torch
from torch import Tensor, nn

from concordant.calibration.ops import LARGEST, SMALLEST_VARIANCE, bounded, pool

FLOOR = 1e-4  # added to variances before roots
# Added to mean squares before logarithms: far below the square of any feature in use. With 1e-4, features whose energy
# varies widely reach the floor while they are intact, and an emptied modality cannot be told from them.
SMALLEST_ENERGY = 1e-12
CLIP = 5.0  # standardised summaries and energies are cut here
SMALLEST_STEP = 0.05  # of the running statistics, which are a plain average of the first 20 batches


def summarise(x: Tensor, valid: Tensor | None = None, *, spread: bool) -> Tensor:
    """Return the mean over valid positions and, with `spread`, the standard deviation beside it.

    Args:
        x: (B, L, D), any floating dtype; the summary is float32 or, for float64 input, float64.
        valid: bool (B, L) or (B, 1); None = all. What is not valid has no influence at all, NaN included; a row
            without a valid position is 0.
        spread: append the standard deviation over the valid positions (of the population, not a sample).

    Returns:
        (B, D) or (B, 2D).
    """
    if x.shape[1] != 1:  # not "> 1", which would fix the length in an exported graph
        both = pool(x, valid)
        return both if spread else both[:, : x.shape[2]]
    mean = bounded(x.squeeze(1))
    if valid is not None:
        mean = torch.where(valid, mean, 0)
    return torch.cat([mean, torch.full_like(mean, SMALLEST_VARIANCE**0.5)], 1) if spread else mean


def energy(summary: Tensor, *, spread: bool) -> Tensor:
    """Return the logarithm of a summary's root mean square: (B, S) -> (B, 1), or (B, 2), one per half.

    The energy of an emptied modality is far below its usual one, and standardising keeps that.
    """
    count = 2 if spread else 1
    halves = summary.view(summary.shape[0], count, summary.shape[1] // count)  # (B, E, D)
    # The division follows the sum: the gradient of a mean would be divided at its full size.
    return 0.5 * (halves.square().sum(2) / halves.shape[2] + SMALLEST_ENERGY).log()


class RunningStandardiser(nn.Module):
    """Standardise with running statistics, learnt from clean, present instances only.

    Training and evaluation use the same statistics. An instance's result therefore never depends on the others of
    its batch in evaluation, and an emptied modality is not blown up to a normal-looking one, as by a layer norm.

    Args:
        size: number of columns, S. They are kept in float32 or more, whatever the precision of the model: variances
            are squares, and overflow half precision from values of 256 on.
    """

    mean: Tensor
    variance: Tensor
    updates: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        dtype = torch.promote_types(torch.get_default_dtype(), torch.float32)
        self.register_buffer("mean", torch.zeros(size, dtype=dtype))
        self.register_buffer("variance", torch.ones(size, dtype=dtype))
        self.register_buffer("updates", torch.zeros((), dtype=dtype))

    def forward(self, values: Tensor) -> Tensor:
        """Return (values - mean) / sqrt(variance + 1e-4), cut to [-5, 5]; shape (B, S)."""
        return standardise([self], values)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        before = dict(self._buffers)
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, now in self._buffers.items():
            was = before[name]
            if now is not None and was is not None and now.dtype in (torch.float16, torch.bfloat16):
                # From the values before, which half precision has cut.
                self._buffers[name] = was.to(now.device)
        return self


@torch.no_grad()
def learn(standardisers: Sequence[RunningStandardiser], values: Tensor, rows: Tensor) -> None:
    """Move statistics towards those of the True rows, by a step of max(0.05, 1/n) in the n-th batch.

    A row with a value of `LARGEST` or beyond is left out: the statistics would not recover from its square.

    Args:
        standardisers: whose columns stand side by side in `values`; they have learnt from the same batches.
        values: (B, S_1 + S_2 + ...).
        rows: bool (B,).
    """
    rows = rows & (values.abs() < LARGEST).all(1)
    away, count = ~rows.unsqueeze(1), rows.sum()
    some = count.clamp(min=1)
    mean = values.masked_fill(away, 0).sum(0) / some
    variance = (values - mean).square().masked_fill(away, 0).sum(0) / some
    usable = count > 1  # one row has no variance
    for standardiser in standardisers:
        standardiser.updates += usable  # not copy_, which a compiled graph loses
    step = (1 / standardisers[0].updates.clamp(min=1)).clamp(min=SMALLEST_STEP) * usable
    start = 0
    for standardiser in standardisers:
        columns = slice(start, start + len(standardiser.mean))
        start = columns.stop
        for old, new in ((standardiser.mean, mean[columns]), (standardiser.variance, variance[columns])):
            old.copy_(torch.lerp(old, new.to(old.dtype), step.to(old.dtype)))  # vmap cannot batch lerp_


def standardise(standardisers: Sequence[RunningStandardiser], values: Tensor) -> Tensor:
    """Return (values - mean) / sqrt(variance + 1e-4), cut to [-5, 5]; arguments as for `learn`."""
    # Concatenation copies: a later update writes in place what the backward of this call would need.
    mean = torch.cat([standardiser.mean for standardiser in standardisers]).to(values.dtype)
    variance = torch.cat([standardiser.variance for standardiser in standardisers]).to(values.dtype)
    return ((values - mean) / (variance + FLOOR).sqrt()).clamp(-CLIP, CLIP)

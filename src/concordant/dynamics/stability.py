"""Stability of a training: the variance of its loss, spikes, and the sharpness of the minimum.

The variance is that of the per-step loss in the last half around its own trend; a spike is a step far above the steps
before it; sharpness is how much the loss rises when the weights are moved a little at random.
Shapes: losses (S,), one per step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from concordant import seeding
from concordant.errors import UsageError

WINDOW = 25  # steps of the running mean, and steps before a spike
TIMES = 6.0  # running median absolute deviations above the running median: a spike
SHIFT = 0.02  # norm of a random shift of a weight tensor, in norms of that tensor
DRAWS = 5  # random shifts that sharpness is the mean of
MEASURES = ("loss_variance", "spikes", "final_score", "sharpness")


def loss_variance(losses: Sequence[float] | NDArray[Any], *, window: int = WINDOW) -> float | None:
    """Return the variance of the loss around its trend, in the last half of the steps (the rest is warm-up).

    The trend is the centred running mean over `window` steps, an odd number, fewer where the half is shorter than two
    windows; only steps with a whole window count. A residual from a mean of w values that include its own is too small
    by the factor sqrt(1 - 1/w), which is corrected: for white noise the result is its variance, for a straight trend 0.
    None for fewer than 11 steps.

    Raises:
        UsageError: losses of a wrong shape or not finite, or an even window.
    """
    half = _checked(losses)[len(losses) // 2 :]
    if window < 3 or window % 2 == 0:
        raise UsageError(f"window must be odd and 3 or more; found {window}")
    width = min(window, len(half) // 2 - (len(half) // 2 + 1) % 2)  # the largest odd number up to a half of the half
    if width < 3:
        return None
    trend = np.lib.stride_tricks.sliding_window_view(half, width).mean(1)
    residuals = half[width // 2 : len(half) - width // 2] - trend
    return float((residuals**2).mean() * width / (width - 1))


def spikes(losses: Sequence[float] | NDArray[Any], *, window: int = WINDOW, times: float = TIMES) -> list[int]:
    """Return the steps, counted from 1, whose loss is far above the `window` steps before.

    Far above: more than `times` median absolute deviations over the median of those steps. The first `window` steps
    have too few before them and do not count. Deviations are taken as a millionth of the median at least: less is
    rounding.

    Raises:
        UsageError: losses of a wrong shape or not finite.

    >>> spikes([1.0, 1.1, 0.9] * 10 + [5.0] + [1.0, 1.1, 0.9] * 3)
    [31]
    """
    values = _checked(losses)
    if len(values) <= window:
        return []
    before = np.lib.stride_tricks.sliding_window_view(values, window)[:-1]  # (S - window, window)
    middle = np.median(before, axis=1)
    deviation = np.median(np.abs(before - middle[:, None]), axis=1)
    limit = middle + times * np.maximum(deviation, 1e-6 * np.abs(middle))
    return [int(step) for step in np.flatnonzero(values[window:] > limit) + window + 1]


def sharpness(
    model: nn.Module, measure: Callable[[], float], *, seed: int, draws: int = DRAWS, shift: float = SHIFT
) -> float | None:
    """Return the mean rise of the loss when every trainable weight tensor is moved at random by `shift` of its norm.

    `measure` returns the loss with the weights as they are. Directions are Gaussian, drawn by the parameter's name:
    twins are moved alike in the parts they share. The weights are restored bit for bit. None if a loss is not finite.
    """
    learned = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    kept = {name: weight.detach().clone() for name, weight in learned.items()}
    base = measure()
    rises = []
    for draw in range(draws):
        try:
            with torch.no_grad():
                for name, weight in learned.items():
                    direction = _direction(weight, seeding.generator(seed, "sharpness", draw, name))
                    weight.add_(direction, alpha=shift * float(kept[name].norm()))
            rises.append(measure() - base)
        finally:
            with torch.no_grad():
                for name, weight in learned.items():
                    weight.copy_(kept[name])
    mean = float(np.mean(rises))
    return mean if np.isfinite(mean) else None


def summarise(runs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return one entry per label: the number of seeds, mean and standard deviation of each measure over them.

    The deviation is that of a sample, None for fewer than two values; the mean is None without values. Runs have
    "label" and "stability", a mapping from measure to a number or None.
    """
    found = []
    for label in dict.fromkeys(run["label"] for run in runs):
        mine = [run["stability"] for run in runs if run["label"] == label]
        entry: dict[str, Any] = {"label": label, "seeds": len(mine)}
        for measure in MEASURES:
            values = [one[measure] for one in mine if one[measure] is not None]
            entry[measure] = {
                "mean": float(np.mean(values)) if values else None,
                "std": float(np.std(values, ddof=1)) if len(values) > 1 else None,
            }
        found.append(entry)
    return found


def _checked(losses: Sequence[float] | NDArray[Any]) -> NDArray[np.float64]:
    values = np.asarray(losses, dtype=np.float64)
    if values.ndim != 1:
        raise UsageError(f"losses must have the shape (S,), one per step; found {values.shape}")
    if not np.isfinite(values).all():
        raise UsageError(f"losses must be finite; found {values[~np.isfinite(values)][0]}")
    return values


def _direction(weight: Tensor, draws: torch.Generator) -> Tensor:
    """Return a random tensor of norm 1, drawn on the CPU for the sake of equal draws on every device."""
    drawn = torch.randn(weight.shape, generator=draws)
    direction: Tensor = drawn / drawn.norm().clamp(min=1e-12)
    return direction.to(weight)

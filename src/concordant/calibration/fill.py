"""Step 10: what the other modalities let one expect of a modality, in its own feature space.

A model that was trained without a calibrator seldom copes with features that are scaled towards zero. The expected
features stand in for what reliability takes away: x' = w g x + (1 - w) b, which is x bit for bit where w and g are 1.
Shapes: unit embeddings (B, M, K) -> expected features (B, D) per modality, in standardised units and in those of x.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from concordant.calibration.summary import FLOOR, RunningStandardiser

Fill = Literal["none", "mean", "context"]
Absent = Literal["keep", "fill"]
WEIGHT = 0.1  # of the loss
HIDDEN = 64


def predictor(others: int, k: int, size: int) -> nn.Sequential:
    """Return P, from the embeddings of the others to standardised features; it predicts the mean until trained."""
    last = nn.Linear(HIDDEN, size)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(nn.Linear(k * others, HIDDEN), nn.GELU(), last)


def evidence_of_others(order: Sequence[int], embeddings: Tensor, trust: Tensor) -> list[Tensor]:
    """Return the input of every modality's predictor, v_n z_n sqrt(K) of the others side by side: (B, K(M-1)) each.

    Args:
        order: the columns of all modalities, in an order that does not depend on the declaration's.
        embeddings: unit vectors z (B, M, K).
        trust: v (B, M), in [0, 1]; 0 where absent. It is a weight here and learns nothing from the fill.
    """
    parts = (embeddings * (trust.detach() * embeddings.shape[2] ** 0.5).unsqueeze(2)).unbind(1)
    return [torch.cat([parts[n] for n in order if n != m], 1) for m in range(len(parts))]


def in_feature_units(standardised: Tensor, standardiser: RunningStandardiser) -> Tensor:
    """Return mean + std * standardised, (B, D), by the running statistics of the summary's means."""
    size = standardised.shape[1]
    mean, variance = (x[:size].to(standardised.dtype) for x in (standardiser.mean, standardiser.variance))
    return mean + (variance + FLOOR).sqrt() * standardised


def misfit(standardised: Mapping[str, Tensor], summaries: Mapping[str, Tensor]) -> Tensor:
    """Return the mean square difference of expected and actual features in standardised units, (B, M)."""
    errors = [(b - summaries[name][:, : b.shape[1]].detach()).square().mean(1) for name, b in standardised.items()]
    return torch.stack(errors, 1)


def fill_loss(errors: Tensor, counted: Tensor) -> Tensor:
    """Return the mean of `misfit` over clean, present modalities, bool (B, M); 0 where there are none."""
    return torch.where(counted, errors, 0).sum() / counted.sum().clamp(min=1)


def blend(scaled: Tensor, reliability: Tensor, expected: Tensor, *, training: bool) -> Tensor:
    """Return scaled features plus (1 - w) b, within the range of their dtype.

    Args:
        scaled: w g x, in any layout.
        reliability: w; broadcasts over `scaled`, as `expected` does.
        expected: b.
        training: in evaluation what has a reliability of 1 is returned bit for bit, minus zeros included. In training
            the sum stays, whose gradient reaches a reliability of 1 too.
    """
    most = torch.finfo(scaled.dtype).max
    rest = 1 - reliability
    added = (scaled + (rest * expected).clamp(-most, most).to(scaled.dtype)).clamp(-most, most)
    return added if training else torch.where(rest == 0, scaled, added)

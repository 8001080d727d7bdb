"""Step 4: what each modality predicts by itself, and how sure it is.

Two modalities may disagree because one of them is wrong, or because one of them carries little information: a conflict
between confident predictions counts for more. Among the cues certainty therefore takes the place of energies, and the
overlap of two predictions that of a cosine (`concordant.calibration.comparison.cues`). The unimodal heads learn from
the labels of clean modalities, and their gradients reach the encoders; the cues do not teach the heads.
Shapes: logarithms of probabilities (B, M, C) -> certainty (B, M), overlap (B, M, M).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

CUE_SIZE = 4  # the comparison size whose scale, sqrt(K)/2, is one: overlaps spread over [-1, 1] already


def certainty(log_p: Tensor, present: Tensor) -> Tensor:
    """Return 1 - 2 H / log C with the entropy H, from -1 (all classes alike) to 1 (one class); 0 where absent.

    Args:
        log_p: logarithms of probabilities (B, M, C).
        present: bool (B, M).

    >>> log_p = torch.tensor([[[1.0, 0.0], [0.5, 0.5]]]).clamp(min=1e-9).log()
    >>> [round(one, 3) for one in certainty(log_p, torch.ones(1, 2, dtype=torch.bool))[0].tolist()]
    [1.0, -1.0]
    """
    information = torch.linalg.vecdot(log_p.exp(), log_p)  # minus the entropy
    return torch.where(present, information * (2 / math.log(log_p.shape[2])) + 1, 0)


def overlap(log_p: Tensor, present: Tensor) -> Tensor:
    """Return twice the Bhattacharyya coefficient less one, per pair: -1 (no class in common) to 1 (equal).

    The coefficient is the sum over classes of the root of p q. Where a modality is absent the overlap is 0.

    Args:
        log_p: logarithms of probabilities (B, M, C).
        present: bool (B, M).

    Returns:
        (B, M, M), symmetric.

    >>> log_p = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]]).clamp(min=1e-9).log()
    >>> [round(one, 3) for one in overlap(log_p, torch.ones(1, 2, dtype=torch.bool))[0, 0].tolist()]
    [1.0, -1.0]
    """
    roots = (0.5 * log_p).exp()
    return torch.where(present.unsqueeze(1) & present.unsqueeze(2), 2 * roots @ roots.transpose(1, 2) - 1, 0)

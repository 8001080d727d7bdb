"""Opinions: what each modality says of the classes by itself, and what follows for its judge.

Two modalities may disagree because one of them lies, or because one of them knows little: a conflict between
confident opinions weighs more than one with a modality that is at a loss. So certainty stands where energies stand
among the cues, and the overlap of two opinions where a cosine stands, and the same function picks them
(`concordant.calibration.comparison.cues`). The opinions learn from the labels of what nobody perturbed, on the way
teaching the encoders to be of use alone; the cues do not teach them.
Shapes: opinions, as logarithms of probabilities, (B, M, C) -> certainty (B, M), overlap (B, M, M).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

CUE_SIZE = 4  # the size of comparison whose scale, sqrt(K)/2, is one: overlaps are spread over [-1, 1] as they are


def certainty(log_opinions: Tensor, present: Tensor, *, everywhere: bool = False) -> Tensor:
    """Return how far each opinion is from knowing nothing, from -1 (all classes alike) to 1 (one class for sure).

    It is 1 - 2 H / log C, with the entropy H; 0 where a modality is absent.

    Args:
        log_opinions: logarithms of probabilities (B, M, C).
        present: bool (B, M).
        everywhere: `present` is known to be True throughout, and need not be looked at.

    >>> known = torch.tensor([[[1.0, 0.0], [0.5, 0.5]]]).clamp(min=1e-9).log()
    >>> [round(one, 3) for one in certainty(known, torch.ones(1, 2, dtype=torch.bool))[0].tolist()]
    [1.0, -1.0]
    """
    information = torch.linalg.vecdot(log_opinions.exp(), log_opinions)  # minus the entropy
    found = information * (2 / math.log(log_opinions.shape[2])) + 1
    return found if everywhere else torch.where(present, found, 0)


def overlap(log_opinions: Tensor, present: Tensor, *, everywhere: bool = False) -> Tensor:
    """Return how much each pair of opinions has in common, from -1 (no class) to 1 (they are the same).

    It is twice their Bhattacharyya coefficient, the sum over classes of the root of p q, less 1; 0 where one is absent.

    Args: as for `certainty`.

    Returns:
        (B, M, M), symmetric.

    >>> known = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]]).clamp(min=1e-9).log()
    >>> [round(one, 3) for one in overlap(known, torch.ones(1, 2, dtype=torch.bool))[0, 0].tolist()]
    [1.0, -1.0]
    """
    roots = (0.5 * log_opinions).exp()
    found = torch.baddbmm(roots.new_full((1, 1, 1), -1.0), roots, roots.mT, alpha=2)
    return found if everywhere else torch.where(present.unsqueeze(1) & present.unsqueeze(2), found, 0)


def unimodal_loss(log_opinions: Tensor, labels: Tensor, counted: Tensor) -> Tensor:
    """Return the mean cross-entropy of all opinions that count.

    Args:
        log_opinions: logarithms of probabilities (B, M, C).
        labels: class indices (B,).
        counted: bool (B, M), the modalities that are present and that nobody perturbed.
    """
    right = labels.view(-1, 1, 1).expand(-1, counted.shape[1], 1)
    likelihoods = log_opinions.gather(2, right).squeeze(2)  # logarithms, (B, M)
    weights = counted.to(log_opinions.dtype)
    return -(likelihoods * weights).sum() / weights.sum().clamp(min=1)

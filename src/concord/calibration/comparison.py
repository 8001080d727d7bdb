"""The comparison: every modality's summary against every other's, and the cues that come of it.

In a common space of K dimensions the cosine of two modalities is their agreement; its positive part is
support, its negative part conflict. The cues of a modality are scalars only: how it agrees with each other
modality, how the others agree among themselves (so that the odd one out can be told), and the energies.
Shapes: embeddings (B, M, K), agreement (B, M, M), cues (B, Q).
"""

from __future__ import annotations

import math
from itertools import combinations

import torch
import torch.nn.functional as F
from torch import Tensor

PAIR_LIMIT = 6  # up to this many modalities every pair is a cue of its own; beyond, mean, min and max


def normalise(embedding: Tensor) -> Tensor:
    """Return the unit vector of the layer-normalised embedding: last axis K, mean 0, length 1."""
    return F.normalize(F.layer_norm(embedding, embedding.shape[-1:]), dim=-1)


def agreement(embeddings: Tensor, present: Tensor) -> Tensor:
    """Return the cosine of each pair of modalities, 0 where one is absent and on the diagonal.

    Args:
        embeddings: unit vectors (B, M, K).
        present: bool (B, M).

    Returns:
        (B, M, M), symmetric and in [-1, 1] but for rounding.
    """
    cosines = embeddings @ embeddings.transpose(1, 2)
    both = present.unsqueeze(1) & present.unsqueeze(2)
    off_diagonal = ~torch.eye(present.shape[1], dtype=torch.bool, device=present.device)
    return torch.where(both & off_diagonal, cosines, 0)


def support_and_conflict(cosines: Tensor) -> tuple[Tensor, Tensor]:
    """Split agreement into its positive and its negative part, each in [0, 1]: cosines = support - conflict.

    >>> support, conflict = support_and_conflict(torch.tensor([0.75, -0.25]))
    >>> support.tolist(), conflict.tolist()
    ([0.75, 0.0], [0.0, 0.25])
    """
    return cosines.clamp(0, 1), (-cosines).clamp(0, 1)  # rounding may carry a cosine beyond 1


def cue_count(index: int, energies: list[int]) -> int:
    """Return Q, the number of cues of modality `index`, when modality n has energies[n] energies."""
    others = len(energies) - 1
    if len(energies) <= PAIR_LIMIT:
        return others + math.comb(others, 2) + sum(energies) + others
    return 3 + 3 + energies[index] + 3 + 1


def cues(index: int, order: list[int], cosines: Tensor, energies: list[Tensor], present: Tensor, k: int) -> Tensor:
    """Return the cues of one modality.

    Args:
        index: the modality's column m.
        order: the columns of the other modalities, in an order that does not depend on the declaration's.
        cosines: agreement (B, M, M).
        energies: standardised energies of every modality, (B, 1) or (B, 2) each.
        present: bool (B, M).
        k: comparison size; cosines are scaled by sqrt(k)/2, which gives unrelated modalities a spread of
            about one half.

    Returns:
        (B, Q), see `cue_count`; cues that need an absent modality are 0, with an indicator beside them.
    """
    scale = math.sqrt(k) / 2
    here = present.to(cosines.dtype)
    mine = cosines[:, index, order] * scale  # (B, M-1)
    pairs = list(combinations(order, 2))
    among = cosines[:, [a for a, _ in pairs], [b for _, b in pairs]] * scale  # (B, pairs)
    own = energies[index] * here[:, index, None]
    if len(energies) <= PAIR_LIMIT:
        theirs = [energies[n] * here[:, n, None] for n in order]
        return torch.cat([mine, among, own, *theirs, here[:, order]], 1)
    pair_here = torch.stack([present[:, a] & present[:, b] for a, b in pairs], 1)
    loudness = torch.stack([energies[n][:, 0] for n in order], 1)  # (B, M-1)
    spread = [_mean_min_max(mine, present[:, order] & present[:, index, None]), _mean_min_max(among, pair_here)]
    spread += [_mean_min_max(loudness, present[:, order])]
    return torch.cat([*spread, own, here[:, order].mean(1, keepdim=True)], 1)


def _mean_min_max(values: Tensor, valid: Tensor) -> Tensor:
    """Return mean, minimum and maximum over the valid columns, (B, 3); 0 where none is valid."""
    count = valid.sum(1, keepdim=True)
    mean = torch.where(valid, values, 0).sum(1, keepdim=True) / count.clamp(min=1)
    low = torch.where(valid, values, math.inf).amin(1, keepdim=True)
    high = torch.where(valid, values, -math.inf).amax(1, keepdim=True)
    return torch.where(count > 0, torch.cat([mean, low, high], 1), 0)

"""Steps 3 and 5: every modality's summary against every other's, and the cues that follow.

In a common space of K dimensions the cosine of two modalities is their agreement; its positive part is support, its
negative part conflict. The cues of a modality are scalars: how it agrees with each other modality, how the others
agree among themselves (which shows the odd one out), the energies, and which others are present.
Shapes: embeddings (B, M, K), agreement (B, M, M), cues (B, Q).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations

import torch
import torch.nn.functional as F
from torch import Tensor

SMALLEST_VARIANCE = 1e-12  # of an embedding; below, it is shorter than a unit vector
PAIR_LIMIT = 6  # up to this many modalities every pair is a cue of its own; beyond, mean, minimum and maximum


def normalise(embedding: Tensor) -> Tensor:
    """Return the unit vector of the layer-normalised embedding: last axis K, mean 0, length 1; 0 of a constant one."""
    size = embedding.shape[-1]  # a layer-normalised vector has length sqrt(K)
    return F.layer_norm(embedding, (size,), eps=SMALLEST_VARIANCE) * (1 / math.sqrt(size))


def agreement(embeddings: Tensor, present: Tensor) -> Tensor:
    """Return the cosine of each pair of modalities, 0 where one is absent and on the diagonal.

    Args:
        embeddings: unit vectors (B, M, K).
        present: bool (B, M).

    Returns:
        (B, M, M), symmetric and in [-1, 1] but for rounding.
    """
    off_diagonal = ~torch.eye(present.shape[1], dtype=torch.bool, device=present.device)
    both = present.unsqueeze(1) & present.unsqueeze(2) & off_diagonal
    return torch.where(both, embeddings @ embeddings.transpose(1, 2), 0)


def cue_count(index: int, energies: Sequence[int]) -> int:
    """Return Q, the number of cues of modality `index`, when modality n has energies[n] energies."""
    others = len(energies) - 1
    if len(energies) <= PAIR_LIMIT:
        return others + math.comb(others, 2) + sum(energies) + others
    return 3 + 3 + energies[index] + 3 + 1


def cues(order: Sequence[int], cosines: Tensor, energies: Sequence[Tensor], present: Tensor, k: int) -> list[Tensor]:
    """Return the cues of every modality, (B, Q) each; see `cue_count`.

    Cues that need an absent modality are 0, with an indicator beside them.

    Args:
        order: the columns of all modalities, in an order that does not depend on the declaration's.
        cosines: agreement (B, M, M).
        energies: standardised energies of every modality, (B, 1) or (B, 2) each.
        present: bool (B, M).
        k: comparison size; cosines are scaled by sqrt(k)/2, which gives unrelated modalities a spread of one half.
    """
    here = present.to(cosines.dtype)
    # Columns (B,) by modality. They are views: indexing by lists would copy an index to the device in every call.
    c = [row.unbind(1) for row in (cosines * (math.sqrt(k) / 2)).unbind(1)]
    e = [(values * here[:, n, None]).unbind(1) for n, values in enumerate(energies)]
    p = here.unbind(1)
    found = []
    for m in range(len(energies)):
        others = [n for n in order if n != m]
        pairs = list(combinations(others, 2))
        mine, among = [c[m][n] for n in others], [c[a][b] for a, b in pairs]
        if len(energies) <= PAIR_LIMIT:
            theirs = [value for n in others for value in e[n]]
            found.append(torch.stack([*mine, *among, *e[m], *theirs, *(p[n] for n in others)], 1))
            continue
        columns = [
            *_mean_min_max(mine, [p[n] * p[m] for n in others]),
            *_mean_min_max(among, [p[a] * p[b] for a, b in pairs]),
            *_mean_min_max([e[n][0] for n in others], [p[n] for n in others]),
        ]
        share = sum(p[n] for n in others) / len(others)
        found.append(torch.stack([*columns, *e[m], share], 1))  # type: ignore[list-item]
    return found


def _mean_min_max(values: Sequence[Tensor], present: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Return mean, minimum and maximum over the present values, (B,) each; 0 where none is present."""
    x, here = torch.stack([*values], 1), torch.stack([*present], 1) > 0
    some = here.any(1)
    mean = torch.where(here, x, 0).sum(1) / here.sum(1).clamp(min=1)
    low, high = torch.where(here, x, math.inf).amin(1), torch.where(here, x, -math.inf).amax(1)
    return mean, torch.where(some, low, 0), torch.where(some, high, 0)

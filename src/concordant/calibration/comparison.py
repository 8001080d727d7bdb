"""The comparison: every modality's summary against every other's, and the cues that come of it.

In a common space of K dimensions the cosine of two modalities is their agreement; its positive part is
support, its negative part conflict. The cues of a modality are scalars only: how it agrees with each other
modality, how the others agree among themselves (so that the odd one out can be told), and the energies.
Shapes: embeddings (B, M, K), agreement (B, M, M), cues (B, Q).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from itertools import combinations

import torch
import torch.nn.functional as F
from torch import Tensor

from concordant.calibration.indices import index_of
from concordant.calibration.tracing import values_are_known

SMALLEST_VARIANCE = 1e-12  # of an embedding; below, it is shorter than a unit vector
PAIR_LIMIT = 6  # up to this many modalities every pair is a cue of its own; beyond, mean, min and max


def normalise(embedding: Tensor) -> Tensor:
    """Return the unit vector of the layer-normalised embedding: last axis K, mean 0, length 1; 0 of a constant one."""
    size = embedding.shape[-1]
    # A layer-normalised vector has length sqrt(K), if nothing to speak of is added to its variance.
    normed = F.layer_norm(embedding, (size,), eps=SMALLEST_VARIANCE)
    return normed * (1 / math.sqrt(size))


def agreement(embeddings: Tensor, present: Tensor, *, everywhere: bool = False) -> Tensor:
    """Return the cosine of each pair of modalities, 0 where one is absent and on the diagonal.

    Args:
        embeddings: unit vectors (B, M, K).
        present: bool (B, M).
        everywhere: `present` is known to be True throughout, and need not be looked at.

    Returns:
        (B, M, M), symmetric and in [-1, 1] but for rounding.
    """
    cosines = embeddings @ embeddings.transpose(1, 2)
    if everywhere and values_are_known():
        return cosines.masked_fill(_kept_diagonal(present.shape[1], present.device), 0)
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


def cues(ranks: Sequence[int], cosines: Tensor, energies: Sequence[Tensor], present: Tensor, k: int) -> list[Tensor]:
    """Return the cues of every modality, (B, Q) each; see `cue_count`.

    Args:
        ranks: the columns of all modalities, in an order that does not depend on the declaration's.
        cosines: agreement (B, M, M).
        energies: standardised energies of every modality, (B, 1) or (B, 2) each.
        present: bool (B, M).
        k: comparison size; cosines are scaled by sqrt(k)/2, which gives unrelated modalities a spread of
            about one half.

    Cues that need an absent modality are 0, with an indicator beside them.
    """
    if len(energies) <= PAIR_LIMIT:
        counts = tuple(energy.shape[1] for energy in energies)
        return list(pair_cues(ranks, cosines, torch.cat(list(energies), 1), counts, present, k).unbind(1))
    return _summed_up(ranks, cosines, energies, present, k)


def pair_cues(
    ranks: Sequence[int],
    cosines: Tensor,
    energies: Tensor,
    counts: tuple[int, ...],
    present: Tensor,
    k: int,
    *,
    opinions: tuple[Tensor, Tensor] | None = None,
    everywhere: bool = False,
) -> Tensor:
    """Return the cues (B, M, Q) of few modalities, each pair a cue of its own, picked in one go.

    Args: as for `cues`, but
        energies: of all modalities side by side, (B, E_1 + ... + E_M).
        counts: modality -> how many of them are its own.
        opinions: overlaps (B, M, M) and certainties (B, M), 0 where absent; behind the cues come those that they make
            in the place of cosines and energies.
        everywhere: `present` is known to be True throughout, so that no energy has to be left out.
    """
    device, order = present.device, tuple(ranks)
    here = present.to(cosines.dtype)
    loud = energies
    if not everywhere:
        loud = energies * here.index_select(1, index_of(_owners, order, counts, device=device))
    known = [cosines.flatten(1) * (math.sqrt(k) / 2), loud, here]
    if opinions is not None:
        known += [opinions[0].flatten(1), opinions[1], here]
    choose = _picked if opinions is None else _picked_twice
    picked = torch.cat(known, 1).index_select(1, index_of(choose, order, counts, device=device))
    # The shape, not len(): an exported graph takes any number of instances.
    return picked.view(picked.shape[0], len(order), picked.shape[1] // len(order))


def _summed_up(
    ranks: Sequence[int], cosines: Tensor, energies: Sequence[Tensor], present: Tensor, k: int
) -> list[Tensor]:
    """Return the cues of many modalities: mean, minimum and maximum over others and over pairs of others."""
    order, device = tuple(ranks), present.device
    size = len(order)
    others = index_of(_others, order, (), device=device).view(size, -1)  # (M, M-1)
    towards = index_of(_towards, order, (), device=device).view(size, -1)  # (M, M-1), of the flat cosines
    pairs = index_of(_pairs, order, (), device=device).view(size, -1)
    scaled = cosines.flatten(1) * (math.sqrt(k) / 2)
    both = (present.unsqueeze(1) & present.unsqueeze(2)).flatten(1)
    loudness = torch.stack([energy[:, 0] for energy in energies], 1)  # (B, M)
    spread = [
        _mean_min_max(scaled[:, towards], both[:, towards]),
        _mean_min_max(scaled[:, pairs], both[:, pairs]),
        _mean_min_max(loudness[:, others], present[:, others]),
    ]
    here = present.to(cosines.dtype)
    share = here[:, others].mean(2, keepdim=True)
    return [
        torch.cat([*(part[:, n] for part in spread), energies[n] * here[:, n, None], share[:, n]], 1)
        for n in range(size)
    ]


@lru_cache(maxsize=64)
def _kept_diagonal(count: int, device: torch.device) -> Tensor:
    with torch.inference_mode(mode=False):
        return torch.eye(count, dtype=torch.bool, device=device)


def _besides(ranks: tuple[int, ...], index: int) -> list[int]:
    return [n for n in ranks if n != index]


def _others(ranks: tuple[int, ...], counts: tuple[int, ...]) -> list[int]:
    return [n for index in range(len(ranks)) for n in _besides(ranks, index)]


def _towards(ranks: tuple[int, ...], counts: tuple[int, ...]) -> list[int]:
    size = len(ranks)
    return [index * size + n for index in range(size) for n in _besides(ranks, index)]


def _pairs(ranks: tuple[int, ...], counts: tuple[int, ...]) -> list[int]:
    size = len(ranks)
    return [a * size + b for index in range(size) for a, b in combinations(_besides(ranks, index), 2)]


def _owners(ranks: tuple[int, ...], counts: tuple[int, ...]) -> list[int]:
    return [index for index, count in enumerate(counts) for _ in range(count)]


def _picked(ranks: tuple[int, ...], counts: tuple[int, ...]) -> list[int]:
    """Return the columns of [cosines, energies, presence] that make up the cues of every modality."""
    size = len(ranks)
    loud = [[size * size + sum(counts[:n]) + e for e in range(counts[n])] for n in range(size)]
    here = size * size + sum(counts)
    found = []
    for index in range(size):
        order = _besides(ranks, index)
        found += [index * size + n for n in order]
        found += [a * size + b for a, b in combinations(order, 2)]
        found += loud[index] + [column for n in order for column in loud[n]]
        found += [here + n for n in order]
    return found


def _picked_twice(ranks: tuple[int, ...], counts: tuple[int, ...]) -> list[int]:
    """Return the same with the cues of opinions behind those of each modality: one energy each, its certainty."""
    size = len(ranks)
    first, second = _picked(ranks, counts), _picked(ranks, (1,) * size)
    behind = size * size + sum(counts) + size
    found = []
    for index in range(size):
        for columns, offset in ((first, 0), (second, behind)):
            length = len(columns) // size
            found += [column + offset for column in columns[index * length : (index + 1) * length]]
    return found


def _mean_min_max(values: Tensor, valid: Tensor) -> Tensor:
    """Return mean, minimum and maximum over the valid part of the last axis, (..., 3); 0 where none is valid."""
    count = valid.sum(-1, keepdim=True)
    mean = torch.where(valid, values, 0).sum(-1, keepdim=True) / count.clamp(min=1)
    low = torch.where(valid, values, math.inf).amin(-1, keepdim=True)
    high = torch.where(valid, values, -math.inf).amax(-1, keepdim=True)
    return torch.where(count > 0, torch.cat([mean, low, high], -1), 0)

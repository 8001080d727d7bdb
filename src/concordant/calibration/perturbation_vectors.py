"""The same perturbations of vectors of one size, which every instance has: only what is hit is computed.

Each instance has one victim, so that of all M modalities' rows B are changed, whoever they belong to; where values may
not be looked at, all M are. Draws are those of one modality after another.
Shapes: features of all modalities (M, B, D); victim, kind and the other draws (B,).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from concordant.modalities import ModalityBatch


@dataclass(frozen=True)
class VectorDraws:
    """What was drawn for each instance, all (B,).

    Args:
        victim: index of the modality that is hit.
        chosen: bool, whether one is hit at all; None = of every instance.
        kind: index of what is done.
        strength: of the noise, in standard deviations.
        share: of the features that `dimensions` replaces.
        donor_rank: in [0, 1), which other instance a swap takes its features from.
    """

    victim: Tensor
    chosen: Tensor | None
    kind: Tensor
    strength: Tensor
    share: Tensor
    donor_rank: Tensor


def side_by_side(batch: ModalityBatch) -> Tensor | None:
    """Return all features as one (M, B, D), if they are vectors of one size and type that every instance has."""
    if not batch.everywhere or batch.masks or any(layout.positions for layout in batch.layouts.values()):
        return None
    features = [batch.features[name] for name in batch.names]
    first = features[0]
    if any(x.shape != first.shape or x.dtype != first.dtype for x in features):
        return None
    return torch.stack(features)


def hurt_vectors(
    x: Tensor, draws: VectorDraws, kinds: Sequence[str], generator: torch.Generator | None = None
) -> Tensor:
    """Return (M, B, D) with every chosen instance's victim perturbed by its kind.

    Args:
        x: (M, B, D).
        draws: for each instance.
        kinds: "noise", "swap", "zero", "dimensions", by their index.
        generator: the source of the noise, and of which features `dimensions` replaces.
    """
    count, size, width = x.shape
    device = x.device
    drawn = []
    for _ in range(count):
        drawn.append(torch.randn((size, 1, width), generator=generator, device=device, dtype=torch.float32))
        drawn.append(torch.rand((size, 1, width), generator=generator, device=device))
    values = x.detach().float()
    center = values.sum(1, keepdim=True) / size
    spread = ((values - center).square().sum(1) / size).sqrt()  # (M, D)
    every = torch.arange(size, device=device)
    rows = draws.victim * size + every
    step = 1 + (draws.donor_rank * max(size - 1, 1)).long().clamp(max=max(size - 2, 0))
    donors = draws.victim * size + (every + step) % size
    flat = x.flatten(0, 1)  # (M B, D)
    own, taken = flat.index_select(0, torch.cat([rows, donors])).chunk(2)
    noise = torch.cat(drawn[::2]).squeeze(1).index_select(0, rows)
    chances = torch.cat(drawn[1::2]).squeeze(1).index_select(0, rows)
    moves = (noise * draws.strength.unsqueeze(1) * spread.index_select(0, draws.victim)).to(x.dtype)
    kind = draws.kind.unsqueeze(1)
    changed = own
    for number, name in enumerate(kinds):
        if name == "noise":
            one = own + moves
        elif name == "dimensions":
            middle = center.squeeze(1).to(x.dtype).index_select(0, draws.victim)
            one = torch.where(chances < draws.share.unsqueeze(1), middle + moves, own)
        elif name == "zero" or size == 1:  # nobody to take anything from
            one = torch.zeros_like(own)
        else:
            one = taken
        changed = torch.where(kind == number, one, changed)
    if draws.chosen is not None:
        changed = torch.where(draws.chosen.unsqueeze(1), changed, own)
    return flat.index_copy(0, rows, changed).view_as(x)

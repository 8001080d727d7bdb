"""Steps of sequences for the fusions: moving valid ones to the front, and aligning modalities on common steps.

Shapes: steps (B, L, D), valid (B, L), common steps (B, S, D).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from concordant.fusion.attention import known_steps
from concordant.modalities import values_are_known


def compact(steps: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """Return the steps (B, L, D) with the valid ones first, in order, then zeros; and the number of valid ones (B,)."""
    places = torch.arange(valid.shape[1], device=valid.device)
    # Distinct keys, since not every runtime of exported graphs sorts stably.
    order = (places + valid.shape[1] * (~valid).long()).argsort(dim=1)  # (B, L)
    moved = known_steps(steps, valid).gather(1, order.unsqueeze(-1).expand_as(steps))
    return moved, valid.sum(1)


def last_state(lstm: nn.LSTM, steps: Tensor, valid: Tensor | None) -> Tensor:
    """Return the state (B, W) of an LSTM after the last valid step of (B, L, D); 0 where there is none.

    In eager code the LSTM skips what is not valid, and steps that are padded at the end are not moved. Steps that are
    not valid may have any values; None = all are valid. The LSTM has `batch_first`.
    """
    if valid is None or (values_are_known() and bool(valid.all())):
        states, _ = lstm(steps)
        return torch.as_tensor(states[:, -1])
    if not values_are_known():
        moved, lengths = compact(steps, valid)
        states, _ = lstm(moved)
        return last_of(states, lengths)
    lengths = valid.sum(1)
    if (valid[:, 1:] & ~valid[:, :-1]).any():
        steps, lengths = compact(steps, valid)
    elif not lengths.all():
        steps = torch.where((lengths > 0)[:, None, None], steps, 0)
    packed = pack_padded_sequence(steps, lengths.clamp(min=1).cpu(), batch_first=True, enforce_sorted=False)
    _, (state, _) = lstm(packed)
    return torch.where(lengths.unsqueeze(1) > 0, state[-1], 0)


def last_of(states: Tensor, lengths: Tensor) -> Tensor:
    """Return the state (B, W) at step `lengths` of (B, L, W); 0 where the length is 0."""
    index = (lengths - 1).clamp(min=0)[:, None, None].expand(-1, 1, states.shape[2])
    last = states.gather(1, index).squeeze(1)
    return torch.where(lengths.unsqueeze(1) > 0, last, 0)


def align(steps: Mapping[str, Tensor], valid: Mapping[str, Tensor], *, shares: int) -> tuple[dict[str, Tensor], Tensor]:
    """Align all modalities on common steps.

    Vectors, of one step, are repeated at every common step. Sequences of equal lengths are aligned already and stay
    unchanged. Otherwise each instance's own valid duration is cut into equal shares, and a common step is the mean over
    a share.

    Args:
        steps: modality -> (B, L_m, D_m).
        valid: modality -> bool (B, L_m); invalid steps have no influence.
        shares: number of common steps for sequences of different lengths.

    Returns:
        modality -> (B, S, D_m), zeros where it is invalid; and bool (B, S), True where any modality is valid.
    """
    lengths = {x.shape[1] for x in steps.values()} - {1}
    common = shares if len(lengths) > 1 else max(lengths, default=1)
    aligned: dict[str, Tensor] = {}
    found = []
    for name, x in steps.items():
        known, here = known_steps(x, valid[name]), valid[name]
        if x.shape[1] == 1:
            known, here = known.expand(-1, common, -1), here.expand(-1, common)
        elif len(lengths) > 1:
            known, here = _mean_shares(known, here, common), here.any(1, keepdim=True).expand(-1, common)
        aligned[name] = known
        found.append(here)
    return aligned, torch.stack(found).any(0)


def _mean_shares(known: Tensor, valid: Tensor, shares: int) -> Tensor:
    """Return the means (B, S, D) over equal shares of each row's valid steps; a step may overlap several."""
    count = valid.sum(1, keepdim=True).clamp(min=1).float()  # (B, 1)
    rank = (valid.cumsum(1) - 1).float()
    start, stop = (rank / count).unsqueeze(1), ((rank + 1) / count).unsqueeze(1)  # (B, 1, L)
    edges = torch.arange(shares + 1, device=known.device, dtype=torch.float32) / shares
    low, high = edges[:-1, None], edges[1:, None]  # (S, 1)
    overlap = (torch.minimum(stop, high) - torch.maximum(start, low)).clamp(min=0) * shares  # (B, S, L)
    weight = torch.where(valid.unsqueeze(1), overlap, 0).to(known.dtype)
    return weight @ known

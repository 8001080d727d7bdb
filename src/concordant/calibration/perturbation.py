"""What training inflicts on features, which shows the calibrator unreliable modalities with a label.

One random modality of an instance is perturbed by one random kind: noise, swap (another instance's features), zero
(scaled down to almost nothing), or dimensions (some features replaced by noise). Draws come from an explicit generator
and depend on shapes only: twins with other values at hand are perturbed alike.
Shapes: features in their layouts; inside, (B, L, D); perturbed (B, M).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from concordant.calibration.ops import bounded
from concordant.errors import UsageError, checks, shown
from concordant.modalities import ModalityBatch, from_positions

KINDS = ("noise", "swap", "zero", "dimensions")
# What "zero" leaves of a feature: an exact zero is 0/0 in a model that divides a feature by its norm, and ruins all
# weights in one step. The energy of an exact zero is lower still, so a calibrator that knows the one sees the other.
LEFT = 1e-3
Range = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Perturbation:
    """How often and how strongly training perturbs.

    The ranges leave out a band around what the stress test uses (a strength of 1.5, one half of the features): no test
    meets a strength that training used.

    Args:
        probability: share of the instances that are perturbed within the batch, in [0, 1]. With clean and perturbed
            copies every instance of the second copy is.
        kinds: drawn with equal chance. "zero" scales a feature by 1e-3, in half precision by as much more as keeps its
            squares from vanishing: no kind makes a norm of exactly 0.
        strength: ranges of the noise, in standard deviations of each feature over the batch.
        share: ranges of the share of features that `dimensions` replaces.
        coherent: chance that noise over a sequence or map is one draw for all its positions: noise on an
            input moves features coherently, which independent draws never show.
        variation: how far clean instances may differ, in standard deviations: before anything else every feature of
            an instance is scaled and moved at random, at all its positions alike, and that counts as clean. It stands
            for people, places and devices that training does not show, which would otherwise be taken for unreliable.
            0 = not at all, which training from scratch needs; 0.5 is what `fit_plugin` uses
            without validation rows.

    Raises:
        UsageError: all faults at once.
    """

    probability: float = 0.5
    kinds: tuple[str, ...] = KINDS
    strength: tuple[Range, ...] = ((0.5, 1.25), (1.75, 2.5))
    share: tuple[Range, ...] = ((0.1, 0.4), (0.6, 0.8))
    coherent: float = 0.5
    variation: float = 0.0

    def __post_init__(self) -> None:
        with checks() as check:
            for name in ("probability", "coherent"):
                object.__setattr__(self, name, check.number(name, getattr(self, name), 0, 1, ends="[]"))
            object.__setattr__(self, "variation", check.number("variation", self.variation))
            kinds = tuple(self.kinds) if isinstance(self.kinds, (tuple, list)) else ()
            known = kinds and all(isinstance(kind, str) and kind in KINDS for kind in kinds)
            found = list(kinds) if kinds else shown(self.kinds)
            check.require(bool(known), f"kinds must be some of {', '.join(KINDS)}; found {found}")
            object.__setattr__(self, "kinds", kinds)
            for name in ("strength", "share"):
                try:
                    ranges = tuple((float(low), float(high)) for low, high in getattr(self, name))
                except (TypeError, ValueError):
                    ranges = ()
                fine = ranges and all(0 <= low <= high < math.inf for low, high in ranges)
                message = f"{name} must be ranges (low, high) with 0 <= low <= high; found {shown(getattr(self, name))}"
                check.require(bool(fine), message)
                object.__setattr__(self, name, ranges)


@dataclass(frozen=True)
class Perturbed:
    """A perturbed batch and what was done to it.

    Args:
        batch: the same masks and presence, other features.
        perturbed: bool (B, M), True where a modality was perturbed; at most one per instance.
        kind: index into the settings' kinds, (B,); -1 where nothing was done.
    """

    batch: ModalityBatch
    perturbed: Tensor
    kind: Tensor


def perturb(
    batch: ModalityBatch,
    settings: Perturbation,
    *,
    probability: float | None = None,
    generator: torch.Generator | None = None,
) -> Perturbed:
    """Perturb one random present modality of each chosen instance; instances with a single one are spared.

    A swapped sequence keeps the receiver's mask: the donor's valid steps fill the receiver's in order,
    from the start again when they run out. Where no other instance has the modality, a swap becomes noise. An instance
    that would be left without any value other than 0 is scaled down instead, as by "zero".

    Args:
        batch: features as they arrive at the calibrator.
        settings: how often, which kinds, how strongly.
        probability: overrides the settings' probability.
        generator: the source of all draws; None = the global one of the device.
    """
    batch = vary(batch, settings.variation, generator=generator)
    present, chance = batch.present, settings.probability if probability is None else probability
    size, modalities = present.shape
    like: dict[str, Any] = {"generator": generator, "device": present.device, "dtype": torch.float32}
    uniform = torch.split(torch.rand(size * (8 + modalities), **like), [size, size * modalities, *[size] * 7])
    chosen, victims, kind, rank, coherent = uniform[:5]  # (B,) each, but for the victims
    chosen = (chosen < chance) & (present.sum(1) > 1)
    victim = (victims.view(size, modalities) + present).argmax(1)  # a random present modality
    columns = torch.arange(modalities, device=victim.device)
    perturbed = (victim.unsqueeze(1) == columns) & chosen.unsqueeze(1)  # (B, M)
    kind = (kind * len(settings.kinds)).long().clamp(max=len(settings.kinds) - 1)
    by_kind = {what: perturbed & (kind == number).unsqueeze(1) for number, what in enumerate(settings.kinds)}
    nowhere = torch.zeros_like(perturbed)
    donors, several = _donors(present, rank)  # (B, M), (M,)
    own = torch.arange(len(present), device=victim.device).unsqueeze(1)
    source = torch.where(by_kind.get("swap", nowhere) & several, donors, own)  # (B, M), rows that features come from
    emptied, replaced = by_kind.get("zero", nowhere), by_kind.get("dimensions", nowhere)
    noisy = by_kind.get("noise", nowhere) | (by_kind.get("swap", nowhere) & ~several)
    coherent = (coherent < settings.coherent)[:, None, None]
    strength = _within(settings.strength, *uniform[5:7])[:, None, None]
    share = _within(settings.share, *uniform[7:])[:, None, None]
    features = {}
    for name, original in batch.features.items():
        m, mask, x = batch.names.index(name), batch.masks.get(name), batch.positions(name)  # (B, L, D)
        valid = batch.valid(name)
        noise = torch.randn(x.shape, **like)
        if x.shape[1] > 1:
            noise = torch.where(coherent, torch.randn((size, 1, x.shape[2]), **like), noise)
        center, spread = _channel_statistics(x.detach(), valid)
        cells = replaced[:, m, None, None] & (torch.rand((size, 1, x.shape[2]), **like) < share)  # (B, 1, D)
        moves = torch.where(noisy[:, m, None, None] | cells, noise * strength * spread, 0)
        changed = x[source[:, m]] if mask is None else _at_valid_steps(x, mask, source[:, m])
        changed = torch.where(cells, center, changed) + moves
        if changed.dtype != x.dtype:  # of half precision, which overflows soon
            most = torch.finfo(x.dtype).max
            changed = changed.clamp(-most, most).to(x.dtype)
        keep = True if valid is None else valid.unsqueeze(2)
        lost = ((x != 0) & keep).flatten(1).any(1) & ~((changed != 0) & keep).flatten(1).any(1)
        # By `LEFT`, or by more where the squares would vanish in the range of the dtype; per position, as a model may
        # divide by its norm. Without a gradient, since a NaN of an absent instance would spread.
        root = bounded(x.detach()).square().mean(2, keepdim=True).sqrt()
        factor = (torch.finfo(x.dtype).tiny ** 0.5 / root).nan_to_num(nan=LEFT).clamp(LEFT, 1).to(x.dtype)
        changed = torch.where((emptied[:, m] | lost)[:, None, None], x * factor, changed)
        if mask is not None:
            changed = torch.where(mask.unsqueeze(2), changed, x)
        features[name] = from_positions(changed, original, batch.layouts[name])
    return Perturbed(replace(batch, features=features), perturbed, torch.where(chosen, kind, -1))


def vary(batch: ModalityBatch, variation: float, *, generator: torch.Generator | None = None) -> ModalityBatch:
    """Return the batch with every feature of every instance scaled and moved at random, at all its positions alike.

    x becomes (1 + v a) x + v b std, with a and b from N(0, 1) and the feature's standard deviation over the batch.

    Args:
        batch: features as they arrive at the calibrator.
        variation: v; 0 = the batch as it is, and nothing is drawn.
        generator: the source of all draws; None = the global one of the device.
    """
    if not variation:
        return batch
    features = {}
    for name, original in batch.features.items():
        x, valid = batch.positions(name), batch.valid(name)  # (B, L, D)
        _, spread = _channel_statistics(x.detach(), valid)
        shape = (2, batch.size, 1, x.shape[2])
        factor, move = variation * torch.randn(shape, generator=generator, device=x.device, dtype=torch.float32)
        most = torch.finfo(x.dtype).max
        varied = (x * (1 + factor) + move * spread).clamp(-most, most).to(x.dtype)
        if valid is not None:
            varied = torch.where(valid.unsqueeze(2), varied, x)
        features[name] = from_positions(varied, original, batch.layouts[name])
    return replace(batch, features=features)


def with_copies(
    batch: ModalityBatch,
    settings: Perturbation,
    *,
    generator: torch.Generator | None = None,
) -> Perturbed:
    """Return 2B instances: the batch clean (varied at most), then the batch with every instance perturbed.

    The encoders have run once by then, and the clean examples keep their full weight. Repeat what else
    goes with the batch by `repeat_targets`. Arguments as for `perturb`.
    """
    if not isinstance(settings, Perturbation):
        raise UsageError(
            f"settings must be a Perturbation, which a calibrator with perturbation=False lacks; found "
            f"{shown(settings)}: pass Perturbation()"
        )
    batch = vary(batch, settings.variation, generator=generator)  # both copies alike
    settings = replace(settings, variation=0.0)
    return beside(batch, perturb(batch, settings, probability=1.0, generator=generator))


def beside(batch: ModalityBatch, other: Perturbed) -> Perturbed:
    """Return 2B instances: a batch, then its perturbed copy."""
    with torch.autocast(batch.present.device.type, enabled=False):  # which has no torch.cat of some precisions
        features = {
            name: torch.cat([x, other.batch.features[name]], batch.layouts[name].batch)
            for name, x in batch.features.items()
        }
    masks = {name: mask.repeat(2, 1) for name, mask in batch.masks.items()}
    return Perturbed(
        replace(batch, features=features, masks=masks, present=batch.present.repeat(2, 1)),
        torch.cat([torch.zeros_like(other.perturbed), other.perturbed]),
        torch.cat([torch.full_like(other.kind, -1), other.kind]),
    )


def repeat_targets(targets: Tensor) -> Tensor:
    """Return the targets of a batch for its clean and its perturbed copy: (B, ...) -> (2B, ...).

    >>> repeat_targets(torch.tensor([1, 2])).tolist()
    [1, 2, 1, 2]
    """
    return targets.repeat(2, *([1] * (targets.dim() - 1)))


def as_settings(value: Perturbation | Mapping[str, object] | bool | None) -> Perturbation | None:
    """Return perturbation settings from a constructor's argument: True = the defaults, False or None = off."""
    if value is None or value is False:
        return None
    if value is True:
        return Perturbation()
    if isinstance(value, Perturbation):
        return value
    raise UsageError(f"perturbation must be True, False, None or a Perturbation; found {shown(value)}")


def _donors(present: Tensor, rank: Tensor) -> tuple[Tensor, Tensor]:
    """Return another present instance for each, (B, M), and per modality whether there are several at all, (M,).

    Args:
        present: bool (B, M).
        rank: (B,) in [0, 1), which of the others.
    """
    count = present.sum(0)
    first = (~present).to(torch.int8).argsort(dim=0, stable=True)  # present rows first, in order
    place = (present.cumsum(0) - 1).clamp(min=0)  # a present row's own place among them
    step = 1 + (rank.unsqueeze(1) * (count - 1).clamp(min=1)).long().minimum((count - 2).clamp(min=0))
    return first.gather(0, (place + step) % count.clamp(min=1)), count > 1


def _at_valid_steps(x: Tensor, mask: Tensor, source: Tensor) -> Tensor:
    """Return x (B, L, D) of the rows `source` (B,), their valid steps in the valid steps of the receivers."""
    given = mask[source]
    order = (~given).to(torch.int8).argsort(dim=1, stable=True)  # the source's valid positions first
    lengths = given.sum(1, keepdim=True).clamp(min=1)
    fill = order.gather(1, (mask.long().cumsum(1) - 1).clamp(min=0) % lengths)  # (B, L)
    return x[source[:, None], fill]


def _channel_statistics(x: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of each feature over the batch's valid positions, each (D,).

    A single position has no deviation; the root mean square of its features stands in.
    """
    values = bounded(x)
    if valid is None:
        count = max(1, values.shape[0] * values.shape[1])
        center = values.sum((0, 1)) / count
        variance = (values - center).square().sum((0, 1)) / count
        return center, (variance if count > 1 else center.square().mean().expand_as(variance)).sqrt()
    keep = valid.unsqueeze(2).expand(-1, x.shape[1], -1)  # (B, L, 1)
    some = keep.sum().clamp(min=1)
    center = torch.where(keep, values, 0).sum((0, 1)) / some
    variance = torch.where(keep, (values - center).square(), 0).sum((0, 1)) / some
    return center, torch.where(some > 1, variance, center.square().mean()).sqrt()


def _within(ranges: tuple[Range, ...], which: Tensor, where: Tensor) -> Tensor:
    """Map two uniform draws (B,) to one over a union of ranges, (B,); single values have equal chances."""
    widths = [float(high - low) for low, high in ranges]
    weights = widths if any(widths) else [1.0] * len(ranges)
    found: Tensor = ranges[0][0] + where * widths[0]
    for number in range(1, len(ranges)):
        edge = sum(weights[:number]) / sum(weights)
        found = torch.where(which > edge, ranges[number][0] + where * widths[number], found)
    return found

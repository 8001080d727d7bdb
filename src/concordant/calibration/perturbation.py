"""What training inflicts on features, so that unreliability is seen, and seen with a label.

One random modality of an instance is hit by one random kind: noise, swap (another instance's features),
zero, or dimensions (some features replaced by noise). Draws come from an explicit generator and depend on
shapes only, so that twins with other values at hand suffer the same.
Shapes: features in their layouts; inside, (B, L, D); perturbed (B, M).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from concordant.calibration.perturbation_vectors import VectorDraws, hurt_vectors, side_by_side
from concordant.calibration.summary import valid_positions
from concordant.calibration.tracing import values_are_known
from concordant.errors import UsageError
from concordant.modalities import ModalityBatch, from_positions, to_positions

KINDS = ("noise", "swap", "zero", "dimensions")
Range = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Perturbation:
    """How often and how strongly training perturbs.

    The ranges leave out a band around what the stress test uses (a strength of 1.5, one half of the
    features), so that no test meets a strength that training used.

    Args:
        probability: share of the instances that are hit when perturbing within the batch, in [0, 1].
            With clean and perturbed copies every instance of the second copy is hit.
        kinds: drawn with equal chance.
        strength: ranges of the noise, in standard deviations of each feature over the batch.
        share: ranges of the share of features that `dimensions` replaces.
        coherent: chance that noise over a sequence or map is one draw for all its positions: noise on an
            input moves features coherently, which independent draws never show.
        variation: how far intact instances may differ, in standard deviations: before anything else every feature of
            an instance is scaled and moved at random, at all its positions alike, and that counts as untouched. It
            stands for people, places and devices that training does not show, which are else taken for unreliable.
            0 = not at all, what training from scratch needs; 0.5 is what `fit_plugin` uses.

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
        faults = []
        for name in ("probability", "coherent"):
            if not 0 <= getattr(self, name) <= 1:
                faults.append(f"{name} must lie in [0, 1]; found {getattr(self, name)}")
        if not self.variation >= 0:
            faults.append(f"variation must not be negative; found {self.variation}")
        unknown = [kind for kind in self.kinds if kind not in KINDS]
        if unknown or not self.kinds:
            faults.append(f"kinds must be some of {', '.join(KINDS)}; found {list(self.kinds)}")
        for name in ("strength", "share"):
            ranges = getattr(self, name)
            if not ranges or any(len(r) != 2 or not 0 <= r[0] <= r[1] for r in ranges):
                faults.append(f"{name} must be ranges (low, high) with 0 <= low <= high; found {ranges}")
        if faults:
            raise UsageError("; ".join(faults))


@dataclass(frozen=True)
class Perturbed:
    """A perturbed batch and what was done to it.

    Args:
        batch: the same masks and presence, other features.
        perturbed: bool (B, M), True where a modality was hit; at most one an instance.
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
    """Hit one random present modality of each chosen instance; instances with a single one are spared.

    A swapped sequence keeps the receiver's mask: the donor's valid steps fill the receiver's in order,
    from the start again when they run out. Where no other instance has the modality, a swap becomes zero.

    Args:
        batch: features as they arrive at the calibrator.
        settings: how often, which kinds, how strongly.
        probability: overrides the settings' probability.
        generator: the source of all draws; None = the global one of the device.
    """
    chance = settings.probability if probability is None else probability
    batch = vary(batch, settings.variation, generator=generator)
    present, size = batch.present, batch.size
    device = present.device

    def uniform(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator, device=device)

    eligible = present.sum(1) > 1
    chosen = (uniform(size) < chance) & eligible
    victim = (uniform(size, len(batch.names)) + present).argmax(1)  # a random present modality
    kind = (uniform(size) * len(settings.kinds)).long().clamp(max=len(settings.kinds) - 1)
    donor_rank, coherent = uniform(size), uniform(size) < settings.coherent
    strength = _within(settings.strength, uniform(size), uniform(size))
    share = _within(settings.share, uniform(size), uniform(size))
    perturbed = (victim.unsqueeze(1) == torch.arange(len(batch.names), device=device)) & chosen.unsqueeze(1)
    vectors = side_by_side(batch)
    if vectors is not None:
        known = None if chance >= 1 and len(batch.names) > 1 else chosen  # None: all are known to be chosen
        hits = VectorDraws(victim, known, kind, strength, share, donor_rank)
        hurt = dict(zip(batch.names, hurt_vectors(vectors, hits, settings.kinds, generator).unbind(), strict=True))
        features = {name: hurt[name] for name in batch.features}
    else:
        draws = _Draws(perturbed, kind, strength, share, donor_rank, coherent)
        features = {name: _hurt_one(batch, name, draws, settings.kinds, generator) for name in batch.features}
    return Perturbed(replace(batch, features=features), perturbed, torch.where(chosen, kind, -1))


def _hurt_one(
    batch: ModalityBatch, name: str, draws: _Draws, kinds: tuple[str, ...], generator: torch.Generator | None
) -> Tensor:
    """Return one modality's features, in their layout, with the instances that it is the victim of perturbed."""
    index, x, mask = batch.names.index(name), batch.features[name], batch.masks.get(name)
    flat = to_positions(x, batch.layouts[name])
    valid = valid_positions(batch.column(name), mask)
    own = replace(draws, hit=draws.hit[:, index])
    return from_positions(_hurt(flat, valid, mask, own, kinds, generator), x, batch.layouts[name])


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
    for name, x in batch.features.items():
        flat = to_positions(x, batch.layouts[name])  # (B, L, D)
        valid = valid_positions(batch.column(name), batch.masks.get(name))
        keep = valid.unsqueeze(-1).expand(-1, flat.shape[1], -1)  # (B, L, 1)
        _, spread = _channel_statistics(flat.detach(), valid)
        shape = (2, batch.size, 1, flat.shape[2])
        scale, move = variation * torch.randn(shape, generator=generator, device=x.device, dtype=torch.float32)
        varied = flat * (1 + scale).to(x.dtype) + (move * spread).to(x.dtype)
        features[name] = from_positions(torch.where(keep, varied, flat), x, batch.layouts[name])
    return replace(batch, features=features)


@dataclass(frozen=True)
class _Draws:
    """What was drawn for each instance, all (B,)."""

    hit: Tensor
    kind: Tensor
    strength: Tensor
    share: Tensor
    donor_rank: Tensor
    coherent: Tensor


def _hurt(
    x: Tensor,
    valid: Tensor,
    mask: Tensor | None,
    draws: _Draws,
    kinds: tuple[str, ...],
    generator: torch.Generator | None,
) -> Tensor:
    """Return (B, L, D) with the instances at `draws.hit` perturbed, each by its kind.

    Draws are made for every instance, so that they do not depend on who is hit; the rest of the work is done, where
    values are known, for those alone.
    """
    size, length, width = x.shape
    center, spread = _channel_statistics(x.detach(), valid)
    noise = torch.randn(x.shape, generator=generator, device=x.device, dtype=torch.float32)
    common = None
    if length > 1:
        common = torch.randn((size, 1, width), generator=generator, device=x.device, dtype=torch.float32)
    chances = torch.rand((size, 1, width), generator=generator, device=x.device)
    donor, several = _donors(valid[:, 0] if mask is None else valid.any(1), draws.donor_rank)
    hit = draws.hit.nonzero().squeeze(1) if values_are_known() else None
    rows = slice(None) if hit is None else hit
    own, kind = x[rows], draws.kind[rows, None, None]
    moves = noise[rows]
    if common is not None:
        moves = torch.where(draws.coherent[rows, None, None], common[rows], moves)
    moves = (moves * draws.strength[rows, None, None] * spread).to(x.dtype)
    changed = own
    for number, name in enumerate(kinds):
        if name == "noise":
            one = own + moves
        elif name == "dimensions":
            one = torch.where(chances[rows] < draws.share[rows, None, None], center + moves, own)
        elif name == "zero":
            one = torch.zeros_like(own)
        else:
            one = torch.where(several, _taken(x, mask, donor[rows], rows), 0)
        changed = torch.where(kind == number, one, changed)
    if hit is None:
        return torch.where((draws.hit.unsqueeze(1) & valid).unsqueeze(2), changed, x)
    if mask is not None:  # those that are hit are present
        changed = torch.where(mask[rows].unsqueeze(2), changed, own)
    return x.index_copy(0, hit, changed)


def _donors(present: Tensor, rank: Tensor) -> tuple[Tensor, Tensor]:
    """Return for every instance another present one, (B,), and whether there is another at all."""
    count = present.sum()
    donors = (~present).to(torch.int8).argsort(stable=True)  # present rows first, in order
    place = present.long().cumsum(0) - 1  # a present row's own place among them
    step = 1 + (rank * (count - 1).clamp(min=1)).long().clamp(max=(count - 2).clamp(min=0))
    return donors[(place.clamp(min=0) + step) % count.clamp(min=1)], count > 1


def _taken(x: Tensor, mask: Tensor | None, donor: Tensor, rows: Tensor | slice) -> Tensor:
    """Return the donors' features in the place of those of `rows`."""
    taken = x[donor]
    if mask is None:
        return taken
    given = mask[donor]
    order = (~given).to(torch.int8).argsort(dim=1, stable=True)  # the donor's valid positions first
    lengths = given.sum(1, keepdim=True).clamp(min=1)
    fill = order.gather(1, (mask[rows].long().cumsum(1) - 1).clamp(min=0) % lengths)  # (R, L)
    return taken.gather(1, fill.unsqueeze(-1).expand_as(taken))


def _channel_statistics(x: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of each feature over the batch's valid positions, each (D,)."""
    if values_are_known() and bool(valid.all()) and x.numel():
        flat = x.flatten(0, 1).float()
        center = flat.sum(0) / len(flat)
        return center.to(x.dtype), ((flat - center).square_().sum(0) / len(flat)).sqrt_()
    keep = valid.unsqueeze(-1).expand(-1, x.shape[1], -1)  # (B, L, 1)
    count = keep.sum().clamp(min=1)
    clean = torch.where(keep, x, 0).float()
    center = clean.sum((0, 1)) / count
    variance = torch.where(keep, (clean - center).square(), 0).sum((0, 1)) / count
    return center.to(x.dtype), variance.sqrt()


def _within(ranges: tuple[Range, ...], which: Tensor, where: Tensor) -> Tensor:
    """Map two uniform draws to a uniform draw over a union of ranges; single values have equal chances."""
    low = torch.tensor([float(r[0]) for r in ranges], device=which.device)
    width = torch.tensor([float(r[1] - r[0]) for r in ranges], device=which.device)
    weight = width if any(r[1] > r[0] for r in ranges) else torch.ones_like(width)
    edges = weight.cumsum(0) / weight.sum()
    index = torch.bucketize(which, edges).clamp(max=len(ranges) - 1)
    return low[index] + where * width[index]


def with_copies(batch: ModalityBatch, settings: Perturbation, *, generator: torch.Generator | None = None) -> Perturbed:
    """Return 2B instances: the batch untouched (varied at most), then the batch with every instance hit.

    The encoders have run once by then, and the clean examples keep their full weight. Repeat what else
    goes with the batch by `repeat_targets`.
    """
    batch = vary(batch, settings.variation, generator=generator)  # both copies alike
    hurt = perturb(batch, replace(settings, variation=0.0), probability=1.0, generator=generator)
    return beside(batch, hurt)


def beside(batch: ModalityBatch, hurt: Perturbed) -> Perturbed:
    """Return 2B instances: a batch, then what became of it."""
    features = {
        name: torch.cat([x, hurt.batch.features[name]], batch.layouts[name].batch) for name, x in batch.features.items()
    }
    doubled = replace(
        batch,
        features=features,
        masks={name: mask.repeat(2, 1) for name, mask in batch.masks.items()},
        present=batch.present.repeat(2, 1),
        copies=True,
    )
    untouched = torch.zeros_like(hurt.perturbed)
    return Perturbed(
        doubled,
        torch.cat([untouched, hurt.perturbed]),
        torch.cat([torch.full_like(hurt.kind, -1), hurt.kind]),
    )


def repeat_targets(targets: Tensor) -> Tensor:
    """Return the targets of a batch for its clean and its perturbed copy: (B, ...) -> (2B, ...).

    >>> repeat_targets(torch.tensor([1, 2])).tolist()
    [1, 2, 1, 2]
    """
    return targets.repeat(2, *([1] * (targets.dim() - 1)))


def as_settings(value: Perturbation | Mapping[str, object] | bool | None) -> Perturbation | None:
    """Return perturbation settings from what a constructor was given: True = the defaults, False or None = off."""
    if value is None or value is False:
        return None
    if value is True:
        return Perturbation()
    if isinstance(value, Perturbation):
        return value
    raise UsageError(f"perturbation must be True, False, None or a Perturbation; found {value!r}")

"""One random modality of every instance corrupted, by one kind of the registry at one severity.

Which modality is hit depends on the seed and on what can be hit, not on kind or severity, so that severities are
compared on the same victims, and so are models. Where values are not standardised, they are for the kind's sake.
Axis letters: N instances, M modalities, T steps, S samples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from concordant import seeding
from concordant.benchmarks.benchmark import Waves
from concordant.data.scaling import Scale
from concordant.data.split import Bools, Floats, Integers, Split
from concordant.errors import UsageError
from concordant.registry import Registry
from concordant.robustness.corruptions import Kind, Site

IMAGE = "image"
MAPS = ("bchw", "bcthw")


@dataclass(frozen=True)
class Ground:
    """What corruption needs to know of a part beside its values.

    Args:
        layouts: modality -> layout, batch first.
        natures: modality -> "image" where image kinds make sense; maps without an entry are images.
        scales: modality -> mean and std of its features, where they are not standardised.
        signals: modality -> its waveforms, whose inputs are scaled as the part's are.
    """

    layouts: Mapping[str, str]
    natures: Mapping[str, str] = field(default_factory=dict)
    scales: Mapping[str, Scale] = field(default_factory=dict)
    signals: Mapping[str, Waves] = field(default_factory=dict)

    def able(self, kind: Kind, shapes: Mapping[str, tuple[int, ...]]) -> tuple[str, ...]:
        """Return the modalities that a kind can change."""
        return tuple(name for name, shape in shapes.items() if self._fits(kind, name, shape))

    def _fits(self, kind: Kind, name: str, shape: tuple[int, ...]) -> bool:
        if kind.group == "audio":
            return name in self.signals
        layout = self.layouts[name]
        if kind.group == "image" and (layout not in MAPS or self.natures.get(name, IMAGE) != IMAGE):
            return False
        return kind.fits(layout, (1, *shape))


@dataclass(frozen=True)
class CorruptedPart:
    """A corrupted part, and bool (N, M) where it was hit; at most one modality an instance."""

    part: Split
    hit: Bools


def victims(part: Split, able: Sequence[str], seed: int, number: int | None = None) -> Bools:
    """Return which modality of each instance is hit, bool (N, M): a random present one of those that can be.

    An instance with a single modality is spared: nothing could stand in for it.
    """
    names = tuple(part.inputs)
    here = np.stack([part.present.get(name, np.ones(len(part), np.bool_)) for name in names], 1)  # (N, M)
    open_to = here & np.array([name in able for name in names]) & (here.sum(1, keepdims=True) > 1)
    draws = _draws(seed, number, "victims", *able)
    chosen = np.where(open_to, draws.random(here.shape), -1.0).argmax(1)
    hit = np.zeros_like(here)
    hit[np.arange(len(part)), chosen] = True
    return np.asarray(hit & open_to)


def corrupt_part(
    part: Split, kind: Kind, severity: float, ground: Ground, *, seed: int, hit: Bools, number: int | None = None
) -> CorruptedPart:
    """Corrupt a part at the modalities in `hit`.

    Args:
        part: the instances.
        kind: what is done.
        severity: in the kind's unit.
        ground: what is known of the part.
        seed: of the draws, which are the same at every severity.
        hit: from `victims`.
        number: which piece of a part this is that is too large for memory.
    """
    inputs = {}
    for column, name in enumerate(part.inputs):
        rows = np.flatnonzero(hit[:, column])
        whole = part.inputs[name]
        inputs[name] = whole
        if len(rows):
            draws = _draws(seed, number, kind.name, name)
            changed = whole.copy()
            changed[rows] = _changed(part, name, rows, kind, severity, ground, draws)
            inputs[name] = changed
    return CorruptedPart(part.with_inputs(inputs), hit)


def _changed(
    part: Split,
    name: str,
    rows: Integers,
    kind: Kind,
    severity: float,
    ground: Ground,
    draws: np.random.Generator,
) -> Floats:
    """Return the corrupted values of some rows of a modality, (n, ...)."""
    labels = part.labels if part.labels.dtype.kind == "i" else (part.labels >= 0).astype(np.int64)
    donors = part.present.get(name, np.ones(len(part), np.bool_))
    if kind.group == "audio":
        signal = ground.signals[name]
        site = Site(
            layout="bt",
            everything=signal.waves,
            rows=rows,
            donors=donors,
            labels=labels,
            lengths=signal.lengths[rows],
            all_lengths=signal.lengths,
            rate=signal.rate,
        )
        return signal.inputs(kind.apply(signal.waves[rows], severity, site, draws))
    layout, scale, mask = ground.layouts[name], ground.scales.get(name), part.masks.get(name)
    values = part.inputs[name] if scale is None else _standard(part.inputs[name], scale)
    order = None if mask is None else _front(mask)
    if mask is not None and order is not None:
        values = _reorder(np.where(_over(mask, layout), values, np.float32(0)), order, layout)
    lengths = None if mask is None else mask.sum(1).astype(np.int64)
    site = Site(
        layout=layout,
        everything=values,
        rows=rows,
        donors=donors,
        labels=labels,
        lengths=None if lengths is None else lengths[rows],
        all_lengths=lengths,
        rate=None,
    )
    changed = kind.apply(values[rows], severity, site, draws)
    if mask is not None and order is not None:
        changed = _reorder(changed, order[rows].argsort(1), layout)
    if scale is not None:
        changed = (changed * scale.std + scale.mean).astype(np.float32)
    if mask is not None:
        changed = np.where(_over(mask[rows], layout), changed, part.inputs[name][rows])
    return changed


def _standard(x: Floats, scale: Scale) -> Floats:
    """Return values in standard deviations from the mean; 0 where a feature is constant."""
    safe = np.where(scale.std > 0, scale.std, 1.0)
    return np.where(scale.std > 0, (x - scale.mean) / safe, 0.0).astype(np.float32)


def _front(mask: Bools) -> NDArray[np.int64]:
    """Return the order that brings the valid steps to the front, (N, T)."""
    return np.asarray((~mask).argsort(axis=1, kind="stable"), dtype=np.int64)


def _reorder(x: Floats, order: NDArray[np.int64], layout: str) -> Floats:
    """Return (n, ...) with its steps in another order."""
    index = order.reshape([{"b": len(order), "t": order.shape[1]}.get(letter, 1) for letter in layout])
    return np.take_along_axis(x, index, layout.index("t"))


def _over(mask: Bools, layout: str) -> Bools:
    """Bring a mask (n, T) into a shape that broadcasts over the layout."""
    return mask.reshape([{"b": mask.shape[0], "t": mask.shape[1]}.get(letter, 1) for letter in layout])


def _draws(seed: int, number: int | None, *what: str) -> np.random.Generator:
    more = () if number is None else (f"piece {number}",)
    return np.random.default_rng(seeding.derive_seed(seed, "corruption", *what, *more))


def check_kinds(kinds: Sequence[str] | None, known: Registry[Kind]) -> list[Kind]:
    """Return the kinds that are asked for; None = all.

    Raises:
        UsageError: names all that are unknown, with the choices.
    """
    if kinds is None:
        return [known[name] for name in known]
    unknown = [name for name in kinds if name not in known]
    if unknown or not kinds:
        raise UsageError(
            f"unknown corruption {', '.join(map(repr, unknown)) or '(none named)'}; choose from: {', '.join(known)}"
        )
    return [known[name] for name in dict.fromkeys(kinds)]

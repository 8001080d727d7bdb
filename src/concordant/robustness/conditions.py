"""Named conditions under which a model is evaluated, and how each of them changes a split.

"clean"; "corruption.KIND.SEVERITY", severities counted from 1, and "corruption.KIND" for the four of `concordant run`;
"oracle.MODALITY+...", the corrupted modality given as absent, where corruption can reach these modalities;
"removal.MODALITY", a modality absent from every instance; "subset.MODALITY+...", all but these absent;
"thinned.RATE", modalities absent from single instances at random.
A corruption changes one random present modality of every instance. Which one depends on the seed and on the modalities
that the kind can change, not on its severity, which makes severities and models comparable.
Axis letters: N instances, M modalities, T steps.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from concordant import seeding
from concordant.benchmarks.benchmark import Waves
from concordant.data.scaling import Scale
from concordant.data.split import AnySplit, Bools, Floats, Split, as_classes
from concordant.errors import UsageError
from concordant.robustness.corruptions import KINDS, SEVERITIES, Context, Kind
from concordant.robustness.corruptions.kind import over_instances, over_steps

CLEAN = "clean"
SWAP = "swap"  # with an instance of another class
LEVELS = tuple(range(1, SEVERITIES + 1))
# The corruptions of `concordant run`, at one strength each: name -> kind, strength.
RUN = {
    "noise": ("gaussian-noise", 1.5),
    "dimensions": ("dimension-replacement", 0.5),
    "swap": ("swap", 1.0),
    "zero": ("dimension-dropout", 1.0),
}

# From a split, and its number if it is a chunk of a larger one, to the changed split and bool (N, M), True at perturbed
# modalities.
Change = Callable[[Split, int | None], tuple[Split, Bools]]


@dataclass(frozen=True)
class Condition:
    """A name, and the change of a split that it stands for."""

    name: str
    change: Change


@dataclass(frozen=True)
class SplitContext:
    """The properties of a split that corruption needs beside the values.

    Args:
        layouts: modality -> layout, batch first.
        natures: modality -> "image" for image kinds; maps without an entry are images.
        scales: modality -> mean and std of its features, where they are not standardised.
        signals: modality -> its waveforms, whose inputs are scaled as the split's are.
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
        if kind.group == "image" and ("h" not in layout or self.natures.get(name, "image") != "image"):
            return False
        return kind.fits(layout, (1, *shape))


def run_conditions(split: AnySplit, layouts: Mapping[str, str], seed: int) -> Iterator[Condition]:
    """Yield the conditions of `concordant run`: clean, four corruptions, each modality removed.

    Each corruption has victims of its own here, an instance with a single modality among them. A swap with another
    class is left out where it cannot be measured.
    """
    yield clean()
    for name in RUN if can_swap(split) else [name for name in RUN if name != SWAP]:
        yield _run_corruption(name, tuple(split.shapes), SplitContext(layouts), seed)
    for name in split.shapes:
        yield removal(name)


def can_swap(split: AnySplit) -> bool:
    """Return whether every instance can get each of its modalities from an instance of another class."""
    classes = as_classes(np.asarray(split.labels))
    subsets = [classes, *(classes[here] for here in getattr(split, "present", {}).values() if here.any())]
    return all(len(np.unique(one)) > 1 for one in subsets)


def stress_conditions(
    split: AnySplit, context: SplitContext, kinds: Sequence[Kind], seed: int, *, severities: Sequence[int] = LEVELS
) -> Iterator[Condition]:
    """Yield the conditions of `concordant stress --corruption`: clean, kinds at severities, and their oracles."""
    yield clean()
    groups = []
    for kind in kinds:
        able = context.able(kind, split.shapes)
        if able:
            yield from (corruption(kind, level, able, context, seed) for level in severities)
            groups.append(able)
    for able in dict.fromkeys(groups):
        yield oracle(able, seed)


def clean() -> Condition:
    """Return the condition of an unchanged split."""
    return Condition(CLEAN, lambda split, _: (split, _nothing(split)))


def corruption(kind: Kind, level: int, able: Sequence[str], context: SplitContext, seed: int) -> Condition:
    """Return the condition of one kind at one severity, counted from 1, where it can change the modalities `able`.

    The draws of a seed are equal at every severity.
    """

    def change(split: Split, number: int | None) -> tuple[Split, Bools]:
        perturbed = victims(split, able, seed, number)
        return corrupt(split, kind, kind.severities[level - 1], context, seed=seed, perturbed=perturbed, number=number)

    return Condition(f"corruption.{kind.name}.{level}", change)


def _run_corruption(name: str, names: tuple[str, ...], context: SplitContext, seed: int) -> Condition:
    kind, strength = KINDS[RUN[name][0]], RUN[name][1]
    stream = ("stress", name)

    def change(split: Split, number: int | None) -> tuple[Split, Bools]:
        perturbed = _chosen(split, names, _draws(seed, number, *stream), spare_lone=False)
        return corrupt(split, kind, strength, context, seed=seed, perturbed=perturbed, number=number, stream=stream)

    return Condition(f"corruption.{name}", change)


def oracle(able: Sequence[str], seed: int) -> Condition:
    """Return the condition in which the modality that a corruption of these would reach is given as absent."""

    def change(split: Split, number: int | None) -> tuple[Split, Bools]:
        perturbed = victims(split, able, seed, number)
        return with_presence(split, presence(split) & ~perturbed), perturbed

    return Condition(oracle_name(able), change)


def oracle_name(able: Sequence[str]) -> str:
    """Return the name of the oracle's condition for kinds that can change these modalities."""
    return f"oracle.{'+'.join(able)}"


def removal(name: str) -> Condition:
    """Return the condition in which one modality is absent from every instance."""
    return Condition(f"removal.{name}", lambda split, _: (keep(split, set(split.inputs) - {name}), _nothing(split)))


def subset(kept: Collection[str]) -> Condition:
    """Return the condition in which only these modalities are left."""
    return Condition(f"subset.{'+'.join(kept)}", lambda split, _: (keep(split, kept), _nothing(split)))


def thinned(rate: float, seed: int) -> Condition:
    """Return the condition in which each modality of each instance is absent with the chance `rate`; one always stays.

    The draws are equal at every rate: modalities absent at a low rate are absent at a higher one.
    """

    def change(split: Split, number: int | None) -> tuple[Split, Bools]:
        present = presence(split)
        piece = "" if number is None else f"piece {number}"
        chance = np.random.default_rng(seeding.derive_seed(seed, "removal", piece)).random(present.shape)
        left = present & (chance >= rate)
        last = np.where(present, chance, -1.0).argmax(1)  # the modality that would go last stays
        left[np.arange(len(split)), last] = present.any(1)
        return with_presence(split, left), _nothing(split)

    return Condition(f"thinned.{rate}", change)


def victims(split: Split, able: Sequence[str], seed: int, number: int | None = None) -> Bools:
    """Return which modality of each instance is perturbed, bool (N, M): a random present one of `able`.

    An instance with a single modality is spared: nothing could stand in for it. `number` is that of the chunk, for a
    split that is too large for memory.
    """
    return _chosen(split, able, _draws(seed, number, "corruption", "victims", *able), spare_lone=True)


def corrupt(
    split: Split,
    kind: Kind,
    severity: float,
    context: SplitContext,
    *,
    seed: int,
    perturbed: Bools,
    number: int | None = None,
    stream: tuple[str, ...] | None = None,
) -> tuple[Split, Bools]:
    """Corrupt a split at the modalities in `perturbed`, bool (N, M); return it with them.

    Values that are not standardised are standardised for the kind, and brought back to their own units. The draws of a
    seed are equal at every severity.

    Args:
        split: the instances.
        kind: of corruption.
        severity: in the kind's unit.
        context: of the split.
        seed: of the draws.
        perturbed: from `victims`.
        number: of the chunk, for a split that is too large for memory.
        stream: names of the random stream of a corruption of `concordant run`; None = the kind's own.
    """
    inputs = dict(split.inputs)
    for column, name in enumerate(split.inputs):
        rows = np.flatnonzero(perturbed[:, column])
        if len(rows):
            draws = _draws(seed, number, *(stream or ("corruption", kind.name)), name)
            changed = _corrupted(split, name, rows, kind, severity, context, draws, nested=stream is None)
            inputs[name] = split.inputs[name].copy()
            inputs[name][rows] = changed
            del changed
    return split.with_inputs(inputs), perturbed


def _corrupted(
    split: Split,
    name: str,
    rows: NDArray[np.int64],
    kind: Kind,
    severity: float,
    context: SplitContext,
    draws: np.random.Generator,
    *,
    nested: bool,
) -> Floats:
    """Return the corrupted values of some rows of a modality, (n, ...)."""
    labels = as_classes(split.labels)
    donors = split.present.get(name, np.ones(len(split), np.bool_))
    if kind.group == "audio":
        signal = context.signals[name]
        whole = Context("bt", signal.waves, rows, donors, labels, signal.lengths, signal.rate)
        return signal.inputs(kind.apply(signal.waves[rows], severity, whole, draws))
    layout, scale, mask = context.layouts[name], context.scales.get(name), split.masks.get(name)
    values = split.inputs[name] if scale is None else _standardised(split.inputs[name], scale)
    lengths = order = None
    if mask is not None:
        lengths = mask.sum(1).astype(np.int64)
        if not mask.all():
            values = np.where(over_steps(mask, layout), values, np.float32(0))
        if (mask[:, 1:] & ~mask[:, :-1]).any():
            # Kinds expect the valid steps first; those of left-padded sequences are brought there and back.
            order = (~mask).argsort(axis=1, kind="stable")
            values = _reordered(values, order, layout)
    whole = Context(layout, values, rows, donors, labels, lengths, nested=nested)
    changed = kind.apply(values[rows], severity, whole, draws)
    if order is not None:
        changed = _reordered(changed, order[rows].argsort(1), layout)
    if scale is not None:
        changed = (changed * scale.std + scale.mean).astype(np.float32)
    if mask is None or mask[rows].all():
        return changed
    return np.where(over_steps(mask[rows], layout), changed, split.inputs[name][rows])


def keep(split: Split, kept: Collection[str]) -> Split:
    """Return the split with all other modalities absent from every instance, their values set to 0."""
    gone = [name for name in split.inputs if name not in kept]
    # Not zeros_like, which touches the memory.
    inputs = split.inputs | {name: np.zeros(split.inputs[name].shape, split.inputs[name].dtype) for name in gone}
    present = split.present | {name: np.zeros(len(split), np.bool_) for name in gone}
    return Split(inputs, split.labels, split.ids, split.groups, split.masks, present)


def with_presence(split: Split, present: Bools) -> Split:
    """Return the split with modalities present as in bool (N, M); values of absent ones are set to 0."""
    known, inputs = dict(zip(split.inputs, present.T, strict=True)), dict(split.inputs)
    for name, x in split.inputs.items():
        if not known[name].all():
            inputs[name] = np.where(over_instances(known[name], "b" * x.ndim), x, np.float32(0))
    return Split(inputs, split.labels, split.ids, split.groups, split.masks, split.present | known)


def presence(split: Split) -> Bools:
    """Return which modalities each instance has, bool (N, M)."""
    return np.stack([split.present.get(name, np.ones(len(split), np.bool_)) for name in split.inputs], 1)


def check_kinds(kinds: Sequence[str] | None) -> list[Kind]:
    """Return kinds of corruption by name; None = all.

    Raises:
        UsageError: names all that are unknown, with the choices.
    """
    if kinds is None:
        return [KINDS[name] for name in KINDS]
    unknown = [name for name in kinds if name not in KINDS]
    if unknown or not kinds:
        raise UsageError(
            f"unknown corruption {', '.join(map(repr, unknown)) or '(none named)'}; choose from: {', '.join(KINDS)}"
        )
    return [KINDS[name] for name in dict.fromkeys(kinds)]


def _chosen(split: Split, able: Sequence[str], draws: np.random.Generator, *, spare_lone: bool) -> Bools:
    """Return a random present modality of each instance, of those in `able`; bool (N, M)."""
    present = presence(split)
    candidates = present & np.array([name in able for name in split.inputs])
    if spare_lone:
        candidates &= present.sum(1, keepdims=True) > 1
    chosen = np.where(candidates, draws.random(present.shape), -1.0).argmax(1)
    return np.asarray(candidates & (np.arange(candidates.shape[1]) == chosen[:, None]))


def _nothing(split: Split) -> Bools:
    return np.zeros((len(split), len(split.inputs)), np.bool_)


def _standardised(x: Floats, scale: Scale) -> Floats:
    """Return values in standard deviations from the mean; 0 where a feature is constant."""
    safe = np.where(scale.std > 0, scale.std, 1.0)
    return np.where(scale.std > 0, (x - scale.mean) / safe, 0.0).astype(np.float32)


def _reordered(x: Floats, order: NDArray[np.int64], layout: str) -> Floats:
    """Return (n, ...) with its steps in the order of (n, T)."""
    return np.take_along_axis(x, over_steps(order, layout), layout.index("t"))


def _draws(seed: int, number: int | None, *stream: str) -> np.random.Generator:
    more = () if number is None else (f"piece {number}",)
    return np.random.default_rng(seeding.derive_seed(seed, *stream, *more))

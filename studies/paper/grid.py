"""What the proof runs, as data: families of cells, the methods of each cell, and how large everything is.

A family is one benchmark under one protocol, with some of its modalities; recipes are searched once a family. A cell is
a family with one fusion.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from concordant.benchmarks.catalogue import BENCHMARKS
from concordant.fusion import FUSIONS
from concordant.rivals import ABLATIONS, CALIBRATORS
from concordant.sweep.space import Choices, Space, Span

CALIBRATORS_ASKED = (
    *("none", "self", "joint", "gmu", "modality-dropout", "uncertainty", "evidential"),
    *("attention", "after-fusion", "context"),
)


@dataclass(frozen=True)
class Family:
    """One benchmark as the proof looks at it.

    Args:
        name: of the family, a folder.
        benchmark: of `concordant list benchmarks`.
        fusions: a cell each; training of the first is observed, and its calibrator ablated.
        searched: the fusion by whose validation scores the recipes are chosen; a cheap one.
        seeds: of every cell.
        protocol: None = the benchmark's first.
        modalities: None = all.
        recipe: fields that differ from the benchmark's, for every method.
        ablated: the calibrator of its first cell is trained with parts switched off as well.
        search_seeds: splits that its candidates are tried on; None = as the grid says.
        unseen: its test part is of groups that training does not show, its validation part is not; candidates are then
            scored on a training group that is left out.
    """

    name: str
    benchmark: str
    fusions: tuple[str, ...]
    searched: str
    seeds: int
    protocol: str | None = None
    modalities: tuple[str, ...] | None = None
    recipe: Mapping[str, Any] = field(default_factory=dict)
    ablated: bool = True
    search_seeds: int | None = None
    unseen: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """The modalities."""
        return self.modalities if self.modalities is not None else BENCHMARKS[self.benchmark].modalities

    @property
    def split(self) -> str:
        """The protocol."""
        return self.protocol if self.protocol is not None else BENCHMARKS[self.benchmark].protocols[0]


@dataclass(frozen=True)
class Cell:
    """A family with one fusion.

    Args:
        family: where it belongs.
        fusion: which backbone.
        first: it is the family's first: observed, and ablated where the family is.
    """

    family: Family
    fusion: str
    first: bool

    @property
    def name(self) -> str:
        """Its folder."""
        return f"{self.family.name}/{self.fusion}"


@dataclass(frozen=True)
class Grid:
    """Everything that one command runs.

    Args:
        families: what is looked at.
        calibrators: of every cell, as far as its fusion can have them.
        ablations: of the first cell of every family that is ablated.
        severities: which of the five of every kind of corruption, counted from 1.
        space: recipe field -> what it may be, beside the benchmark's own value, which is always the first candidate.
        budget: candidates a calibrator, the same for each; 0 = no search: what was searched before, else the
            benchmark's own recipe.
        search_seeds: splits that a candidate's validation score is the mean of, unless the family says another number.
        resamples: of every bootstrap.
        steps: share of the recipe's steps that are trained; 1 = all.
        quick: it is the short version, which every page says.
        wide: it has more fusions than the proof needs.
    """

    families: tuple[Family, ...]
    calibrators: tuple[str, ...] = CALIBRATORS_ASKED
    ablations: tuple[str, ...] = ABLATIONS
    severities: tuple[int, ...] = (1, 3, 5)
    space: Space = field(default_factory=dict)
    budget: int = 3
    search_seeds: int = 2
    resamples: int = 100_000
    steps: float = 1.0
    quick: bool = False
    wide: bool = False

    @property
    def cells(self) -> tuple[Cell, ...]:
        """All cells, family by family."""
        return tuple(
            Cell(family, fusion, first=number == 0)
            for family in self.families
            for number, fusion in enumerate(family.fusions)
        )

    def search_seeds_of(self, family: Family) -> int:
        """Return on how many splits a family's candidates are tried."""
        return self.search_seeds if family.search_seeds is None else family.search_seeds

    @property
    def rounds(self) -> tuple[Cell, ...]:
        """All cells in the order of work: the first of every family, then the second, so that a part is a broad one."""
        return tuple(sorted(self.cells, key=lambda cell: cell.family.fusions.index(cell.fusion)))

    def ablations_of(self, cell: Cell) -> tuple[str, ...]:
        """Return the ablations of a cell."""
        return self.ablations if cell.first and cell.family.ablated else ()

    def methods(self, fusion: str) -> tuple[str, ...]:
        """Return the calibrators that a fusion can have."""
        entry = FUSIONS[fusion]
        fits = {
            name: (entry.late or not CALIBRATORS[name].late) and (entry.head or not CALIBRATORS[name].fused)
            for name in self.calibrators
        }
        return tuple(name for name, able in fits.items() if able)


VECTORS = ("lf-dnn", "lmf", "transformer")
SEQUENCES = ("lf-dnn", "tfn", "mult")
MAPS = ("concat", "sum", "film")
MORE: dict[tuple[str, ...], tuple[str, ...]] = {
    VECTORS: ("mbt",),
    SEQUENCES: ("transformer", "mbt"),
    MAPS: ("gated", "mmtm"),
}  # of the wide grid

# Around the benchmarks' own values; steps and batches stay, so that every method sees the same instances.
SPACE: Space = {
    "learning_rate": Span(1e-3, 2e-2, log=True),
    "weight_decay": Span(1e-4, 1e-1, log=True),
    "dropout": Choices((0.1, 0.3, 0.5)),
}

# Where a training takes long candidates are tried on one split, there are five seeds, and nothing is ablated.
_LONG: dict[str, Any] = {"searched": "lf-dnn", "seeds": 5, "search_seeds": 1, "ablated": False}
_MAPPED: dict[str, Any] = {**_LONG, "searched": "concat"}
_SMALL_BATCHES = {"batch": 32}
# Where validation parts have some hundred instances two splits choose at random, and a training takes seconds.
_FEW_ROWS: dict[str, Any] = {"search_seeds": 5}

# Those that say most come first, since a part of the grid is of use as well.
FULL = Grid(
    families=(
        Family("scene15", "scene15", VECTORS, "lf-dnn", 10, **_FEW_ROWS),
        Family("cmu-mosi-folds", "cmu-mosi-utterance", VECTORS, "lf-dnn", 10, protocol="test-folds", **_FEW_ROWS),
        Family("cremad-features", "cremad-features", VECTORS, "lf-dnn", 10, **_FEW_ROWS),
        Family("ave-features", "ave-features", VECTORS, "lf-dnn", 10, **_FEW_ROWS),
        Family("utd-mhad-2", "utd-mhad", SEQUENCES, modalities=("skeleton", "inertial"), unseen=True, **_LONG),
        Family("av-digits", "av-digits", MAPS, recipe=_SMALL_BATCHES, **_MAPPED),
        Family("utd-mhad-3", "utd-mhad", SEQUENCES, unseen=True, **_LONG),
        Family("utd-mhad-maps", "utd-mhad", MAPS, recipe=_SMALL_BATCHES, unseen=True, **_MAPPED),
        Family("handwritten", "handwritten", VECTORS, "lf-dnn", 10, ablated=False, **_FEW_ROWS),
        Family(
            "cmu-mosi-given", "cmu-mosi-utterance", VECTORS, "lf-dnn", 10, protocol="given", ablated=False, **_FEW_ROWS
        ),
        Family("ravdess", "ravdess", SEQUENCES, **_LONG),
    ),
    space=SPACE,
)

# The same cells, and more fusions of each family; for who has the hours.
WIDE = replace(
    FULL, families=tuple(replace(one, fusions=(*one.fusions, *MORE[one.fusions])) for one in FULL.families), wide=True
)

_ONE_FUSION = {family.name: replace(family, fusions=family.fusions[:1], seeds=3) for family in FULL.families}
QUICK = Grid(
    families=(
        *(
            _ONE_FUSION[name]
            for name in ("scene15", "handwritten", "cmu-mosi-folds", "cremad-features", "ave-features")
        ),
        _ONE_FUSION["utd-mhad-2"],
        replace(_ONE_FUSION["av-digits"], recipe={"batch": 32, "steps": 200}),
    ),
    ablations=("context-no-support", "context-no-conflict", "context-no-comparison", "context-no-perturbation"),
    severities=(3, 5),
    budget=0,
    resamples=20_000,
    steps=0.5,
    quick=True,
)

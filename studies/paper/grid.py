"""The grid of the study, as data: families of cells, the methods of each cell, sizes, and the experiments they make.

A family is one benchmark under one protocol with some of its modalities. A cell is a family with one fusion; each cell
has its own search of recipes, or that of its family's first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from concordant.benchmarks.catalogue import BENCHMARKS
from concordant.errors import DataError, explain
from concordant.fusion import FUSIONS
from concordant.rivals import ABLATIONS, CALIBRATORS
from concordant.sweep.search import Space
from concordant.training.config import Config, Recipe, Value, make_config

OURS, TWIN = "context", "none+perturbed"
METHODS = (
    *("none", "self", "joint", "gmu", "modality-dropout", "uncertainty", "evidential"),
    *("attention", "after-fusion", OURS),
)
Tuned = Mapping[str, Mapping[str, Value]]  # label -> recipe fields


@dataclass(frozen=True)
class Family:
    """One benchmark under one protocol with some of its modalities."""

    name: str  # of its folder, too
    benchmark: str  # of `concordant list benchmarks`
    fusions: tuple[str, ...]  # one cell each; the first is observed in training, and its calibrator ablated
    seeds: int  # of every cell
    protocol: str | None = None  # None = the benchmark's first
    modalities: tuple[str, ...] | None = None  # None = all
    recipe: Mapping[str, Any] = field(default_factory=dict)  # fields that differ from the benchmark's, for every method
    ablated: bool = True  # whether the calibrator of the first cell is also trained with parts switched off
    search_seeds: int = 2  # splits over which a candidate's validation score is averaged
    # The test groups are not in training, the validation groups are: candidates are scored on a training group that is
    # left out.
    unseen: bool = False
    borrowed: tuple[str, ...] = ()  # fusions that have the recipes of the first, and no search of their own yet

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
    """A family with one fusion."""

    family: Family
    fusion: str

    @property
    def first(self) -> bool:
        """Whether the fusion is the family's first."""
        return self.fusion == self.family.fusions[0]

    @property
    def name(self) -> str:
        """FAMILY/FUSION."""
        return f"{self.family.name}/{self.fusion}"

    @property
    def searched(self) -> Cell:
        """The cell by whose search the recipes are chosen."""
        return replace(self, fusion=self.family.fusions[0]) if self.fusion in self.family.borrowed else self

    @property
    def columns(self) -> dict[str, Any]:
        """The columns that all rows of the cell have in common."""
        family = self.family
        return {
            "family": family.name,
            "benchmark": family.benchmark,
            "protocol": family.split,
            "fusion": self.fusion,
            "modalities": len(family.names),
            "seeds": family.seeds,
        }


@dataclass(frozen=True)
class Grid:
    """Everything that one command runs."""

    families: tuple[Family, ...]
    calibrators: tuple[str, ...] = METHODS  # of every cell whose fusion can have them
    # Of the first cell of every family that is ablated; what the losses do alone is measured by studies.experiments.
    ablations: tuple[str, ...] = tuple(name for name in ABLATIONS if name != "context-losses-only")
    severities: tuple[int, ...] = (1, 3, 5)  # of every kind of corruption, counted from 1
    space: Space = field(default_factory=dict)  # recipe field -> values; the first candidate has the benchmark's own
    budget: int = 3  # candidates per calibrator; 0 = an earlier search or the benchmark's own recipe
    resamples: int = 100_000  # of every bootstrap
    steps: float = 1.0  # share of the recipe's steps that are trained
    quick: bool = False  # the short version, marked on every page

    @property
    def cells(self) -> tuple[Cell, ...]:
        """All cells, family by family."""
        return tuple(Cell(family, fusion) for family in self.families for fusion in family.fusions)

    @property
    def rounds(self) -> tuple[Cell, ...]:
        """All cells in the order of work: the first of every family, then the second; a part is then a broad one."""
        return tuple(sorted(self.cells, key=lambda cell: cell.family.fusions.index(cell.fusion)))

    def ablations_of(self, cell: Cell) -> tuple[str, ...]:
        """Return the ablations of a cell."""
        return self.ablations if cell.first and cell.family.ablated else ()

    def methods(self, fusion: str) -> tuple[str, ...]:
        """Return the calibrators that a fusion can have."""
        late, head = FUSIONS[fusion].late, FUSIONS[fusion].head
        known = ((name, CALIBRATORS[name]) for name in self.calibrators)
        return tuple(name for name, entry in known if (late or not entry.late) and (head or not entry.fused))


# Three fusions where the test rows are many enough to tell methods apart and a run takes minutes, else one or two:
# `mult` of three sensors or of speech takes as long as all other cells of its family.
VECTORS = ("lf-dnn", "lmf", "transformer")
SEQUENCES = ("lf-dnn", "tfn", "mult")
MAPS = ("concat", "sum", "film")

# Around the benchmarks' own values. Steps and batches stay, so that every method gets the same instances.
SPACE: Space = {
    "learning_rate": {"log": [1e-3, 2e-2]},
    "weight_decay": {"log": [1e-4, 1e-1]},
    "dropout": [0.1, 0.3, 0.5],
}

# Validation splits of some hundred vectors: two splits would choose at random, and training takes seconds.
_VECTORS: dict[str, Any] = {"seeds": 10, "search_seeds": 5}
# Where training takes long: candidates on one split, five seeds, no ablations.
_LONG: dict[str, Any] = {"seeds": 5, "search_seeds": 1, "ablated": False}
_MAPS: dict[str, Any] = {"recipe": {"batch": 32}, **_LONG}
_TWO = ("skeleton", "inertial")

# The most informative families come first: a part of the grid is useful as well.
FULL = Grid(
    families=(
        Family("scene15", "scene15", VECTORS, **_VECTORS),
        Family("cmu-mosi-folds", "cmu-mosi-utterance", ("lf-dnn",), protocol="test-folds", **_VECTORS),
        Family("cremad-features", "cremad-features", VECTORS, **_VECTORS),
        Family("ave-features", "ave-features", VECTORS, **_VECTORS),
        Family("utd-mhad-2", "utd-mhad", SEQUENCES, modalities=_TWO, unseen=True, **_LONG),
        Family("av-digits", "av-digits", MAPS, **_MAPS),
        Family("utd-mhad-3", "utd-mhad", SEQUENCES[:2], unseen=True, **_LONG),
        Family("utd-mhad-maps", "utd-mhad", ("concat",), unseen=True, **_MAPS),
        Family("handwritten", "handwritten", ("lf-dnn",), ablated=False, **_VECTORS),
        Family("cmu-mosi-given", "cmu-mosi-utterance", ("lf-dnn",), protocol="given", ablated=False, **_VECTORS),
        Family("ravdess", "ravdess", SEQUENCES[:2], borrowed=("tfn",), **_LONG),
    ),
    space=SPACE,
)

_ONE_FUSION = {family.name: replace(family, fusions=family.fusions[:1], seeds=3) for family in FULL.families}
_QUICK_VECTORS = ("scene15", "handwritten", "cmu-mosi-folds", "cremad-features", "ave-features")
QUICK = Grid(
    families=(
        *(_ONE_FUSION[name] for name in (*_QUICK_VECTORS, "utd-mhad-2")),
        replace(_ONE_FUSION["av-digits"], recipe={"batch": 32, "steps": 200}),
    ),
    ablations=("context-no-support", "context-no-conflict", "context-no-comparison", "context-no-perturbation"),
    severities=(3, 5),
    budget=0,
    resamples=20_000,
    steps=0.5,
    quick=True,
)


@dataclass(frozen=True)
class Experiment:
    """One folder of runs."""

    cell: Cell
    config: Config  # with the recipes that the search chose
    folder: Path
    ablations: bool = False  # of the calibrator with parts switched off

    @property
    def name(self) -> str:
        """Name in lines of progress."""
        return f"{self.cell.name}{' ablations' if self.ablations else ''}"

    @property
    def observed(self) -> bool:
        """Whether training records its dynamics: in the first cell of a family."""
        return self.cell.first and not self.ablations


def base_config(grid: Grid, family: Family, fusion: str, calibrators: tuple[str, ...], *, seeds: int) -> Config:
    """Return the configuration of some methods with the recipe of the benchmark and family.

    Raises:
        UsageError: benchmark, fusion, modalities and recipe do not go together.
    """
    config = make_config(
        family.benchmark,
        fusion=fusion,
        calibrators=calibrators,
        seeds=seeds,
        protocol=family.protocol,
        modalities=family.modalities,
        recipe=dict(family.recipe),
    )
    steps = max(1, round(grid.steps * config.recipe.steps))
    return config.model_copy(update={"recipe": config.recipe.model_copy(update={"steps": steps})})


def plan_cell(grid: Grid, cell: Cell, out: Path, chosen: Tuned) -> tuple[Experiment, ...]:
    """Return the experiment of one cell, in OUT/FAMILY/FUSION, and of its ablations, in OUT/FAMILY/FUSION-ablations.

    Args:
        grid: the whole grid.
        cell: which cell.
        out: folder of all runs.
        chosen: label -> recipe fields. Ablations have those of the whole calibrator.

    Raises:
        DataError: some fields are not valid in a recipe; all faults are named.
    """
    plan = []
    ablated = dict.fromkeys(grid.ablations_of(cell), chosen.get(OURS, {}))
    for methods, fields in ((grid.methods(cell.fusion), chosen), (tuple(ablated), ablated)):
        if not methods:
            continue
        config = base_config(grid, cell.family, cell.fusion, methods, seeds=cell.family.seeds)
        tuned = {one.label: dict(fields[one.label]) for one in config.variants if fields.get(one.label)}
        faults = []
        for label, own in tuned.items():
            try:
                Recipe.model_validate({**config.recipe.model_dump(), **own})
            except ValidationError as error:
                faults.append(f"{label}: {explain(error)}")
        if faults:
            raise DataError(
                f"the search of {cell.name} has chosen what no recipe can be: {'; '.join(faults)}; remove its "
                "file to search again"
            )
        folder = out / f"{cell.name}{'-ablations' if fields is ablated else ''}"
        plan.append(Experiment(cell, config.model_copy(update={"tuned": tuned}), folder, fields is ablated))
    return tuple(plan)

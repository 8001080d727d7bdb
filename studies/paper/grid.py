"""The grid of the study, as data: families of cells, the methods of each cell, sizes, and the experiments they make.

A family is one benchmark under one protocol with some of its modalities; recipes are searched once per family. A cell
is a family with one fusion.
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
from concordant.training.config import Config, Recipe, make_config

OURS, TWIN = "context", "none+perturbed"
METHODS = (
    *("none", "self", "joint", "gmu", "modality-dropout", "uncertainty", "evidential"),
    *("attention", "after-fusion", OURS),
)
Tuned = Mapping[str, Mapping[str, float | int]]  # label -> recipe fields


@dataclass(frozen=True)
class Family:
    """One benchmark in the study.

    Args:
        name: of the family and its folder.
        benchmark: of `concordant list benchmarks`.
        fusions: one cell each; the first is observed in training, and its calibrator ablated.
        searched: the fusion, a cheap one, by whose validation scores the recipes are chosen.
        seeds: of every cell.
        protocol: None = the benchmark's first.
        modalities: None = all.
        recipe: fields that differ from the benchmark's, for every method.
        ablated: whether the calibrator of the first cell is also trained with parts switched off.
        search_seeds: splits on which candidates are tried; None = as the grid says.
        unseen: the test groups are not in training, the validation groups are; candidates are then scored on a training
            group that is left out.
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
    """A family with one fusion; `first` for the family's first."""

    family: Family
    fusion: str
    first: bool

    @property
    def name(self) -> str:
        """FAMILY/FUSION."""
        return f"{self.family.name}/{self.fusion}"


@dataclass(frozen=True)
class Grid:
    """Everything that one command runs.

    Args:
        families: what is compared.
        calibrators: of every cell whose fusion can have them.
        ablations: of the first cell of every family that is ablated.
        severities: of every kind of corruption, counted from 1.
        space: recipe field -> its values; the first candidate has the benchmark's own.
        budget: candidates per calibrator; 0 = no search, but an earlier one or the benchmark's own recipe.
        search_seeds: splits over which a candidate's validation score is averaged, unless the family says otherwise.
        resamples: of every bootstrap.
        steps: share of the recipe's steps that are trained.
        quick: the short version; every page says so.
        wide: the version with more fusions.
    """

    families: tuple[Family, ...]
    calibrators: tuple[str, ...] = METHODS
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

    @property
    def rounds(self) -> tuple[Cell, ...]:
        """All cells in the order of work: the first of every family, then the second; a part is then a broad one."""
        return tuple(sorted(self.cells, key=lambda cell: cell.family.fusions.index(cell.fusion)))

    def search_seeds_of(self, family: Family) -> int:
        """Return on how many splits a family's candidates are tried."""
        return self.search_seeds if family.search_seeds is None else family.search_seeds

    def ablations_of(self, cell: Cell) -> tuple[str, ...]:
        """Return the ablations of a cell."""
        return self.ablations if cell.first and cell.family.ablated else ()

    def methods(self, fusion: str) -> tuple[str, ...]:
        """Return the calibrators that a fusion can have."""
        entry = FUSIONS[fusion]
        return tuple(
            name
            for name in self.calibrators
            if (entry.late or not CALIBRATORS[name].late) and (entry.head or not CALIBRATORS[name].fused)
        )


VECTORS = ("lf-dnn", "lmf", "transformer")
SEQUENCES = ("lf-dnn", "tfn", "mult")
MAPS = ("concat", "sum", "film")
MORE: dict[tuple[str, ...], tuple[str, ...]] = {
    VECTORS: ("mbt",),
    SEQUENCES: ("transformer", "mbt"),
    MAPS: ("gated", "mmtm"),
}  # of the wide grid

# Around the benchmarks' own values. Steps and batches stay: every method then meets the same instances.
SPACE: Space = {
    "learning_rate": {"log": [1e-3, 2e-2]},
    "weight_decay": {"log": [1e-4, 1e-1]},
    "dropout": [0.1, 0.3, 0.5],
}

# Where training takes long: candidates on one split, five seeds, no ablations.
_LONG: dict[str, Any] = {"searched": "lf-dnn", "seeds": 5, "search_seeds": 1, "ablated": False}
_MAPPED: dict[str, Any] = {**_LONG, "searched": "concat"}
_SMALL_BATCHES = {"batch": 32}
# Validation splits of some hundred instances: two splits would choose at random, and training takes seconds.
_FEW_ROWS: dict[str, Any] = {"search_seeds": 5}

# The most informative families come first: a part of the grid is useful as well.
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

# For runs with a larger time budget.
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


@dataclass(frozen=True)
class Experiment:
    """One folder of runs.

    Args:
        cell: its cell.
        config: what is compared, with the recipes that the search chose.
        folder: of its runs.
        ablations: True for the calibrator with parts switched off.
    """

    cell: Cell
    config: Config
    folder: Path
    ablations: bool = False

    @property
    def name(self) -> str:
        """Name in lines of progress."""
        return f"{self.cell.name}{' ablations' if self.ablations else ''}"

    @property
    def observed(self) -> bool:
        """True where training records its dynamics: the first cell of a family."""
        return self.cell.first and not self.ablations


def base_config(grid: Grid, family: Family, fusion: str, calibrators: tuple[str, ...], *, seeds: int) -> Config:
    """Return the configuration of some methods with the recipe of the benchmark and family.

    Raises:
        UsageError: benchmark, fusion, modalities and recipe do not go together.
    """
    recipe: dict[str, Any] = dict(family.recipe)
    plain = make_config(family.benchmark, protocol=family.protocol, recipe=recipe).recipe
    if grid.steps != 1:
        recipe["steps"] = max(1, round(grid.steps * plain.steps))
    return make_config(
        family.benchmark,
        fusion=fusion,
        calibrators=calibrators,
        seeds=seeds,
        protocol=family.protocol,
        modalities=family.modalities,
        recipe=recipe,
    )


def make_plan(grid: Grid, out: Path, tuned: Mapping[str, Tuned]) -> tuple[Experiment, ...]:
    """Return all experiments of a grid, see `plan_cell`; `tuned` has the chosen recipe fields of each family."""
    return tuple(one for cell in grid.cells for one in plan_cell(grid, cell, out, tuned.get(cell.family.name, {})))


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
    found = [_experiment(grid, cell, grid.methods(cell.fusion), chosen, out / cell.name, ablations=False)]
    names = grid.ablations_of(cell)
    if names:
        own = dict.fromkeys(names, chosen.get(OURS, {}))
        found.append(_experiment(grid, cell, names, own, out / f"{cell.name}-ablations", ablations=True))
    return tuple(found)


def _experiment(
    grid: Grid, cell: Cell, methods: tuple[str, ...], chosen: Tuned, folder: Path, *, ablations: bool
) -> Experiment:
    config = base_config(grid, cell.family, cell.fusion, methods, seeds=cell.family.seeds)
    labels = [variant.label for variant in config.variants]
    fields = {label: dict(chosen[label]) for label in labels if chosen.get(label)}
    faults = []
    for label, own in fields.items():
        try:
            Recipe.model_validate({**config.recipe.model_dump(), **own})
        except ValidationError as error:
            faults.append(f"{label}: {explain(error)}")
    if faults:
        raise DataError(
            f"the search of {cell.family.name} has chosen what no recipe can be: {'; '.join(faults)}; remove its file "
            "to search again"
        )
    return Experiment(cell, config.model_copy(update={"tuned": fields}), folder, ablations)

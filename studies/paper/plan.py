"""From the grid to experiments as `concordant run` does them: one folder a cell, one beside it for its ablations.

OUT/<family>/<fusion>/            all methods of a cell
OUT/<family>/<fusion>-ablations/  the calibrator with parts switched off, of the first cell of a family
OUT/search/<family>/              the candidates of a search
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from concordant.errors import DataError
from concordant.faults import explain
from concordant.training.config import Config, Recipe, make_config
from studies.paper.grid import Cell, Family, Grid

Tuned = Mapping[str, Mapping[str, float | int]]  # label -> recipe fields


@dataclass(frozen=True)
class Experiment:
    """One folder of runs.

    Args:
        cell: where it belongs.
        config: what is compared, tuned where it was searched.
        folder: of its runs.
        ablations: it holds the cell's ablations.
    """

    cell: Cell
    config: Config
    folder: Path
    ablations: bool = False

    @property
    def name(self) -> str:
        """How lines of progress call it."""
        return f"{self.cell.name}{' ablations' if self.ablations else ''}"


def base_config(grid: Grid, family: Family, fusion: str, calibrators: tuple[str, ...], *, seeds: int) -> Config:
    """Return the configuration of some methods before anything is tuned.

    Raises:
        UsageError: what the grid names does not go together.
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
    """Return all experiments of a grid.

    Args:
        grid: what is run.
        out: the folder of all runs.
        tuned: family -> label -> the recipe fields that were chosen; families without stay as they are.

    Raises: as for `plan_cell`.
    """
    return tuple(one for cell in grid.cells for one in plan_cell(grid, cell, out, tuned.get(cell.family.name, {})))


def plan_cell(grid: Grid, cell: Cell, out: Path, chosen: Tuned) -> tuple[Experiment, ...]:
    """Return the experiments of one cell: its own and, where it is ablated, that of its ablations.

    Args:
        grid: where it belongs.
        cell: which.
        out: the folder of all runs.
        chosen: label -> the recipe fields that were chosen for its family.

    Raises:
        DataError: some of these are no recipe; all faults are named.
    """
    found = [_experiment(grid, cell, grid.methods(cell.fusion), chosen, out, ablations=False)]
    names = grid.ablations_of(cell)
    if names:
        own = dict.fromkeys(names, chosen.get("context", {}))  # ours less a part, not tuned anew
        found.append(_experiment(grid, cell, names, own, out, ablations=True))
    return tuple(found)


def _experiment(
    grid: Grid, cell: Cell, methods: tuple[str, ...], chosen: Tuned, out: Path, *, ablations: bool
) -> Experiment:
    config = base_config(grid, cell.family, cell.fusion, methods, seeds=cell.family.seeds)
    labels = [variant.label for variant in config.variants]
    fields = {label: dict(chosen[label]) for label in labels if chosen.get(label)}
    _check(cell.family, config, fields)
    folder = out / cell.family.name / (f"{cell.fusion}-ablations" if ablations else cell.fusion)
    return Experiment(cell, config.model_copy(update={"tuned": fields}), folder, ablations)


def _check(family: Family, config: Config, fields: Tuned) -> None:
    """Refuse what a committed search chose and no recipe can be."""
    faults = []
    for label, own in fields.items():
        try:
            Recipe.model_validate({**config.recipe.model_dump(), **own})
        except ValidationError as error:
            faults.append(f"{label}: {explain(error)}")
    if faults:
        raise DataError(
            f"the search of {family.name} has chosen what no recipe can be: {'; '.join(faults)}; remove its file to "
            "search again"
        )

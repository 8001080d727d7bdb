"""results/summary.json: the scores of every cell against every other method, as one validated document.

Detection is that of the highest severity, at which a swap is a whole one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import Field, ValidationError

from concordant.errors import DataError, explain
from concordant.fusion import FUSIONS
from concordant.robustness.conditions import CLEAN
from studies.paper.cells import CellFile, Frozen
from studies.paper.grid import OURS, Cell, Grid
from studies.paper.outcomes import MEAN
from studies.paper.tables import WHAT, WORST, Row, Table

SCHEMA: Literal["concordant.summary/1"] = "concordant.summary/1"


class Score(Frozen):
    """Mean accuracy over seeds, paired difference to the other method, and its p-value corrected over the table."""

    mean: float = Field(ge=0, le=1)
    difference: float = Field(ge=-1, le=1)
    p_holm: float = Field(ge=0, le=1)


class Detection(Frozen):
    """Areas under the ROC curve: which modality was corrupted, and whether one was."""

    which: float | None = Field(ge=0, le=1)
    whether: float | None = Field(ge=0, le=1)


class SummaryCell(Frozen):
    """One cell against one other method.

    Args:
        benchmark: name.
        protocol: of its splits.
        fusion: the backbone.
        setting: of the fusion.
        modalities: names.
        seeds: number of seeds.
        calibrator: ours.
        against: the other method.
        clean: scores on clean data.
        corrupted_mean: the mean over kinds of corruption and severities.
        removal_worst: without the modality that each method misses most.
        oracle_share: of the way from the perturbed twin to the oracle; None where there is no way to cover.
        detection_auroc: kind of corruption -> areas.
    """

    benchmark: str
    protocol: str
    fusion: str
    setting: Literal["vector", "sequence", "convolutional"]
    modalities: tuple[str, ...] = Field(min_length=2)
    seeds: int = Field(ge=1)
    calibrator: str
    against: str
    clean: Score
    corrupted_mean: Score
    removal_worst: Score
    oracle_share: float | None
    detection_auroc: dict[str, Detection]


class Summary(Frozen):
    """The document; `made_with` is what the function of that name returns."""

    schema_: Literal["concordant.summary/1"] = Field(alias="schema")
    made_with: dict[str, Any]
    cells: tuple[SummaryCell, ...] = Field(min_length=1)

    def document(self) -> dict[str, Any]:
        """Return the document as JSON has it."""
        return self.model_dump(mode="json", by_alias=True)


def read_summary(values: Mapping[str, Any]) -> Summary:
    """Validate a document.

    Raises:
        DataError: names all its faults.
    """
    try:
        return Summary.model_validate(values)
    except ValidationError as error:
        raise DataError(f"this is no {SCHEMA} document: {explain(error)}") from None


def summarise(grid: Grid, tables: Mapping[str, Table], made: Mapping[str, Any]) -> Summary:
    """Return the summary of all cells of a grid, from its tables by name."""
    found = []
    for cell in grid.cells:
        share = [row["mean"] for row in rows_of(tables["oracle"].scores, cell) if row["label"] == OURS]
        areas = {
            row["condition"]: row["mean"] for row in rows_of(tables["detection"].scores, cell) if row["label"] == OURS
        }
        kinds = dict.fromkeys(row["condition"] for row in rows_of(tables["corruption-kinds"].scores, cell))
        for row in rows_of(tables["clean"].rows, cell):
            scores = {
                name: _score(tables[table], cell, row["to"], condition)
                for name, table, condition in (
                    ("clean", "clean", CLEAN),
                    ("corrupted_mean", "corruption", MEAN),
                    ("removal_worst", "removal", WORST),
                )
            }
            found.append(
                SummaryCell(
                    benchmark=cell.family.benchmark,
                    protocol=cell.family.split,
                    fusion=cell.fusion,
                    setting=FUSIONS[cell.fusion].setting,  # type: ignore[arg-type]
                    modalities=cell.family.names,
                    seeds=cell.family.seeds,
                    calibrator=OURS,
                    against=row["to"],
                    **scores,
                    oracle_share=share[0] if share else None,
                    detection_auroc={
                        kind: Detection(**{what: areas.get(f"{what}.{kind}.{max(grid.severities)}") for what in WHAT})
                        for kind in (name.removeprefix("corruption.") for name in kinds)
                    },
                )
            )
    return Summary(schema=SCHEMA, made_with=dict(made), cells=tuple(found))


def made_with(grid: Grid, command: str, files: Mapping[str, CellFile]) -> dict[str, Any]:
    """Return command and sizes, the missing cells, and versions, hardware and commit of the finished ones, by name."""
    searched: dict[str, bool] = {}
    made: list[dict[str, Any]] = []
    for name, file in files.items():
        searched.setdefault(file.family, bool(file.asked["config"].get("tuned")))
        by = {"versions": file.versions, "hardware": file.hardware, "commit": file.commit}
        same = next((one for one in made if all(one[key] == value for key, value in by.items())), None)
        if same is None:
            made.append(same := {**by, "cells": []})
        same["cells"].append(name)
    return {
        "command": command,
        "quick": grid.quick,
        "wide": grid.wide,
        "finished": len(files),
        "planned": len(grid.cells),
        "missing": [cell.name for cell in grid.cells if cell.name not in files],
        "steps": grid.steps,
        "severities": list(grid.severities),
        "resamples": grid.resamples,
        "searched": searched,
        "budget": grid.budget,
        "made": made,
    }


def rows_of(rows: Sequence[Row], cell: Cell) -> list[Row]:
    """Return the rows of a cell."""
    return [row for row in rows if (row["family"], row["fusion"]) == (cell.family.name, cell.fusion)]


def _score(table: Table, cell: Cell, label: str, condition: str) -> Score:
    row = next(one for one in rows_of(table.rows, cell) if one["to"] == label and one["condition"] == condition)
    return Score(mean=row["mean_of"], difference=row["difference"], p_holm=row["p_holm"])

"""results/summary.json: what came of every cell, against every other method, in one document that is checked.

Detection is that of the highest severity; of a swap that is a whole one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from concordant.errors import DataError
from concordant.faults import explain
from concordant.fusion import FUSIONS
from studies.paper.cellfile import CellFile
from studies.paper.comparing import Row
from studies.paper.conditions import CLEAN
from studies.paper.grid import Cell, Grid
from studies.paper.outcomes import MEAN
from studies.paper.questions.detection import WHAT
from studies.paper.questions.scores import WORST
from studies.paper.table import OURS, Table

SCHEMA: Literal["concordant.summary/1"] = "concordant.summary/1"


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Score(_Frozen):
    """A score and how it compares.

    Args:
        mean: of the calibrator, over seeds; an accuracy.
        difference: to the method it stands against, paired.
        p_holm: of the difference, corrected over its whole table.
    """

    mean: float = Field(ge=0, le=1)
    difference: float = Field(ge=-1, le=1)
    p_holm: float = Field(ge=0, le=1)


class Detection(_Frozen):
    """Areas under the ROC curve: which modality was hit, and whether one was."""

    which: float | None = Field(ge=0, le=1)
    whether: float | None = Field(ge=0, le=1)


class SummaryCell(_Frozen):
    """One cell against one other method.

    Args:
        benchmark: its name.
        protocol: how it is split.
        fusion: the backbone.
        setting: "vector", "sequence" or "convolutional": what the fusion was made for.
        modalities: their names.
        seeds: how many.
        calibrator: ours.
        against: the other method.
        clean: untouched.
        corrupted_mean: the mean over kinds of corruption and severities.
        removal_worst: without the modality that each misses most.
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


class Summary(_Frozen):
    """The document.

    Args:
        schema: "concordant.summary/1".
        made_with: command, sizes, the cells that are missing, and versions and hardware of the others; "quick" says
            that it is the short version.
        cells: all of them.
    """

    schema_: Literal["concordant.summary/1"] = Field(alias="schema")
    made_with: dict[str, Any]
    cells: tuple[SummaryCell, ...] = Field(min_length=1)

    def document(self) -> dict[str, Any]:
        """Return the document as JSON has it."""
        return self.model_dump(mode="json", by_alias=True)


def read_summary(values: Mapping[str, Any]) -> Summary:
    """Check a document.

    Raises:
        DataError: names all its faults.
    """
    try:
        return Summary.model_validate(values)
    except ValidationError as error:
        raise DataError(f"this is no {SCHEMA} document: {explain(error)}") from None


def summarise(grid: Grid, tables: Mapping[str, Table], made: Mapping[str, Any]) -> Summary:
    """Return the summary of all cells.

    Args:
        grid: what was run.
        tables: the questions' tables, by name.
        made: what "made_with" holds.
    """
    found = []
    for cell in grid.cells:
        share = [row["mean"] for row in rows_of(tables["oracle"].scores, cell) if row["label"] == OURS]
        detected = _detected(tables["detection"], tables["corruption-kinds"], cell, max(grid.severities))
        for row in rows_of(tables["clean"].rows, cell):
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
                    clean=_score(tables["clean"], cell, row["to"], CLEAN),
                    corrupted_mean=_score(tables["corruption"], cell, row["to"], MEAN),
                    removal_worst=_score(tables["removal"], cell, row["to"], WORST),
                    oracle_share=share[0] if share else None,
                    detection_auroc=detected,
                )
            )
    return Summary(schema=SCHEMA, made_with=dict(made), cells=tuple(found))


def made_with(grid: Grid, command: str, files: Mapping[str, CellFile]) -> dict[str, Any]:
    """Return what a proof was made with: sizes, which cells are there and which are not, and where each was made.

    Args:
        grid: what is run.
        command: that runs it.
        files: name of a cell -> its file, of the finished ones.
    """
    missing = [cell.name for cell in grid.cells if cell.name not in files]
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
        "missing": missing,
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


def _detected(detection: Table, kinds: Table, cell: Cell, severity: int) -> dict[str, Detection]:
    """Return what ours detects of every kind at a severity."""
    areas = {row["condition"]: row["mean"] for row in rows_of(detection.scores, cell) if row["label"] == OURS}
    named = dict.fromkeys(row["condition"].removeprefix("corruption.") for row in rows_of(kinds.scores, cell))
    return {kind: Detection(**{what: areas.get(f"{what}.{kind}.{severity}") for what in WHAT}) for kind in named}

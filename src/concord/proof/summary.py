"""results/summary.json: what came of every cell, against every other method, in one document that is checked.

Detection is that of the highest severity; of a swap that is a whole one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from concord.errors import DataError
from concord.experiment.surroundings import hardware, versions
from concord.faults import explain
from concord.fusion import FUSIONS
from concord.proof.comparing import Row
from concord.proof.conditions import CLEAN
from concord.proof.grid import Grid
from concord.proof.outcomes import MEAN, CellOutcomes
from concord.proof.questions.detection import WHAT
from concord.proof.questions.scores import WORST
from concord.proof.table import OURS, Table

SCHEMA: Literal["concord.summary/1"] = "concord.summary/1"


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
        schema: "concord.summary/1".
        made_with: command, sizes, versions and hardware; "quick" says that it is the short version.
        cells: all of them.
    """

    schema_: Literal["concord.summary/1"] = Field(alias="schema")
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


def summarise(cells: Sequence[CellOutcomes], tables: Mapping[str, Table], made: Mapping[str, Any]) -> Summary:
    """Return the summary of all cells.

    Args:
        cells: all cells.
        tables: the questions' tables, by name.
        made: what "made_with" holds.
    """
    shares = {(row["family"], row["fusion"]): row["mean"] for row in tables["oracle"].scores if row["label"] == OURS}
    found = []
    for cell in cells:
        detected = {
            kind: Detection(**{what: _area(cell, f"{what}.{kind}.{max(cell.severities)}") for what in WHAT})
            for kind in cell.any.kinds
        }
        for label in cell.labels:
            if label == OURS:
                continue
            found.append(
                SummaryCell(
                    benchmark=cell.cell.family.benchmark,
                    protocol=cell.cell.family.split,
                    fusion=cell.cell.fusion,
                    setting=FUSIONS[cell.cell.fusion].setting,  # type: ignore[arg-type]
                    modalities=cell.modalities,
                    seeds=cell.cell.family.seeds,
                    calibrator=OURS,
                    against=label,
                    clean=_score(cell, tables["clean"], label, CLEAN),
                    corrupted_mean=_score(cell, tables["corruption"], label, MEAN),
                    removal_worst=_score(cell, tables["removal"], label, WORST),
                    oracle_share=shares.get((cell.cell.family.name, cell.cell.fusion)),
                    detection_auroc=detected,
                )
            )
    return Summary(schema=SCHEMA, made_with=dict(made), cells=tuple(found))


def made_with(grid: Grid, command: str, searched: Mapping[str, bool]) -> dict[str, Any]:
    """Return what a proof was made with.

    Args:
        grid: what was run.
        command: that runs it.
        searched: family -> whether its recipes were searched, or are the benchmark's own.
    """
    return {
        "command": command,
        "quick": grid.quick,
        "steps": grid.steps,
        "severities": list(grid.severities),
        "resamples": grid.resamples,
        "searched": dict(searched),
        "budget": grid.budget,
        "versions": versions(),
        "hardware": hardware(),
    }


def row_of(table: Table, cell: CellOutcomes, label: str, condition: str) -> Row:
    """Return the comparison of ours with a method in a cell."""
    family = cell.cell.family.name
    return next(
        row
        for row in table.rows
        if (row["family"], row["fusion"], row["to"], row["condition"]) == (family, cell.cell.fusion, label, condition)
    )


def _score(cell: CellOutcomes, table: Table, label: str, condition: str) -> Score:
    row = row_of(table, cell, label, condition)
    return Score(mean=row["mean_of"], difference=row["difference"], p_holm=row["p_holm"])


def _area(cell: CellOutcomes, condition: str) -> float | None:
    return float(cell.means(OURS, condition).mean()) if cell.has(OURS, condition) else None

"""The committed file of a finished cell, from which all tables are made without its runs.

CELLS/FAMILY--FUSION.json holds what was run (configuration with recipes, severities, resamples), the rows of every
question's table with uncorrected p-values, versions, hardware and the commit of the code. A file whose request equals
the grid's stands for the cell: nothing of it is trained again, on any machine. Tables are stored by column, floats with
six digits, repeated texts once.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from concordant.errors import DataError, explain
from concordant.files import read_json, write_text
from concordant.training.provenance import hardware, versions
from studies.paper.grid import Cell, Experiment, Grid
from studies.paper.tables import QUESTIONS, Row, Table, place_of

SCHEMA: Literal["concordant.cell/1"] = "concordant.cell/1"
DIGITS = 6
_SCORES = ("condition", "label", "mean", "std")
_ROWS = (
    *("condition", "of", "to", "mean_of", "std_of", "mean_to", "std_to"),
    *("difference", "low", "high", "p", "p_wilcoxon"),
)
Column = list[Any] | dict[Literal["words", "at"], list[Any]]


class Frozen(BaseModel):
    """A document that refuses unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class TableFile(Frozen):
    """The rows of one question: column -> its values, or its distinct "words" and "at" each row which of them."""

    scores: dict[str, Column]
    rows: dict[str, Column]

    @model_validator(mode="after")
    def _is_a_table(self) -> TableFile:
        faults = []
        for what, columns, needed in (("scores", self.scores, _SCORES), ("rows", self.rows, _ROWS)):
            missing = [name for name in needed if columns and name not in columns]
            faults += [f"{what} lacks the columns {', '.join(missing)}"] if missing else []
            try:
                lengths = {len(_values(one)) for one in columns.values()}
            except (IndexError, KeyError, TypeError):
                faults.append(f"{what} has a column that points to words that are not there")
                continue
            faults += [f"columns of {what} have {len(lengths)} different lengths"] if len(lengths) > 1 else []
        if faults:
            raise ValueError("; ".join(faults))
        return self


class CellFile(Frozen):
    """The document; `asked` is what `asked_of` returns."""

    schema_: Literal["concordant.cell/1"] = Field(alias="schema")
    family: str
    fusion: str
    asked: dict[str, Any]
    tables: dict[str, TableFile]
    versions: dict[str, str]
    hardware: dict[str, str | int]
    commit: str | None = None

    @model_validator(mode="after")
    def _answers_all(self) -> CellFile:
        missing = [name for name in QUESTIONS if name not in self.tables]
        unknown = [name for name in self.tables if name not in QUESTIONS]
        faults = [f"tables lacks {', '.join(missing)}"] if missing else []
        faults += [f"tables has {', '.join(unknown)}, which no question makes"] if unknown else []
        if faults:
            raise ValueError("; ".join(faults))
        return self

    def tables_of(self, cell: Cell) -> dict[str, Table]:
        """Return the table of every question, as the cell's runs gave it."""
        place = place_of(cell)
        return {
            name: replace(
                blank,
                scores=[{**place, **row} for row in _unpacked(self.tables[name].scores)],
                rows=[{**place, **_with_holm(row)} for row in _unpacked(self.tables[name].rows)],
            )
            for name, blank in QUESTIONS.items()
        }


def path_of(folder: Path, cell: Cell) -> Path:
    """Return the file of a cell."""
    return folder / f"{cell.family.name}--{cell.fusion}.json"


def asked_of(grid: Grid, experiments: Sequence[Experiment]) -> dict[str, Any]:
    """Return what defines a cell's results: configurations of its experiments, severities and resamples."""
    configs = {one.ablations: one.config.model_dump(mode="json") for one in experiments}
    asked = {
        "config": configs[False],
        "ablations": configs.get(True),
        "severities": list(grid.severities),
        "resamples": grid.resamples,
    }
    found: dict[str, Any] = json.loads(json.dumps(asked))  # as a file has it
    return found


def write_cell(
    path: Path, cell: Cell, asked: Mapping[str, Any], tables: Mapping[str, Table], commit: str | None
) -> None:
    """Write the file of a cell that was just run on this machine."""
    place = place_of(cell)
    parts = {
        name: {"scores": _packed(table.scores, place), "rows": _packed(table.rows, {**place, "p_holm": None})}
        for name, table in tables.items()
    }
    head = {"schema": SCHEMA, "family": cell.family.name, "fusion": cell.fusion, "asked": dict(asked)}
    made = {"versions": versions(), "hardware": hardware(), "commit": commit}
    lines = [f"{json.dumps(key)}: {_line(value)}" for key, value in {**head, **made}.items()]
    answers = ",\n".join(f"{json.dumps(name)}: {_line(part)}" for name, part in parts.items())
    write_text(path, "{\n" + ",\n".join(lines) + ',\n"tables": {\n' + answers + "\n}\n}\n")


def read_cell_file(path: Path) -> CellFile:
    """Read the file of a cell.

    Raises:
        DataError: the file is not such a document; all its faults are named.
    """
    try:
        return CellFile.model_validate(read_json(path))
    except ValidationError as error:
        raise DataError(f"{path} is no {SCHEMA} document: {explain(error)}; remove it to run the cell again") from None


def read_cell_files(folder: Path, cells: Sequence[Cell]) -> dict[str, CellFile]:
    """Return name of a cell -> its file, of the cells that have one.

    Raises:
        DataError: some files are not such documents; the faults of all are named.
    """
    found, faults = {}, []
    for cell in cells:
        path = path_of(folder, cell)
        if path.is_file():
            try:
                found[cell.name] = read_cell_file(path)
            except DataError as error:
                faults.append(str(error))
    if faults:
        raise DataError("\n".join(faults))
    return found


def _packed(rows: Sequence[Row], without: Mapping[str, Any]) -> dict[str, Any]:
    """Return rows by column, without the columns that all rows of a cell share."""
    names = [name for name in dict.fromkeys(name for row in rows for name in row) if name not in without]
    return {name: _column([_short(row.get(name)) for row in rows]) for name in names}


def _column(values: list[Any]) -> Any:  # noqa: ANN401 - as JSON has it
    words = list(dict.fromkeys(values))
    if not all(isinstance(word, str) for word in words):
        return values
    return {"words": words, "at": [words.index(value) for value in values]}


def _values(column: Column) -> list[Any]:
    if isinstance(column, list):
        return column
    words: list[Any] = column["words"]
    return [words[place] for place in column["at"]]


def _unpacked(columns: Mapping[str, Column]) -> list[Row]:
    values = {name: _values(column) for name, column in columns.items()}
    return [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]


def _with_holm(row: Row) -> Row:
    """Return a comparison with a place for the corrected p-value behind "p"."""
    names = [one for name in row for one in ((name, "p_holm") if name == "p" else (name,))]
    return {name: row.get(name) for name in names}


def _short(value: Any) -> Any:  # noqa: ANN401 - whatever a row holds
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


def _line(value: Any) -> str:  # noqa: ANN401 - whatever JSON has
    return json.dumps(value, allow_nan=False, separators=(",", ":"))

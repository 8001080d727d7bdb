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
from studies.paper.tables import QUESTIONS, Row, Table

SCHEMA = "concordant.cell/1"
DIGITS = 6
_SCORES = ("condition", "label", "mean", "std")
_ROWS = (
    *("condition", "of", "to", "mean_of", "std_of", "mean_to", "std_to"),
    *("difference", "low", "high", "p", "p_holm", "p_wilcoxon"),
)
# A list of values, or of texts each once under "words", and under "at" the place of the one in every row.
Column = list[Any] | dict[Literal["words", "at"], list[Any]]


class Frozen(BaseModel):
    """A document that refuses unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class TableFile(Frozen):
    """The rows of one question, column by column."""

    scores: dict[str, Column]
    rows: dict[str, Column]

    @model_validator(mode="after")
    def _is_a_table(self) -> TableFile:
        faults = []
        for what, columns, needed in (("scores", self.scores, _SCORES), ("rows", self.rows, _ROWS)):
            missing = [name for name in needed if columns and name not in (*columns, "p_holm")]
            faults += [f"{what} lacks the columns {', '.join(missing)}"] if missing else []
            try:
                lengths = {len(_values(one)) for one in columns.values()}
            except (IndexError, KeyError, TypeError):
                faults.append(f"{what} has a column that points to words that are not there")
            else:
                faults += [f"columns of {what} have {len(lengths)} different lengths"] if len(lengths) > 1 else []
        if faults:
            raise ValueError("; ".join(faults))
        return self


class CellFile(Frozen):
    """The document; `request` is what `request_of` returns."""

    schema_: Literal["concordant.cell/1"] = Field(alias="schema")
    family: str
    fusion: str
    request: dict[str, Any] = Field(alias="asked")
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
        """Return the table of every question, p-values uncorrected."""
        return {
            name: replace(
                blank,
                scores=_unpacked(self.tables[name].scores, cell.columns),
                rows=_unpacked(self.tables[name].rows, dict.fromkeys((*cell.columns, *_ROWS)) | cell.columns),
            )
            for name, blank in QUESTIONS.items()
        }


def path_of(folder: Path, cell: Cell) -> Path:
    """Return the file of a cell."""
    return folder / f"{cell.family.name}--{cell.fusion}.json"


def request_of(grid: Grid, experiments: Sequence[Experiment]) -> dict[str, Any]:
    """Return what defines a cell's results: configurations of its experiments, severities and resamples."""
    configs = {one.ablations: one.config.model_dump(mode="json") for one in experiments}
    sizes = {"severities": grid.severities, "resamples": grid.resamples}
    found = {"config": configs.get(False), "ablations": configs.get(True), **sizes}
    return dict(json.loads(json.dumps(found)))  # as a file has it


def write_cell(
    path: Path, cell: Cell, request: Mapping[str, Any], tables: Mapping[str, Table], commit: str | None
) -> None:
    """Write the file of a cell that was just run on this machine."""
    head = {"schema": SCHEMA, "family": cell.family.name, "fusion": cell.fusion, "asked": request}
    made = {"versions": versions(), "hardware": hardware(), "commit": commit}
    parts = {
        name: {
            what: _packed(rows, (*cell.columns, "p_holm"))
            for what, rows in (("scores", one.scores), ("rows", one.rows))
        }
        for name, one in tables.items()
    }
    answers = ",\n".join(map(_line, parts.items()))
    write_text(path, "{\n" + ",\n".join(map(_line, {**head, **made}.items())) + f',\n"tables": {{\n{answers}\n}}\n}}\n')


def read_cell_files(folder: Path, cells: Sequence[Cell]) -> dict[str, CellFile]:
    """Return name of a cell -> its file, of the cells that have one.

    Raises:
        DataError: some files are not such documents; the faults of all are named.
    """
    found, faults = {}, []
    for cell in cells:
        path = path_of(folder, cell)
        try:
            if path.is_file():
                found[cell.name] = CellFile.model_validate(read_json(path))
        except DataError as error:
            faults.append(str(error))
        except ValidationError as error:
            faults.append(f"{path} is no {SCHEMA} document: {explain(error)}; remove it to run the cell again")
    if faults:
        raise DataError("; ".join(faults))
    return found


def _packed(rows: Sequence[Row], without: Sequence[str]) -> dict[str, Any]:
    """Return rows by column, without some columns; texts are stored once."""
    columns: dict[str, Any] = {}
    for name in dict.fromkeys(name for row in rows for name in row if name not in without):
        values = [row.get(name) for row in rows]
        words = list(dict.fromkeys(values))
        if all(isinstance(word, str) for word in words):
            columns[name] = {"words": words, "at": [words.index(value) for value in values]}
        else:
            columns[name] = [float(f"{one:.{DIGITS}g}") if isinstance(one, float) else one for one in values]
    return columns


def _values(column: Column) -> list[Any]:
    return column if isinstance(column, list) else [column["words"][place] for place in column["at"]]


def _unpacked(columns: Mapping[str, Column], common: Row) -> list[Row]:
    """Return the rows, each with the common columns."""
    values = {name: _values(column) for name, column in columns.items()}
    return [{**common, **dict(zip(values, row, strict=True))} for row in zip(*values.values(), strict=True)]


def _line(entry: tuple[str, Any]) -> str:
    """Return an entry of a JSON object on one line."""
    return f"{json.dumps(entry[0])}: {json.dumps(entry[1], allow_nan=False, separators=(',', ':'))}"

"""What is kept of a finished cell: one committed file, from which all tables are made without its runs.

CELLS/<family>--<fusion>.json holds what was asked (the configuration with its tuned recipes, severities, resamples),
the answers (the rows of every question's table, p-values uncorrected) and what they were made with. A file that holds
what is asked now stands for the cell: nothing of it is trained again, on whatever machine. Tables are kept by column,
floats with six digits; words that repeat are kept once.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from concordant.errors import DataError
from concordant.faults import explain
from concordant.files import read_json, write_text
from concordant.training.provenance import hardware, versions
from studies.paper.comparing import Row, place_of_cell
from studies.paper.grid import Cell, Grid
from studies.paper.plan import Experiment
from studies.paper.questions import blank_tables
from studies.paper.table import Table

SCHEMA: Literal["concordant.cell/1"] = "concordant.cell/1"
DIGITS = 6
_SCORES = ("condition", "label", "mean", "std")
_ROWS = (
    *("condition", "of", "to", "mean_of", "std_of", "mean_to", "std_to"),
    *("difference", "low", "high", "p", "p_wilcoxon"),
)
Column = list[Any] | dict[Literal["words", "at"], list[Any]]


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class TableFile(_Frozen):
    """The rows of one question.

    Args:
        scores: name of a column -> its values, or "words" and, "at" every row, which of them.
        rows: of the comparisons, likewise.
    """

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


class CellFile(_Frozen):
    """The document.

    Args:
        schema: "concordant.cell/1".
        family: of the grid.
        fusion: of the family.
        asked: what was asked, as `asked_of` gives it.
        tables: question -> its rows.
        versions: package -> version.
        hardware: of the machine.
        commit: of the code, where it is known.
    """

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
        missing = [name for name in blank_tables() if name not in self.tables]
        unknown = [name for name in self.tables if name not in blank_tables()]
        faults = [f"tables lacks {', '.join(missing)}"] if missing else []
        faults += [f"tables has {', '.join(unknown)}, which no question makes"] if unknown else []
        if faults:
            raise ValueError("; ".join(faults))
        return self

    def tables_of(self, cell: Cell) -> dict[str, Table]:
        """Return the table of every question, as the cell's runs gave it."""
        place = place_of_cell(cell)
        return {
            name: replace(
                blank,
                scores=[{**place, **row} for row in _unpacked(self.tables[name].scores)],
                rows=[{**place, **_with_holm(row)} for row in _unpacked(self.tables[name].rows)],
            )
            for name, blank in blank_tables().items()
        }


def path_of(folder: Path, cell: Cell) -> Path:
    """Return the file of a cell."""
    return folder / f"{cell.family.name}--{cell.fusion}.json"


def asked_of(grid: Grid, experiments: Sequence[Experiment]) -> dict[str, Any]:
    """Return what is asked of a cell: methods, seeds and recipes of its experiments, and how it is looked at."""
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
    """Write the file of a cell that was just run, on this machine.

    Args:
        path: of the file.
        cell: which.
        asked: what `asked_of` gives.
        tables: one a question, of this cell alone.
        commit: of the code.
    """
    place = place_of_cell(cell)
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
        DataError: it is none; all its faults are named.
    """
    try:
        return CellFile.model_validate(read_json(path))
    except ValidationError as error:
        raise DataError(f"{path} is no {SCHEMA} document: {explain(error)}; remove it to run the cell again") from None


def read_cell_files(folder: Path, cells: Sequence[Cell]) -> dict[str, CellFile]:
    """Return name of a cell -> its file, of those that have one.

    Raises:
        DataError: some are none; the faults of all files are named.
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
    """Return rows by column, without what all rows of a cell share."""
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
    """Return a comparison with the place of the corrected p-value, which is that of a whole table."""
    found: Row = {}
    for name, value in row.items():
        found[name] = value
        if name == "p":
            found["p_holm"] = None
    return found


def _short(value: Any) -> Any:  # noqa: ANN401 - whatever a row holds
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


def _line(value: Any) -> str:  # noqa: ANN401 - whatever JSON has
    return json.dumps(value, allow_nan=False, separators=(",", ":"))

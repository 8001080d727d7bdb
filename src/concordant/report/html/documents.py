"""What a report is about: the JSON documents of a run folder, read and looked through.

A run folder holds results.json, a grid's holds grid.json; beside them analyses/ holds what was analysed
afterwards. A document that the report cannot use is refused here, in one sentence, before anything is drawn.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from concordant.errors import DataError
from concordant.files import read_json
from concordant.report.html.shapes import SHAPES, fault_of

ANALYSES = ("removal", "corruption", "dynamics", "features")
VERSION = 1  # of every schema that this report reads

Document = dict[str, Any]


@dataclass(frozen=True)
class RunDocuments:
    """The documents of a run folder, or of a grid's folder; None where there is no such document.

    Args:
        name: what the report calls it.
        results: results.json.
        grid: grid.json.
        removal: analyses/removal.json.
        corruption: analyses/corruption.json.
        dynamics: analyses/dynamics.json.
        features: analyses/features.json.
        checks: what `concordant data check` said, from every analyses/check*.json.
        rows: of a grid, the rows that were analysed, by name.
        folder: where the documents were read from, as commands name it.
    """

    name: str
    results: Document | None = None
    grid: Document | None = None
    removal: Document | None = None
    corruption: Document | None = None
    dynamics: Document | None = None
    features: Document | None = None
    checks: list[Document] | None = None
    rows: dict[str, RunDocuments] = field(default_factory=dict)
    folder: str = "RUN"

    @property
    def analysed(self) -> bool:
        """Say whether there is any analysis."""
        return any(getattr(self, kind) is not None for kind in ANALYSES)

    def blocks(self) -> Iterator[RunDocuments]:
        """Go through the single runs: itself, or the rows of a grid that were analysed."""
        if self.grid is None:
            yield self
        else:
            yield from self.rows.values()


def read_documents(folder: Path) -> RunDocuments:
    """Read the documents of a run folder or of a grid's folder.

    Args:
        folder: that `concordant run` made.

    Raises:
        DataError: the folder is absent or holds no finished run, or a document is foreign, of a newer version
            or incomplete; names the file.
    """
    if not folder.is_dir():
        what = "is a file, not a folder" if folder.exists() else "does not exist"
        raise DataError(f"{folder} {what}; name the folder of a run, as concordant run printed it")
    name = folder.resolve().name
    results, grid = _read(folder / "results.json", "results"), _read(folder / "grid.json", "grid")
    if results is None and grid is None:
        raise DataError(f"{folder} holds no finished run; give the concordant run command again to finish it")
    rows = {}
    there = {path.name for path in folder.iterdir() if path.is_dir()} if grid is not None else set()
    for row in (one["row"] for one in (grid or {"rows": []})["rows"]):
        if row in there and (folder / row / "analyses").is_dir():
            one = read_documents(folder / row)
            if one.analysed:
                rows[row] = one
    return RunDocuments(
        name=name,
        results=results,
        grid=grid,
        rows=rows,
        checks=_checks(folder / "analyses"),
        folder=str(folder),
        **{kind: _read(folder / "analyses" / f"{kind}.json", kind) for kind in ANALYSES},
    )


def read_all(folder: Path) -> list[RunDocuments]:
    """Read the documents of a folder; of a sweep's, those of each benchmark: its grid, or its single experiment.

    Args:
        folder: that `concordant run` or `concordant sweep` made.

    Raises:
        DataError: as for `read_documents`.
    """
    path = folder / "sweep.json"
    if not path.is_file():
        return [read_documents(folder)]
    sweep = read_json(path)
    check_document(sweep, "sweep", str(path))
    found = []
    for group in dict.fromkeys(one["group"] for one in sweep["experiments"]):
        if (folder / group / "grid.json").is_file():
            found.append(replace(read_documents(folder / group), name=group))
            continue
        for one in sweep["experiments"]:
            if one["group"] == group and (folder / one["name"] / "results.json").is_file():
                found.append(replace(read_documents(folder / one["name"]), name=one["name"].replace("/", ", ")))
    if not found:
        raise DataError(f"{folder} holds no finished experiment; give the concordant sweep command again to finish it")
    return found


def check_document(document: Document, kind: str, place: str) -> None:
    """Look through one document.

    Args:
        document: what the file holds.
        kind: "results", "grid", "sweep", "removal", "corruption", "dynamics", "features" or "check".
        place: the file, for the error.

    Raises:
        DataError: it is foreign, of a newer version, or incomplete.
    """
    wanted = f"concordant.{kind}/{VERSION}"
    schema = document.get("schema")
    if schema != wanted:
        version = re.fullmatch(rf"concordant\.{kind}/(\d+)", schema) if isinstance(schema, str) else None
        if version is not None and int(version[1]) > VERSION:
            raise DataError(
                f"{place} was written by a newer Concordant ({schema}, this one reads {wanted}); upgrade Concordant"
            )
        found = f"schema {schema!r}" if schema is not None else "no schema"
        raise DataError(f"{place} is no document of schema {wanted}; found {found}; move it away, or make it again")
    fault = fault_of(document, SHAPES[kind])
    if fault is not None:
        raise DataError(f"{place} {fault}, which {wanted} must have; make it again")


def _read(path: Path, kind: str) -> Document | None:
    if not path.exists():
        return None
    document = read_json(path)
    check_document(document, kind, str(path))
    return document


def _checks(folder: Path) -> list[Document] | None:
    found = [_read(path, "check") for path in sorted(folder.glob("check*.json"))]
    return [one for one in found if one is not None] or None

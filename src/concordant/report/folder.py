"""The documents of a run folder, of a grid's folder, or of a sweep's: read and checked before anything is drawn.

A run folder holds results.json, a grid's holds grid.json; analyses/ beside them holds what was analysed afterwards.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from concordant.documents import read_document
from concordant.errors import DataError

ANALYSES = ("removal", "corruption", "dynamics", "features")

Document = dict[str, Any]


@dataclass(frozen=True)
class RunDocuments:
    """The documents of a run folder, or of a grid's folder; None where there is no such document.

    Args:
        name: title in the report.
        results: results.json.
        grid: grid.json.
        removal: analyses/removal.json.
        corruption: analyses/corruption.json.
        dynamics: analyses/dynamics.json.
        features: analyses/features.json.
        checks: findings of `concordant data check`, from every analyses/check*.json.
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
        """True with any analysis."""
        return any(getattr(self, kind) is not None for kind in ANALYSES)


def read_documents(folder: Path) -> RunDocuments:
    """Read the documents of a run folder or of a grid's folder, made by `concordant run`.

    Raises:
        DataError: the folder is absent or holds no finished run, or a document is foreign, of a newer version
            or incomplete; names the file.
    """
    if not folder.is_dir():
        what = "is a file, not a folder" if folder.exists() else "does not exist"
        raise DataError(f"{folder} {what}; name the folder of a run, as concordant run printed it")
    results, grid = _read(folder / "results.json", "results"), _read(folder / "grid.json", "grid")
    if results is None and grid is None:
        raise DataError(f"{folder} holds no finished run; give the concordant run command again to finish it")
    # Only names of folders that exist here are followed: a name such as "../other" is not.
    there = {path.name for path in folder.iterdir() if (path / "analyses").is_dir()} if grid is not None else set()
    rows = {
        row["row"]: read_documents(folder / row["row"]) for row in (grid or {"rows": []})["rows"] if row["row"] in there
    }
    checks = [read_document(path, "check") for path in sorted((folder / "analyses").glob("check*.json"))]
    return RunDocuments(
        name=folder.resolve().name,
        results=results,
        grid=grid,
        rows={name: one for name, one in rows.items() if one.analysed},
        checks=checks or None,
        folder=str(folder),
        **{kind: _read(folder / "analyses" / f"{kind}.json", kind) for kind in ANALYSES},
    )


def read_all(folder: Path) -> list[RunDocuments]:
    """Read the documents of a folder; of a sweep's, those of each benchmark: its grid, or its single experiments.

    Raises:
        DataError: as for `read_documents`.
    """
    path = folder / "sweep.json"
    if not path.is_file():
        return [read_documents(folder)]
    experiments = read_document(path, "sweep")["experiments"]
    found = []
    for group in dict.fromkeys(one["group"] for one in experiments):
        if (folder / group / "grid.json").is_file():
            found.append(replace(read_documents(folder / group), name=group))
            continue
        for one in experiments:
            if one["group"] == group and (folder / one["name"] / "results.json").is_file():
                found.append(replace(read_documents(folder / one["name"]), name=one["name"].replace("/", ", ")))
    if not found:
        raise DataError(f"{folder} holds no finished experiment; give the concordant sweep command again to finish it")
    return found


def _read(path: Path, kind: str) -> Document | None:
    return read_document(path, kind) if path.exists() else None

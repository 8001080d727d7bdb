"""Numbers in documents, written there by the proof and by nobody else.

A document has `<!-- proof:NAME -->` and `<!-- /proof:NAME -->` where a block of the proof belongs; what stands between
them is replaced. The blocks are made of the committed files alone (summary.json and the CSV files), so that anyone can
see that documents agree with them.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from concordant.errors import DataError
from concordant.files import read_json, write_text
from studies.paper.summary import Summary, read_summary
from studies.paper.table import Table
from studies.paper.verdict import losses, made_line, standing, swaps, what_came
from studies.paper.writing import lines_of, score_lines

SUMMARY = "summary.json"
PENDING = "`make results` has not been run on this version yet; it writes its numbers here.\n"
FOLDER = "proof"  # of the tables, beside the summary
_MARK = re.compile(r"<!-- (?P<end>/?)proof:(?P<name>[a-z-]+) -->")
_BLOCK = re.compile(r"<!-- proof:(?P<name>[a-z-]+) -->.*?<!-- /proof:(?P=name) -->", re.DOTALL)


def blocks(results: Path) -> dict[str, str]:
    """Return every block by its name, from the files of a proof; without a summary each says that there is none yet.

    Args:
        results: their folder.

    Raises:
        DataError: a file is absent or cannot be used.
    """
    if not (results / SUMMARY).exists():
        return dict.fromkeys(_MAKERS, PENDING)
    summary = read_summary(read_json(results / SUMMARY))
    part = standing(summary.made_with)
    note = f"\n{part}\n" if part else ""
    return {
        name: make(summary, results) + (note if name != "headline" else "")  # which says so itself
        for name, make in _MAKERS.items()
    }


def fill(text: str, known: Mapping[str, str]) -> str:
    """Return a document with all its blocks replaced.

    Raises:
        DataError: it names blocks that there are not, or has marks without their other half; all are named.
    """

    def block(found: re.Match[str]) -> str:
        name = found["name"]
        return f"<!-- proof:{name} -->\n\n{known[name]}\n<!-- /proof:{name} -->"

    unknown = [
        f"proof:{name}" for name in dict.fromkeys(mark["name"] for mark in _MARK.finditer(text)) if name not in known
    ]
    faults = [f"the document asks for {', '.join(unknown)}; there are: {', '.join(known)}"] if unknown else []
    faults += [f"the document has {mark} without its other half" for mark in _halves(text)]
    if faults:
        raise DataError("; ".join(faults))
    return _BLOCK.sub(block, text)


def fill_documents(root: Path, results: Path) -> list[Path]:
    """Fill README.md and docs/*.md; return those that have blocks.

    Args:
        root: the project's folder.
        results: of the proof.

    Raises:
        DataError: a file of the proof, or some documents' marks, cannot be used; then no document is written.
    """
    documents = [path for path in (root / "README.md", *sorted((root / "docs").glob("*.md"))) if has_blocks(path)]
    known = blocks(results) if documents else {}
    filled, faults = {}, []
    for path in documents:
        try:
            filled[path] = fill(path.read_text(encoding="utf-8"), known)
        except DataError as error:
            faults.append(f"{path}: {error}")
    if faults:
        raise DataError("\n".join(faults))
    for path, text in filled.items():
        write_text(path, text)
    return documents


def has_blocks(path: Path) -> bool:
    """Say whether a document has a mark of a block."""
    return path.is_file() and _MARK.search(path.read_text(encoding="utf-8")) is not None


def _halves(text: str) -> list[str]:
    """Return the marks that open a block which is not closed before the next one, or close one that is not open."""
    found: list[str] = []
    opened: re.Match[str] | None = None
    for mark in _MARK.finditer(text):
        if not mark["end"]:
            found += [opened[0]] if opened is not None else []
            opened = mark
        elif opened is not None and opened["name"] == mark["name"]:
            opened = None
        else:
            found.append(mark[0])
    return found + ([opened[0]] if opened is not None else [])


def _headline(summary: Summary, results: Path) -> str:
    return f"{what_came(summary)}\n{_made(summary)}\n"


def _losses(summary: Summary, results: Path) -> str:
    return f"{losses(summary)}\n"


def _swaps(summary: Summary, results: Path) -> str:
    rows = [[name, f"{which:.2f}", f"{whether:.2f}"] for name, which, whether in swaps(summary)]
    return lines_of(["swapped with another class, AUROC", "which", "whether"], rows)


def _table(name: str) -> Callable[[Summary, Path], str]:
    def make(summary: Summary, results: Path) -> str:
        return score_lines(read_table(results / FOLDER, name))

    return make


def read_table(folder: Path, name: str) -> Table:
    """Return a question's table as its CSV files have it, without title and note.

    Raises:
        DataError: a file is absent.
    """
    scores, rows = (_read(folder / f"{name}{suffix}.csv") for suffix in ("-scores", ""))
    unit = "" if name in ("detection", "stability", "cost") else "%"
    return Table(name, "", "", scores, rows, unit, less=name == "stability", compares=name != "cost")


def _read(path: Path) -> list[dict[str, Any]]:
    if path.stem == "cost":  # nothing is compared there
        return []
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return [{key: _value(text) for key, text in row.items()} for row in csv.DictReader(file)]
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); `make results` makes it") from None


def _value(text: str) -> Any:  # noqa: ANN401 - whatever a table holds
    if not text:
        return None
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _made(summary: Summary) -> str:
    return made_line(summary.made_with)


_MAKERS: dict[str, Callable[[Summary, Path], str]] = {
    "headline": _headline,
    "losses": _losses,
    "swaps": _swaps,
    **{
        name: _table(name)
        for name in ("clean", "corruption", "removal", "oracle", "stability", "ablation", "place", "cost")
    },
}

"""The files that are made of the tables: CSV, Markdown, the page PROOF.md, and the blocks in README and docs.

Markdown shows scores with one row per cell and condition and one column per method, marked where ours differs
significantly, and the comparisons below. A document has `<!-- proof:NAME -->` and `<!-- /proof:NAME -->` around a block
of the study; the text between them is replaced. Blocks are made of the committed files alone (summary.json and CSV).
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from concordant.errors import DataError
from concordant.files import read_json, write_text
from concordant.report.format import p_text, shown
from studies.paper.grid import OURS
from studies.paper.sentences import (
    SIGNIFICANT,
    every_loss,
    lines_of,
    losses,
    made_line,
    standing,
    swaps,
    what_came,
)
from studies.paper.summary import Summary, read_summary
from studies.paper.tables import QUESTIONS, Row, Table

SUMMARY = "summary.json"
FOLDER = "proof"  # of the tables, beside the summary
PENDING = "`make results` has not been run on this version yet; it writes its numbers here.\n"
SHOWN = ("clean", "corruption", "removal", "oracle", "stability", "ablation", "place", "cost")
MARKS = (
    f"+ {OURS} is significantly ahead of this one, - significantly behind (p < {SIGNIFICANT}, corrected); unmarked: "
    "neither."
)
HEAD = """# The proof

Every method of a cell is trained on the same splits, initial weights, order of batches and perturbations; its recipe is
chosen on validation data with the same budget as everybody's ([the searches](search)); the test part is scored once.
Accuracy in percent, mean ± standard deviation over seeds. Corruptions hit one random modality of every instance, at
severities that training does not use (but for the swap of a whole modality, which it also sees), and by kinds that it
mostly never saw. Differences are paired, with a 95 % interval
and a p-value from a hierarchical bootstrap over seeds and test instances (whole groups where instances are grouped),
Holm-corrected over a table; Wilcoxon's test over seeds stands beside it from 8 seeds up. A search looks at validation
parts of the first splits, or at a training subject that is left out where the test has new ones; where splits are drawn
at random, rows of these may be test rows of other seeds, which is the same for every method.
"""
_PLACE = ("family", "fusion", "condition")
_MARK = re.compile(r"<!-- (?P<end>/?)proof:(?P<name>[a-z-]+) -->")
_BLOCK = re.compile(r"<!-- proof:(?P<name>[a-z-]+) -->.*?<!-- /proof:(?P=name) -->", re.DOTALL)


def proof_page(summary: Summary, tables: Sequence[Table], figures: Sequence[str]) -> str:
    """Return PROOF.md; `figures` are names of files beside the tables."""
    made = summary.made_with
    own = [name for name, done in made["searched"].items() if not done]
    sizes = f"Severities {', '.join(map(str, made['severities']))} of 1 to 5; {made['resamples']:,} resamples."
    sizes += "" if made["steps"] == 1 else f" Trained for {made['steps']:g} of the recipe's steps."
    sizes += f" Not searched, with the benchmark's own recipe: {', '.join(own)}." if own else ""
    parts = [
        HEAD,
        f"{made_line(made)} {sizes}\n",
        "## What came of it\n",
        what_came(summary),
        f"{every_loss(tables)}\n",
        swaps(summary),
        *(f"![{name}]({FOLDER}/{name})\n" for name in figures),
    ]
    for table in tables:
        files = [f"[{table.name}.md]({FOLDER}/{table.name}.md)", f"[scores]({FOLDER}/{table.name}-scores.csv)"]
        files += [f"[comparisons]({FOLDER}/{table.name}.csv)"] if table.compares else []
        parts.append(f"## {table.title}\n\n{table.note} {', '.join(files)}.\n")
        if table.name in SHOWN:
            parts.append(score_lines(table))
    return "\n".join(parts)


def write_table_files(table: Table, folder: Path, *, head: str = "") -> None:
    """Write NAME.csv (comparisons), NAME-scores.csv and NAME.md; `head` is a paragraph below the title."""
    write_text(folder / f"{table.name}-scores.csv", as_csv(table.scores))
    if table.compares:
        write_text(folder / f"{table.name}.csv", as_csv(table.rows))
    write_text(folder / f"{table.name}.md", as_page(table, head=head))


def as_csv(rows: Sequence[Row]) -> str:
    """Return rows as CSV; None is empty."""
    text = io.StringIO()
    names = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.DictWriter(text, names, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def read_table(folder: Path, name: str) -> Table:
    """Return a question's table from its CSV files, without title and note.

    Raises:
        DataError: a file cannot be read.
    """
    blank = replace(QUESTIONS[name], title="", note="", by=None)
    scores, rows = (
        _read(folder / f"{name}{suffix}.csv") if blank.compares or suffix else [] for suffix in ("-scores", "")
    )
    return replace(blank, scores=scores, rows=rows)


def _read(path: Path) -> list[Row]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return [{key: _value(text) for key, text in row.items()} for row in csv.DictReader(file)]
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); `make results` makes it") from None


def _value(text: str) -> Any:  # noqa: ANN401 - whatever a table holds
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text or None


def as_page(table: Table, *, head: str = "") -> str:
    """Return a table as a page of Markdown."""
    parts = [f"# {table.title}\n", f"{table.note}\n", f"{head}\n" if head else "", score_lines(table)]
    if table.rows:
        parts.append(f"## Differences\n\n{comparison_lines(table)}")
    return "\n".join(part for part in parts if part)


def score_lines(table: Table, rows: Sequence[Row] | None = None) -> str:
    """Return scores as Markdown, with a row per cell and condition and a column per method; `rows` are some of them."""
    known = list(table.scores if rows is None else rows)
    labels = list(dict.fromkeys(row["label"] for row in known))
    found: dict[tuple[Any, ...], dict[str, Row]] = {}
    for row in known:
        found.setdefault(tuple(row[key] for key in _PLACE), {})[row["label"]] = row
    marks = {
        (*(row[key] for key in _PLACE), row["to"]): mark(row, less=table.less)
        for row in table.rows
        if row["of"] == OURS
    }
    lines = []
    for place, by_label in found.items():
        cells = [
            f"{value_text(by_label[label], table.unit)}{marks.get((*place, label), '')}" if label in by_label else "-"
            for label in labels
        ]
        any_row = next(iter(by_label.values()))
        lines.append([place[0], place[1], str(any_row["modalities"]), str(any_row["seeds"]), place[2], *cells])
    text = lines_of(["family", "fusion", "modalities", "seeds", "", *map(shown, labels)], lines, left=5)
    compared = any((*place, label) in marks for place, by_label in found.items() for label in by_label)
    return f"{text}\n{MARKS}\n" if compared else text


def comparison_lines(table: Table) -> str:
    """Return comparisons as Markdown."""
    lines = [
        [
            *(str(row[key]) for key in _PLACE),
            f"{row['of']} - {shown(row['to'])}",
            value_text({"mean": row["mean_of"], "std": row["std_of"]}, table.unit),
            value_text({"mean": row["mean_to"], "std": row["std_to"]}, table.unit),
            difference_text(row["difference"], table.unit),
            f"{difference_text(row['low'], table.unit)} to {difference_text(row['high'], table.unit)}",
            *(p_text(row[key]) for key in ("p", "p_holm", "p_wilcoxon")),
        ]
        for row in table.rows
    ]
    head = ["family", "fusion", "", "difference", "of", "to", "points" if table.unit else "difference"]
    return lines_of([*head, "95 % interval", "p", "p (Holm)", "p (Wilcoxon)"], lines, left=4)


def mark(row: Row, *, less: bool = False) -> str:
    """Return "+" or "-" where ours is significantly ahead or behind, else an empty text.

    >>> mark({"p_holm": 0.01, "difference": 0.2}), mark({"p_holm": 0.01, "difference": 0.2}, less=True)
    (' +', ' -')
    """
    if row["p_holm"] is None or row["p_holm"] >= SIGNIFICANT or row["difference"] == 0:
        return ""
    return " +" if (row["difference"] > 0) != less else " -"


def value_text(row: Row, unit: str) -> str:
    """Return "mean ± std".

    >>> value_text({"mean": 0.5, "std": 0.0123}, "%"), value_text({"mean": 1234, "std": None}, "")
    ('50.0 ± 1.2', '1,234')
    """
    texts = [_number(value, unit) for value in (row["mean"], row["std"]) if value is not None]
    return " ± ".join(texts) if row["mean"] is not None else "-"


def difference_text(value: float | None, unit: str) -> str:
    """Return a difference with its sign; a dash for None.

    >>> difference_text(-0.0123, "%"), difference_text(0.25, "")
    ('-1.2', '+0.25')
    """
    if value is None:
        return "-"
    return f"{100 * value:+.1f}" if unit == "%" else f"{'+' if value >= 0 else '-'}{_number(abs(value), unit)}"


def _number(value: float, unit: str) -> str:
    if unit == "%":
        return f"{100 * value:.1f}"
    if isinstance(value, int) or abs(value) >= 999.5:  # three digits would round it to 1e+03
        return f"{round(value):,}"
    return f"{value:.3g}"


def blocks(results: Path) -> dict[str, str]:
    """Return every block by its name, from the files in `results`; without a summary each says that none is made yet.

    Raises:
        DataError: a file is absent or cannot be used.
    """
    names = ("headline", "losses", "swaps", *SHOWN)
    if not (results / SUMMARY).exists():
        return dict.fromkeys(names, PENDING)
    summary = read_summary(read_json(results / SUMMARY))
    part = standing(summary.made_with)
    note = f"\n{part}\n" if part else ""
    return {
        "headline": f"{what_came(summary)}\n{made_line(summary.made_with)}\n",  # has the note in its last line
        "losses": f"{losses(summary)}\n{note}",
        "swaps": swaps(summary) + note,
        **{name: score_lines(read_table(results / FOLDER, name)) + note for name in SHOWN},
    }


def fill_docs(root: Path, results: Path) -> list[Path]:
    """Fill README.md and docs/*.md of the project; return those that have blocks.

    Raises:
        DataError: a file of the study or the marks of some documents cannot be used; no document is written then.
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
    """Return whether a document has a mark of a block."""
    return path.is_file() and _MARK.search(path.read_text(encoding="utf-8")) is not None


def fill(text: str, known: Mapping[str, str]) -> str:
    """Return a document with all its blocks replaced.

    Raises:
        DataError: it names unknown blocks, or has marks without their other half; all are named.
    """
    block: Callable[[re.Match[str]], str] = lambda found: (  # noqa: E731
        f"<!-- proof:{found['name']} -->\n\n{known[found['name']]}\n<!-- /proof:{found['name']} -->"
    )
    names = dict.fromkeys(one["name"] for one in _MARK.finditer(text))
    unknown = [f"proof:{name}" for name in names if name not in known]
    faults = [f"the document asks for {', '.join(unknown)}; there are: {', '.join(known)}"] if unknown else []
    faults += [f"the document has {one} without its other half" for one in _halves(text)]
    if faults:
        raise DataError("; ".join(faults))
    return _BLOCK.sub(block, text)


def _halves(text: str) -> list[str]:
    """Return the marks that open a block which is not closed before the next one, or close one that is not open."""
    found: list[str] = []
    opened: re.Match[str] | None = None
    for one in _MARK.finditer(text):
        if not one["end"]:
            found += [opened[0]] if opened is not None else []
            opened = one
        elif opened is not None and opened["name"] == one["name"]:
            opened = None
        else:
            found.append(one[0])
    return found + ([opened[0]] if opened is not None else [])

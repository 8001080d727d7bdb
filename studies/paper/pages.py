"""The files that are made of the tables: CSV, Markdown, the page PROOF.md, and the blocks in README and docs.

Markdown shows scores with one row per cell and condition and one column per method, marked where ours differs
significantly, and the comparisons below. A document has `<!-- proof:NAME -->` and `<!-- /proof:NAME -->` around a block
of the study; the text between them is replaced.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from concordant.files import write_text
from concordant.report import record
from concordant.report.format import SIGNIFICANT, p_text, shown
from studies import common
from studies.paper.findings import Findings, every_loss, leads, losses, made_line, standing, swaps, what_came
from studies.paper.grid import OURS
from studies.paper.tables import Row, Table

FOLDER = "proof"  # of the tables, beside the summary
KIND = "proof"  # of the blocks in documents
PENDING = "`make results` has not been run on this version yet; it writes its numbers here.\n"
# The rows of the README: the two twins, and published methods of different kinds.
FIRST = ("none", "none+perturbed", "gmu", "modality-dropout", "uncertainty", "attention")
SHOWN = ("clean", "corruption", "removal", "oracle", "stability", "ablation", "place", "cost")
MARKS = (
    f"+ {shown(OURS)} is significantly ahead of this one, - significantly behind (p < {SIGNIFICANT}, corrected); "
    "unmarked: neither."
)
HEAD = """# The proof

Every method of a cell is trained on the same splits, initial weights, order of batches and perturbations; its recipe is
chosen on validation data with the same budget for every method (`search/`); the test part is scored once.
Accuracy in percent, mean ± standard deviation over seeds. Corruptions hit one random modality of every instance, at
severities that training does not use (but for the swap of a whole modality, which it also sees), and by kinds that it
mostly never saw. Differences are paired, with a 95 % interval
and a p-value from a hierarchical bootstrap over seeds and test instances (whole groups where instances are grouped),
Holm-corrected over a table; Wilcoxon's test over seeds stands beside it from 8 seeds up. A search looks at validation
parts of the first splits, or at a training subject that is left out where the test has new ones; where splits are drawn
at random, rows of these may be test rows of other seeds, which is the same for every method.
"""
_PLACE = ("family", "fusion", "condition")


def proof_page(findings: Findings, figures: Sequence[str]) -> str:
    """Return PROOF.md; `figures` are names of files beside the tables."""
    made = findings.made
    own = [name for name, done in made["searched"].items() if not done]
    sizes = f"Severities {', '.join(map(str, made['severities']))} of 1 to 5; {made['resamples']:,} resamples."
    sizes += "" if made["steps"] == 1 else f" Trained for {made['steps']:g} of the recipe's steps."
    sizes += f" Not searched, with the benchmark's own recipe: {', '.join(own)}." if own else ""
    borrowed = [cell.name for cell in findings.grid.cells if cell.searched != cell]
    sizes += f" With the recipes of their family's first fusion: {', '.join(borrowed)}." if borrowed else ""
    parts = [
        HEAD,
        f"{made_line(made)} {sizes}\n",
        "## What came of it\n",
        what_came(findings),
        f"{every_loss(findings)}\n",
        swaps(findings),
        *(f"![{name}]({FOLDER}/{name})\n" for name in figures),
    ]
    for table in findings.tables.values():
        files = {f"{table.name}.md": f"{table.name}.md", "scores": f"{table.name}-scores.csv"}
        files |= {"comparisons": f"{table.name}.csv"} if table.compares else {}
        links = ", ".join(f"[{text}]({FOLDER}/{name})" for text, name in files.items())
        parts.append(f"## {table.title}\n\n{table.note} {links}.\n")
        if table.name in SHOWN:
            parts.append(score_lines(table))
    return "\n".join(parts)


def write_table_files(table: Table, folder: Path, *, head: str = "") -> None:
    """Write NAME.csv (comparisons), NAME-scores.csv and NAME.md; `head` is a paragraph below the title."""
    write_text(folder / f"{table.name}-scores.csv", as_csv(table.scores))
    if table.compares:
        write_text(folder / f"{table.name}.csv", as_csv(table.rows))
    parts = [f"# {table.title}\n", f"{table.note}\n", f"{head}\n" if head else "", score_lines(table)]
    if table.rows:
        parts.append(f"## Differences\n\n{comparison_lines(table)}")
    write_text(folder / f"{table.name}.md", "\n".join(part for part in parts if part))


def as_csv(rows: Sequence[Row]) -> str:
    """Return rows as CSV; None is empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(dict.fromkeys(name for row in rows for name in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def score_lines(table: Table) -> str:
    """Return the scores as Markdown, with a row per cell and condition and a column per method."""
    labels = list(dict.fromkeys(row["label"] for row in table.scores))
    found: dict[tuple[Any, ...], dict[str, Row]] = {}
    for row in table.scores:
        found.setdefault(tuple(row[key] for key in _PLACE), {})[row["label"]] = row
    marks = {
        (*(row[key] for key in _PLACE), row["to"]): mark(row, less=table.less)
        for row in table.rows
        if row["of"] == OURS
    }
    lines = []
    for (family, fusion, condition), rows in found.items():
        texts = {
            label: value_text(row["mean"], row["std"], table.unit) + marks.get((family, fusion, condition, label), "")
            for label, row in rows.items()
        }
        sizes = [str(next(iter(rows.values()))[key]) for key in ("modalities", "seeds")]
        lines.append([family, fusion, *sizes, condition, *(texts.get(label, "-") for label in labels)])
    head = ["family", "fusion", "modalities", "seeds", "", *map(shown, labels)]
    text = record.markdown(record.Table("", "", head, lines, left=5))
    compared = any((*place, label) in marks for place, rows in found.items() for label in rows)
    return f"{text}\n{MARKS}\n" if compared else text


def comparison_lines(table: Table) -> str:
    """Return the comparisons as Markdown."""
    unit = table.unit
    lines = [
        [
            *(str(row[key]) for key in _PLACE),
            f"{row['of']} - {shown(row['to'])}",
            *(value_text(row[f"mean_{side}"], row[f"std_{side}"], unit) for side in ("of", "to")),
            difference_text(row["difference"], unit),
            " to ".join(difference_text(row[end], unit) for end in ("low", "high")),
            *(p_text(row[key]) for key in ("p", "p_holm", "p_wilcoxon")),
        ]
        for row in table.rows
    ]
    head = ["family", "fusion", "", "difference", "of", "to", "points" if unit else "difference"]
    head += ["95 % interval", "p", "p (Holm)", "p (Wilcoxon)"]
    return record.markdown(record.Table("", "", head, lines, left=4))


def mark(row: Row, *, less: bool = False) -> str:
    """Return "+" or "-" where ours is significantly ahead or behind, else an empty text.

    >>> mark({"p_holm": 0.01, "difference": 0.2}), mark({"p_holm": 0.01, "difference": 0.2}, less=True)
    (' +', ' -')
    """
    if row["p_holm"] is None or row["p_holm"] >= SIGNIFICANT or row["difference"] == 0:
        return ""
    return " +" if (row["difference"] > 0) != less else " -"


def value_text(mean: float | None, std: float | None, unit: str) -> str:
    """Return "mean ± std"; a dash without a mean.

    >>> value_text(0.5, 0.0123, "%"), value_text(1234, None, "")
    ('50.0 ± 1.2', '1,234')
    """
    return "-" if mean is None else " ± ".join(_number(value, unit) for value in (mean, std) if value is not None)


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


def blocks(findings: Findings | None) -> dict[str, str]:
    """Return every block by its name; without findings, a remark in place of each."""
    if findings is None:
        return dict.fromkeys(("leads", "headline", "losses", "swaps", *SHOWN), PENDING)
    part = standing(findings.made)
    note = f"\n{part}\n" if part else ""
    return {
        "leads": record.markdown(leads(findings, FIRST)) + note,
        "headline": headline(findings),  # has the note in its last line
        "losses": f"{losses(findings)}\n{note}",
        "swaps": swaps(findings) + note,
        **{name: score_lines(findings.tables[name]) + note for name in SHOWN},
    }


def headline(findings: Findings) -> str:
    """Return the findings, and how they were made."""
    return f"{what_came(findings)}\n{made_line(findings.made)}\n"


def fill_docs(root: Path, findings: Findings | None) -> list[Path]:
    """Fill README.md and docs/*.md of the project; return those that have blocks.

    Raises:
        DataError: the marks of some documents cannot be used; no document is written then.
    """
    documents = [root / "README.md", *sorted((root / "docs").glob("*.md"))]
    documents = [path for path in documents if common.has_blocks(path, KIND)]
    common.fill_files(documents, blocks(findings), KIND)
    return documents

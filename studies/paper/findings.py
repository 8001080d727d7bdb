"""What came of the study: summary.json, and the findings as a table and in sentences, all read from the tables."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from concordant.fusion import FUSIONS
from concordant.report import record
from concordant.report.format import SIGNIFICANT, plural, shown
from concordant.robustness.conditions import CLEAN
from studies import common
from studies.paper.cells import CellFile
from studies.paper.grid import OURS, Cell, Grid
from studies.paper.outcomes import MEAN, WORST
from studies.paper.tables import WHAT, Row, Table

SCHEMA = "concordant.summary/1"
# Score of the summary -> its table and condition.
SCORES = {"clean": ("clean", CLEAN), "corrupted_mean": ("corruption", MEAN), "removal_worst": ("removal", WORST)}
NAMES = dict(zip(SCORES, ("clean", "corrupted", "worst removal"), strict=True))
READING = (
    "Points of accuracy, the mean over cells; in brackets in how many ours is higher, and in how many significantly so "
    "(ahead), or significantly lower (behind)."
)
ACCURACIES = ("clean", "corruption", "corruption-kinds", "removal")  # tables
MANY = 3  # modalities from which on the odd one out can be identified
COUNTS = {"three modalities or more": False, "two modalities": True}  # whether there are fewer than MANY


class Findings(NamedTuple):
    """The tables of the finished cells of a grid, by name, and what `made_with` returns."""

    grid: Grid
    tables: Mapping[str, Table]
    made: Mapping[str, Any]


def made_with(grid: Grid, command: str, files: Mapping[str, CellFile]) -> dict[str, Any]:
    """Return command and sizes, the missing cells, and versions, hardware and commit of the finished ones, by name."""
    made: dict[str, dict[str, Any]] = {}
    for name, file in files.items():
        by = {"versions": file.versions, "hardware": file.hardware, "commit": file.commit}
        made.setdefault(json.dumps(by), {**by, "cells": []})["cells"].append(name)
    return {
        "command": command,
        "quick": grid.quick,
        "finished": len(files),
        "planned": len(grid.cells),
        "missing": [cell.name for cell in grid.cells if cell.name not in files],
        "steps": grid.steps,
        "severities": list(grid.severities),
        "resamples": grid.resamples,
        "searched": {name: bool(file.request["config"].get("tuned")) for name, file in files.items()},
        "budget": grid.budget,
        "made": list(made.values()),
    }


def summarise(findings: Findings) -> dict[str, Any]:
    """Return summary.json: the scores of every cell against every other method.

    Detection is that of the highest severity, at which a swap is a whole one.
    """
    (grid, tables, made), found = findings, []
    for cell in grid.cells:
        rows = {name: rows_of(tables[table].rows, cell, condition) for name, (table, condition) in SCORES.items()}
        share = [one["mean"] for one in rows_of(tables["oracle"].scores, cell) if one["label"] == OURS]
        detected = [one for one in rows_of(tables["detection"].scores, cell) if one["label"] == OURS]
        areas = {one["condition"]: one["mean"] for one in detected}
        conditions = dict.fromkeys(one["condition"] for one in rows_of(tables["corruption-kinds"].scores, cell))
        kinds = [condition.removeprefix("corruption.") for condition in conditions]
        for row in rows["clean"]:
            scores = {}
            for name, mine in rows.items():
                (one,) = (other for other in mine if other["to"] == row["to"])
                scores[name] = {"mean": one["mean_of"], "difference": one["difference"], "p_holm": one["p_holm"]}
            found.append(
                {
                    **{key: row[key] for key in ("benchmark", "protocol", "fusion")},
                    "setting": FUSIONS[cell.fusion].setting,
                    "modalities": list(cell.family.names),
                    "seeds": row["seeds"],
                    "calibrator": OURS,
                    "against": row["to"],
                    **scores,
                    "oracle_share": share[0] if share else None,  # None where there is no way to cover
                    "detection_auroc": {
                        kind: {what: areas.get(f"{what}.{kind}.{max(grid.severities)}") for what in WHAT}
                        for kind in kinds
                    },
                }
            )
    return {"schema": SCHEMA, "made_with": dict(made), "cells": found}


def what_came(findings: Findings) -> str:
    """Return the findings as Markdown: the table of leads, the shares, and where ours is behind."""
    lines = "\n".join(f"- {line}" for line in shares(findings))
    return f"{record.markdown(leads(findings))}\n{READING}\n\n{lines}\n\n{losses(findings)}\n"


def leads(findings: Findings, against: Collection[str] | None = None) -> record.Table:
    """Return ours against other methods: the mean difference in points, and in how many cells it is ahead.

    Args:
        findings: of the proof.
        against: labels of the methods, with brief cells; None = all, with all counts.
    """
    clean, corrupted = (compared(findings, name) for name in ("clean", "corrupted_mean"))
    columns = {"clean": clean}
    for count in COUNTS:
        if counted(corrupted, count):
            columns[f"corrupted, {count}"] = counted(corrupted, count)
    rows = [
        [
            shown(label),
            *(_lead([row for row in column if row["to"] == label], against is None) for column in columns.values()),
        ]
        for label in dict.fromkeys(row["to"] for row in clean)
        if against is None or label in against
    ]
    return record.Table("leads", "", ["points ahead of", *columns], rows)


def _lead(rows: Sequence[Row], whole: bool) -> str:
    """Return the mean difference and the counts of cells, all or the significant ones; an empty text without any."""
    if not rows:
        return ""
    mean = 100 * float(np.mean([row["difference"] for row in rows]))
    above = sum(row["difference"] > 0 for row in rows)
    ahead, behind = (sum(significant(row, sign) for row in rows) for sign in (1, -1))
    if not whole:
        return f"{mean:+.1f} ({ahead}, {behind})"
    return f"{mean:+.1f} (above in {above} of {len(rows)}; {ahead} ahead, {behind} behind)"


def shares(findings: Findings) -> list[str]:
    """Return the covered share of the way to the oracle, one sentence per number of modalities."""
    lines = []
    ours = [row for row in findings.tables["oracle"].scores if row["label"] == OURS]
    for count in COUNTS:
        found = [100 * row["mean"] for row in counted(ours, count)]
        if found:
            lines.append(
                f"{count}, share of the way from the perturbed twin to its oracle: {np.mean(found):.0f} % in the mean "
                f"over {plural(len(found), 'cell')}, {min(found):.0f} % at the least"
            )
    return lines


def losses(findings: Findings) -> str:
    """Return where ours is significantly behind, clean, in the mean over corruptions, or in the worst removal."""
    found = [
        f"{_name(row)}, {name}, against {shown(row['to'])} ({100 * row['difference']:+.1f})"
        for what, name in NAMES.items()
        for row in compared(findings, what)
        if significant(row, -1)
    ]
    if found:
        return f"Significantly behind: {'; '.join(found)}."
    return "Nowhere significantly behind: not clean, not in the mean over corruptions, not in the worst removal."


def every_loss(findings: Findings) -> str:
    """Return how many single comparisons of accuracies ours wins and loses significantly, with those that it loses."""
    rows = [row for name, table in findings.tables.items() if name in ACCURACIES for row in table.rows]
    won, lost = ([row for row in rows if significant(row, sign)] for sign in (1, -1))
    named = "; ".join(
        f"{row['family']}, {row['fusion']}, {row['condition']}, against {shown(row['to'])} "
        f"({100 * row['difference']:+.1f})"
        for row in lost
    )
    return (
        f"Of all {len(rows):,} comparisons of accuracies in the tables, every kind of corruption and every removal by "
        f"itself, ours is significantly ahead in {len(won):,} and behind in {len(lost):,}"
        + (f": {named}." if named else ".")
    )


def swaps(findings: Findings) -> str:
    """Return the areas of detection under a whole swap as Markdown: cell, which, whether."""
    conditions = [f"{what}.swap.{max(findings.grid.severities)}" for what in WHAT]
    found: dict[str, dict[str, str]] = {}
    for row in findings.tables["detection"].scores:
        if row["label"] == OURS and row["condition"] in conditions:
            found.setdefault(_name(row), {})[row["condition"]] = f"{row['mean']:.2f}"
    rows = [[name, *areas.values()] for name, areas in found.items() if len(areas) == len(conditions)]
    return record.markdown(record.Table("", "", ["swapped with another class, AUROC", *WHAT], rows))


def standing(made: Mapping[str, Any]) -> str:
    """Return which cells are missing, in a sentence; an empty text where none is.

    >>> standing({"finished": 1, "planned": 4, "missing": ["scene15/lmf", "scene15/mbt", "digits/tfn"]})
    '1 of 4 cells so far; not run yet: scene15 (lmf, mbt), digits (tfn).'
    """
    if not made["missing"]:
        return ""
    families: dict[str, list[str]] = {}
    for name in made["missing"]:
        family, _, fusion = name.partition("/")
        families.setdefault(family, []).append(fusion)
    missing = ", ".join(f"{family} ({', '.join(fusions)})" for family, fusions in families.items())
    return f"{made['finished']} of {made['planned']} cells so far; not run yet: {missing}."


def made_line(made: Mapping[str, Any]) -> str:
    """Return command, versions and hardware in sentences; before them, that the study is quick or incomplete."""
    quick = (
        "**This is the quick version: few cells, few seeds, short training. It shows that everything works, and proves "
        "nothing.** "
        if made["quick"]
        else ""
    )
    part = f"**{standing(made)}** " if standing(made) else ""
    places: Counter[str] = Counter()  # versions and hardware, for any commit -> number of cells
    for one in made["made"]:
        places[common.made_line(one)] += len(one["cells"])
    where = " ".join(
        place if len(places) == 1 else f"{plural(count, 'cell')}: {place}" for place, count in places.items()
    )
    return f"{quick}{part}Made by `{made['command']}`. {where}"


def compared(findings: Findings, what: str) -> list[Row]:
    """Return the comparisons of one score of the summary."""
    table, condition = SCORES[what]
    return [row for row in findings.tables[table].rows if row["condition"] == condition]


def counted(rows: Sequence[Row], count: str) -> list[Row]:
    """Return the rows of cells with this number of modalities, a key of COUNTS."""
    return [row for row in rows if (row["modalities"] < MANY) == COUNTS[count]]


def significant(row: Row, sign: int) -> bool:
    """Return whether ours is significantly ahead (sign 1) or behind (sign -1)."""
    return bool(row["p_holm"] < SIGNIFICANT and sign * row["difference"] > 0)


def _name(row: Row) -> str:
    return f"{row['benchmark']} ({row['protocol']}, {row['modalities']} modalities), {row['fusion']}"


def rows_of(rows: Sequence[Row], cell: Cell, condition: str | None = None) -> list[Row]:
    """Return the rows of a cell, of one condition or of all."""
    place = (cell.family.name, cell.fusion)
    mine = [row for row in rows if (row["family"], row["fusion"]) == place]
    return [row for row in mine if condition in (None, row["condition"])]

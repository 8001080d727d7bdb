"""The findings in sentences: wins and losses against every method, by number of modalities.

Everything is read from the summary and the tables.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from concordant.report.format import shown
from concordant.report.record import Table as Grid
from concordant.report.record import markdown
from studies.paper.summary import Score, Summary, SummaryCell
from studies.paper.tables import Table

SIGNIFICANT = 0.05
READING = (
    "Points of accuracy, the mean over cells; in brackets in how many ours is higher, and in how many significantly so "
    "(ahead), or significantly lower (behind)."
)
ACCURACIES = ("clean", "corruption", "corruption-kinds", "removal")  # tables
MANY = 3  # modalities from which on the odd one out can be identified
COUNTS = {"three modalities or more": False, "two modalities": True}  # whether there are fewer than MANY


class Tally(NamedTuple):
    """Mean difference in points, number of cells, and in how many ours is above, or significantly ahead or behind."""

    mean: float
    cells: int
    above: int
    ahead: int
    behind: int


def verdict(summary: Summary) -> list[str]:
    """Return the findings, one sentence per line."""
    found = []
    for where, what, cells in _columns(summary):
        for label in _others(summary) if what != "clean" else ("none",):
            tally = _tally(cells, what, label)
            if tally is not None:
                place = where if what == "clean" else f"{where.removeprefix('corrupted, ')}, corrupted"
                found.append(
                    f"{place}, against {shown(label)}: {tally.mean:+.1f} points in the mean over {_cells(tally.cells)}"
                    f", above in {tally.above}; significantly ahead in {tally.ahead}, behind in {tally.behind}"
                )
    return found + shares(summary)


def shares(summary: Summary) -> list[str]:
    """Return the covered share of the way to the oracle, one sentence per number of modalities."""
    lines = []
    for count, few in COUNTS.items():
        known = {
            _name(cell): 100 * cell.oracle_share
            for cell in summary.cells
            if cell.oracle_share is not None and (len(cell.modalities) < MANY) == few
        }
        if known:
            found = list(known.values())
            lines.append(
                f"{count}, share of the way from the perturbed twin to its oracle: {np.mean(found):.0f} % in the mean "
                f"over {_cells(len(found))}, {min(found):.0f} % at the least"
            )
    return lines


def what_came(summary: Summary) -> str:
    """Return the findings as Markdown: the table of leads, the shares, and where ours is behind."""
    lines = "\n".join(f"- {line}" for line in shares(summary))
    head, rows = leads(summary)
    return f"{lines_of(head, rows)}\n{READING}\n\n{lines}\n\n{losses(summary)}\n"


def leads(summary: Summary) -> tuple[list[str], list[list[str]]]:
    """Return ours against every other method as a table, its head and its rows: the numbers of `verdict`."""
    columns, rows = _columns(summary), []
    for label in _others(summary):
        row = [shown(label)]
        for _, what, cells in columns:
            one = _tally(cells, what, label)
            counts = "" if one is None else f"{one.above} of {one.cells}; {one.ahead} ahead, {one.behind} behind"
            row.append("" if one is None else f"{one.mean:+.1f} (above in {counts})")
        rows.append(row)
    return ["points ahead of", *(name for name, *_ in columns)], rows


def losses(summary: Summary) -> str:
    """Return where ours is significantly behind in the summary, in one sentence."""
    found = []
    for what, name in (("clean", "clean"), ("corrupted_mean", "corrupted"), ("removal_worst", "worst removal")):
        for cell in summary.cells:
            score = getattr(cell, what)
            if score.p_holm < SIGNIFICANT and score.difference < 0:
                found.append(f"{_name(cell)}, {name}, against {shown(cell.against)} ({100 * score.difference:+.1f})")
    if found:
        return f"Significantly behind: {'; '.join(found)}."
    return "Nowhere significantly behind: not clean, not in the mean over corruptions, not in the worst removal."


def every_loss(tables: Sequence[Table]) -> str:
    """Return how many single comparisons of accuracies ours wins and loses significantly, with those that it loses."""
    rows = [row for table in tables if table.name in ACCURACIES for row in table.rows]
    sure = [row for row in rows if row["p_holm"] < SIGNIFICANT]
    lost = [row for row in sure if row["difference"] < 0]
    named = "; ".join(
        f"{row['family']}, {row['fusion']}, {row['condition']}, against {shown(row['to'])} "
        f"({100 * row['difference']:+.1f})"
        for row in lost
    )
    return (
        f"Of all {len(rows):,} comparisons of accuracies in the tables, every kind of corruption and every removal by "
        f"itself, ours is significantly ahead in {len(sure) - len(lost):,} and behind in {len(lost):,}"
        + (f": {named}." if named else ".")
    )


def swaps(summary: Summary) -> str:
    """Return the areas of detection under a whole swap as Markdown: cell, which, whether."""
    found = {}
    for cell in summary.cells:
        area = cell.detection_auroc.get("swap")
        if area is not None and area.which is not None and area.whether is not None:
            found[_name(cell)] = [f"{area.which:.2f}", f"{area.whether:.2f}"]
    rows = [[name, *areas] for name, areas in found.items()]
    return lines_of(["swapped with another class, AUROC", "which", "whether"], rows)


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
    places: dict[str, int] = {}  # versions and hardware, whatever the commit -> number of cells
    for one in made["made"]:
        tools = ", ".join(f"{name} {version}" for name, version in one["versions"].items())
        machine = ", ".join(f"{name}: {value}" for name, value in one["hardware"].items())
        place = f"Versions: {tools}. Hardware: {machine}."
        places[place] = places.get(place, 0) + len(one["cells"])
    where = " ".join(places if len(places) == 1 else (f"{_cells(count)}: {one}" for one, count in places.items()))
    return f"{quick}{part}Made by `{made['command']}`. {where}"


def lines_of(head: Sequence[str], rows: Sequence[Sequence[str]], *, left: int = 1) -> str:
    """Return a Markdown table, its first columns aligned to the left; an empty text without rows."""
    return markdown(Grid("", "", head, rows, left=left))


def _others(summary: Summary) -> list[str]:
    return list(dict.fromkeys(cell.against for cell in summary.cells))


def _columns(summary: Summary) -> list[tuple[str, str, list[SummaryCell]]]:
    """Return title, field of a summary cell, and the cells."""
    found = [("clean", "clean", list(summary.cells))]
    for count, few in COUNTS.items():
        mine = [cell for cell in summary.cells if (len(cell.modalities) < MANY) == few]
        found.append((f"corrupted, {count}", "corrupted_mean", mine))
    return [one for one in found if one[2]]


def _tally(cells: Sequence[SummaryCell], what: str, label: str) -> Tally | None:
    """Return the tally of the cells against one method; None without any."""
    scores: list[Score] = [getattr(cell, what) for cell in cells if cell.against == label]
    if not scores:
        return None
    sure = [score.difference for score in scores if score.p_holm < SIGNIFICANT]
    return Tally(
        100 * float(np.mean([score.difference for score in scores])),
        len(scores),
        sum(score.difference > 0 for score in scores),
        sum(difference > 0 for difference in sure),
        sum(difference < 0 for difference in sure),
    )


def _cells(count: int) -> str:
    return f"{count} cell{'s' if count != 1 else ''}"


def _name(cell: SummaryCell) -> str:
    return f"{cell.benchmark} ({cell.protocol}, {len(cell.modalities)} modalities), {cell.fusion}"

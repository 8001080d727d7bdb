"""What the tables show, in sentences: wins and losses alike, against every method, by number of modalities.

Everything here is read from the summary and the tables; nothing is typed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from concordant.report.table import shown
from studies.paper.summary import Score, Summary, SummaryCell
from studies.paper.table import Table
from studies.paper.writing import lines_of

SIGNIFICANT = 0.05
READING = (
    "Points of accuracy, the mean over cells; in brackets in how many ours is higher, and in how many significantly so "
    "(ahead), or significantly lower (behind)."
)
ACCURACIES = ("clean", "corruption", "corruption-kinds", "removal")  # tables
MANY = 3  # modalities, from which on the odd one out can be told


def verdict(summary: Summary) -> list[str]:
    """Return what came of it, a sentence a line."""
    cells = summary.cells
    others = list(dict.fromkeys(cell.against for cell in cells))
    said = []
    if "none" in others:
        said.append(_tally([cell for cell in cells if cell.against == "none"], "clean", "clean"))
    for few in (False, True):
        for label in others:
            mine = [one for one in cells if one.against == label and (len(one.modalities) < MANY) == few]
            if mine:
                said.append(_tally(mine, "corrupted_mean", f"{_count(few=few)}, corrupted"))
    return said + shares(summary)


def shares(summary: Summary) -> list[str]:
    """Return how much of the way to the oracle is covered, a sentence for each number of modalities."""
    return [_shares(summary.cells, few=few) for few in (False, True) if _some(summary.cells, few=few)]


def what_came(summary: Summary) -> str:
    """Return all of it as Markdown: the table of leads, the shares, and where ours is behind."""
    lines = "\n".join(f"- {line}" for line in shares(summary))
    return f"{lines_of(*leads(summary))}\n{READING}\n\n{lines}\n\n{losses(summary)}\n"


def leads(summary: Summary) -> tuple[list[str], list[list[str]]]:
    """Return ours against every other method as a table, its head and its rows: the same numbers as `verdict`'s."""
    parts: list[tuple[str, str, list[SummaryCell]]] = [("clean", "clean", list(summary.cells))]
    for few in (False, True):
        mine = [cell for cell in summary.cells if (len(cell.modalities) < MANY) == few]
        parts.append((f"corrupted, {_count(few=few)}", "corrupted_mean", mine))
    parts = [part for part in parts if part[2]]
    rows = []
    for label in dict.fromkeys(cell.against for cell in summary.cells):
        row = [shown(label)]
        for _, what, cells in parts:
            tally = Tally.of([getattr(cell, what) for cell in cells if cell.against == label])
            row.append("" if tally is None else tally.brief())
        rows.append(row)
    return ["points ahead of", *(name for name, _, _ in parts)], rows


def losses(summary: Summary) -> str:
    """Return where ours is significantly behind anything in what the summary holds, in one sentence."""
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
    """Return how many single comparisons ours wins and loses significantly, and which it loses, in sentences.

    Args:
        tables: of the questions; those of accuracies count, kind by kind and modality by modality.
    """
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


def swaps(summary: Summary) -> list[tuple[str, float, float]]:
    """Return what detection reaches under a whole swap: name of the cell, which, whether."""
    found = {}
    for cell in summary.cells:
        area = cell.detection_auroc.get("swap")
        if area is not None and area.which is not None and area.whether is not None:
            found[_name(cell)] = (area.which, area.whether)
    return [(name, *areas) for name, areas in found.items()]


def standing(made: Mapping[str, Any]) -> str:
    """Return which cells are not there yet, in a sentence; nothing where all are.

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
    """Return what a proof was made with, in sentences; of a quick one that it is none, of a part that it is one."""
    quick = (
        "**This is the quick version: few cells, few seeds, short training. It shows that everything works, and proves "
        "nothing.** "
        if made["quick"]
        else ""
    )
    part = f"**{standing(made)}** " if standing(made) else ""
    places: dict[str, int] = {}  # the same versions and hardware, whatever the commit
    for one in made["made"]:
        tools = ", ".join(f"{name} {version}" for name, version in one["versions"].items())
        machine = ", ".join(f"{name}: {value}" for name, value in one["hardware"].items())
        place = f"Versions: {tools}. Hardware: {machine}."
        places[place] = places.get(place, 0) + len(one["cells"])
    if len(places) == 1:
        (where,) = places
    else:
        where = " ".join(f"{count} cell{'s' if count != 1 else ''}: {place}" for place, count in places.items())
    return f"{quick}{part}Made by `{made['command']}`. {where}"


@dataclass(frozen=True)
class Tally:
    """How ours stands against one method over some cells.

    Args:
        mean: difference over the cells, in points.
        cells: how many there are.
        above: in how many ours is higher.
        ahead: in how many significantly.
        behind: in how many it is significantly lower.
    """

    mean: float
    cells: int
    above: int
    ahead: int
    behind: int

    @classmethod
    def of(cls, scores: Sequence[Score]) -> Tally | None:
        """Return the tally of some cells' scores; None without any."""
        if not scores:
            return None
        sure = [score.difference for score in scores if score.p_holm < SIGNIFICANT]
        return cls(
            100 * float(np.mean([score.difference for score in scores])),
            len(scores),
            sum(score.difference > 0 for score in scores),
            sum(difference > 0 for difference in sure),
            sum(difference < 0 for difference in sure),
        )

    def brief(self) -> str:
        """Return it for a table: `+1.5 (above in 2 of 3; 1 ahead, 0 behind)`."""
        return f"{self.mean:+.1f} (above in {self.above} of {self.cells}; {self.ahead} ahead, {self.behind} behind)"


def _tally(cells: Sequence[SummaryCell], what: str, where: str) -> str:
    one = Tally.of([getattr(cell, what) for cell in cells])
    if one is None:
        return f"{where}: no cells"
    return (
        f"{where}, against {shown(cells[0].against)}: {one.mean:+.1f} points in the mean over {one.cells} "
        f"cell{'s' if one.cells != 1 else ''}, above in {one.above}; significantly ahead in {one.ahead}, behind in "
        f"{one.behind}"
    )


def _some(cells: Sequence[SummaryCell], *, few: bool) -> list[float]:
    found = {
        _name(cell): cell.oracle_share
        for cell in cells
        if cell.oracle_share is not None and (len(cell.modalities) < MANY) == few
    }
    return [share for share in found.values() if share is not None]


def _shares(cells: Sequence[SummaryCell], *, few: bool) -> str:
    found = _some(cells, few=few)
    mean = 100 * float(np.mean(found))
    return (
        f"{_count(few=few)}, share of the way from the perturbed twin to its oracle: {mean:.0f} % in the mean over "
        f"{len(found)} cell{'s' if len(found) != 1 else ''}, {100 * min(found):.0f} % at the least"
    )


def _count(*, few: bool) -> str:
    return "two modalities" if few else "three modalities or more"


def _name(cell: SummaryCell) -> str:
    return f"{cell.benchmark} ({cell.protocol}, {len(cell.modalities)} modalities), {cell.fusion}"

"""What the tables show, in sentences: wins and losses alike, against every method, by number of modalities.

Everything here is read from the summary and the tables; nothing is typed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from concord.proof.summary import Summary, SummaryCell
from concord.report.table import shown

SIGNIFICANT = 0.05
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
                said.append(_tally(mine, "corrupted_mean", "two modalities, corrupted" if few else "corrupted"))
    said += [_shares(cells, few=few) for few in (False, True) if _some(cells, few=few)]
    return said


def losses(summary: Summary) -> str:
    """Return where ours is significantly behind anything, in one sentence."""
    found = []
    for what, name in (("clean", "clean"), ("corrupted_mean", "corrupted"), ("removal_worst", "worst removal")):
        for cell in summary.cells:
            score = getattr(cell, what)
            if score.p_holm < SIGNIFICANT and score.difference < 0:
                found.append(f"{_name(cell)}, {name}, against {shown(cell.against)} ({100 * score.difference:+.1f})")
    return f"Significantly behind: {'; '.join(found)}." if found else "It is nowhere significantly behind."


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

    >>> standing({"finished": 2, "planned": 3, "missing": ["scene15/lmf"]})
    '2 of 3 cells so far; not run yet: scene15/lmf.'
    """
    if not made["missing"]:
        return ""
    return f"{made['finished']} of {made['planned']} cells so far; not run yet: {', '.join(made['missing'])}."


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


def _tally(cells: Sequence[SummaryCell], what: str, where: str) -> str:
    scores = [getattr(cell, what) for cell in cells]
    sure = [score for score in scores if score.p_holm < SIGNIFICANT]
    ahead, behind = (sum(sign * score.difference > 0 for score in sure) for sign in (1, -1))
    above = sum(score.difference > 0 for score in scores)
    mean = float(np.mean([score.difference for score in scores]))
    return (
        f"{where}, against {shown(cells[0].against)}: {100 * mean:+.1f} points in the mean over {len(cells)} "
        f"cell{'s' if len(cells) != 1 else ''}, above in {above}; significantly ahead in {ahead}, behind in {behind}"
    )


def _some(cells: Sequence[SummaryCell], *, few: bool) -> list[float]:
    shares = {
        _name(cell): cell.oracle_share
        for cell in cells
        if cell.oracle_share is not None and (len(cell.modalities) < MANY) == few
    }
    return [share for share in shares.values() if share is not None]


def _shares(cells: Sequence[SummaryCell], *, few: bool) -> str:
    shares = _some(cells, few=few)
    where = "two modalities" if few else "three modalities or more"
    return (
        f"{where}, share of the way from the perturbed twin to its oracle: {100 * float(np.mean(shares)):.0f} % in the "
        f"mean over {len(shares)} cell{'s' if len(shares) != 1 else ''}, {100 * min(shares):.0f} % at the least"
    )


def _name(cell: SummaryCell) -> str:
    return f"{cell.benchmark} ({cell.protocol}, {len(cell.modalities)} modalities), {cell.fusion}"

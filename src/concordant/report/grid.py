"""A grid as one table: rows fusions, columns calibrators, accuracy clean and in the mean over the corruptions.

What is computed is in grid.json (`concordant.study.grid`), here it is only set.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from concordant.report.table import mean_and_std, p_text, shown

if TYPE_CHECKING:
    from rich.table import Table

Grid = Mapping[str, Any]
Row = Mapping[str, Any]
SIGNIFICANT = 0.05
CONDITIONS = ("clean", "corruption.mean")
LEGEND = (
    "clean / mean over the corruptions, accuracy in percent. {ours} is compared with each: + it is significantly "
    "better, - significantly worse (p < 0.05, Holm-corrected within the row); unmarked, neither. "
    "Best alone: the best modality by itself in the same fusion; > the fusion without calibration (trained clean) "
    "beats it significantly, = no significant difference, < it is significantly below."
)

HEAD = """# Grids

Made by `make results-experiments` (`python -m studies.experiments`); the numbers are those of the JSON files
beside this page.
One row a fusion: accuracy in percent on clean test instances, and the mean over four corruptions of one random modality
of every instance; mean ± standard deviation over seeds. "calibrated at" says where the calibrator stands. Differences
are paired, with p-values from a hierarchical bootstrap over seeds and test instances.
"""


def ours_of(grid: Grid) -> str | None:
    """Return the method that the comparisons are about, or None."""
    for row in grid["rows"]:
        for entry in row["comparisons"]:
            return str(entry["of"])
    return None


def legend(grid: Grid) -> str:
    """Return what the marks mean, as far as there are any."""
    ours = ours_of(grid)
    if ours is None:
        return LEGEND.partition(" {ours}")[0]
    text = LEGEND.format(ours=ours)
    return text if _has_alone(grid) else text.partition(" Best alone")[0]


def cells_of(grid: Grid, row: Row, *, spread: bool = False) -> list[str]:
    """Return one line of the table: fusion, where it is calibrated, best modality alone, a cell a method."""
    cells = [row["fusion"], row["calibrate"]]
    if _has_alone(grid):
        cells.append(_alone(row))
    for label, scores in row["scores"].items():
        parts = [_score(scores[condition], spread=spread) + mark(row, label, condition) for condition in CONDITIONS]
        cells.append(" / ".join(parts))
    return cells


def headings_of(grid: Grid) -> list[str]:
    """Return the table's headings."""
    labels = [shown(label) for label in grid["rows"][0]["scores"]]
    return ["fusion", "calibrated at", *(["best alone"] if _has_alone(grid) else []), *labels]


def mark(row: Row, label: str, condition: str) -> str:
    """Return "+" where the reference method is significantly better than this one, "-" where worse, else nothing."""
    for entry in row["comparisons"]:
        if entry["to"] == label and entry["condition"] == condition and entry["p_holm"] < SIGNIFICANT:
            return "+" if entry["difference"] > 0 else "-"
    return ""


def grid_table(grid: Grid) -> Table:
    """Return the grid as a table for a terminal."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    config = grid["config"]
    seeds = config["seeds"]
    method = "" if config["method"] == "none" else f" · {config['method']}"
    title = (
        f"{grid['benchmark']} · {', '.join(config['modalities'])}{method} · accuracy %, clean / mean over corruptions, "
        f"mean over {seeds} seed{'s' if seeds > 1 else ''}"
    )
    table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    left = 3 if _has_alone(grid) else 2
    for place, heading in enumerate(headings_of(grid)):
        table.add_column(heading, justify="left" if place < left else "right")
    for row in grid["rows"]:
        table.add_row(*cells_of(grid, row))
    return table


def grid_lines(grid: Grid) -> list[str]:
    """Return what the grid says, in sentences: wins and losses alike, fusions that do not beat one modality."""
    said = []
    ours = ours_of(grid)
    if ours is not None:
        for other in grid["rows"][0]["scores"]:
            if other != ours:
                said += [_tally(grid, ours, other, condition) for condition in CONDITIONS]
    if _has_alone(grid):
        below = [f"{row['row']} ({_points(row)})" for row in grid["rows"] if _versus_alone(row) != ">"]
        said.append(
            f"not significantly above its best modality alone, without calibration: {', '.join(below)}"
            if below
            else "every fusion, without calibration, is significantly above its best modality alone"
        )
    stuck = [
        f"{row['row']} with {shown(label)}"
        for row in grid["rows"]
        for label, scores in row["scores"].items()
        if np.mean(scores["clean"]) <= row["majority"]
    ]
    if stuck:
        said.append(f"not above always saying the most frequent class: {', '.join(stuck)}")
    return said


def grid_page(grids: Mapping[str, Grid]) -> str:
    """Return a page with one section for each named grid."""
    return "\n".join([HEAD, *(grid_section(name, grid) for name, grid in grids.items())])


def grid_section(name: str, grid: Grid) -> str:
    """Return the grid as a section of Markdown."""
    head = headings_of(grid)
    rows = [cells_of(grid, row, spread=True) for row in grid["rows"]]
    lines = [head, ["---"] * len(head), *rows]
    config = grid["config"]
    recipe = ", ".join(f"{key} {value}" for key, value in config["recipe"].items())
    minutes = sum(row["train_minutes"] for row in grid["rows"])
    return "\n".join(
        [
            f"## {name}\n",
            f"{grid['benchmark']}, protocol {config['protocol']}, modalities {', '.join(config['modalities'])}, "
            f"{config['preset']} preset, {config['encoders']} encoders, method {config['method']}, "
            f"{config['seeds']} seeds.\n",
            *([f"**{grid['remark']}**\n"] if "remark" in grid else []),
            *(f"| {' | '.join(line)} |" for line in lines),
            "",
            f"{legend(grid)}\n",
            *(f"- {line}" for line in grid_lines(grid)),
            "",
            f"Majority class: {100 * np.mean([row['majority'] for row in grid['rows']]):.1f}. "
            f"Training took {minutes:.0f} minutes of one core in all, by row: "
            + ", ".join(f"{row['row']} {row['train_minutes']:.1f}" for row in grid["rows"])
            + f". Recipe: {recipe}. Versions: {_pairs(grid['versions'])}. Hardware: {_pairs(grid['hardware'])}.\n",
        ]
    )


def _tally(grid: Grid, ours: str, other: str, condition: str) -> str:
    entries = [
        entry
        for row in grid["rows"]
        for entry in row["comparisons"]
        if entry["to"] == other and entry["condition"] == condition
    ]
    whole = next(entry for entry in grid["overall"] if entry["to"] == other and entry["condition"] == condition)
    sure = [entry for entry in entries if entry["p_holm"] < SIGNIFICANT]
    better, worse = (sum(sign * entry["difference"] > 0 for entry in sure) for sign in (1, -1))
    where = "clean" if condition == "clean" else "corrupted (mean)"
    above = sum(entry["difference"] > 0 for entry in entries)
    return (
        f"{where}, {ours} against {shown(other)}: {100 * whole['difference']:+.1f} points in the mean over "
        f"{len(entries)} row{'s' if len(entries) != 1 else ''} (p {p_text(whole['p_holm'])}), above in {above}; "
        f"by row significantly better in {better}, worse in {worse}"
    )


def _score(values: Sequence[float], *, spread: bool) -> str:
    return mean_and_std(values) if spread else f"{100 * float(np.mean(values)):.1f}"


def _has_alone(grid: Grid) -> bool:
    return any(row["best_alone"] is not None for row in grid["rows"])


def _alone(row: Row) -> str:
    best = row["best_alone"]
    if best is None:
        return "-"
    return f"{best} {100 * float(np.mean(row['alone'][best])):.1f} {_versus_alone(row)}"


def _versus_alone(row: Row) -> str:
    """Return ">", "=" or "<": the uncalibrated fusion, trained clean, against its best modality alone."""
    entry = _uncalibrated(row)
    if entry is None or entry["p_holm"] >= SIGNIFICANT:
        return "="
    return ">" if entry["difference"] > 0 else "<"


def _uncalibrated(row: Row) -> Mapping[str, Any] | None:
    entry: Mapping[str, Any] | None = row["against_alone"].get("none")
    return entry


def _points(row: Row) -> str:
    entry = _uncalibrated(row)
    if entry is None:
        return "not compared"
    return f"{100 * entry['difference']:+.1f} points, p {p_text(entry['p_holm'])}"


def _pairs(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}: {value}" for key, value in values.items())

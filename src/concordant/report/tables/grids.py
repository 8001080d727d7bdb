"""The table of grid.json: a row per fusion, a column per calibrator, accuracy clean and corrupted."""

from __future__ import annotations

from operator import add

import numpy as np

from concordant.report.format import Document, outcome, plural, shown
from concordant.report.record import Cell, Table, spread
from concordant.statistics.comparisons import MAIN

LEGEND = (
    "clean / mean over the corruptions, accuracy in percent. {ours} is compared with each: + it is significantly "
    "better, - significantly worse (p < 0.05, Holm-corrected within the row); unmarked, neither. "
    "Best alone: the best modality by itself in the same fusion; > the fusion without calibration (trained clean) "
    "beats it significantly, = no significant difference, < it is significantly below."
)


def grid_scores(grid: Document, *, deviations: bool = False) -> Table:
    """Return the scores of grid.json; with `deviations`, the standard deviation over seeds behind each mean."""
    config = grid["config"]
    left = ["fusion", "calibrated at", *(["best alone"] if has_alone(grid) else [])]
    columns = [*left, *map(shown, grid["rows"][0]["scores"])]
    rows = []
    for row in grid["rows"]:
        cells, best = [Cell(row["fusion"]), Cell(row["calibrate"])], row["best_alone"]
        if has_alone(grid):
            alone = (
                "-" if best is None else f"{best} {100 * float(np.mean(row['alone'][best])):.1f} {versus_alone(row)}"
            )
            cells.append(Cell(alone))
        for label, scores in row["scores"].items():
            both = [spread(scores[one]) for one in MAIN]
            texts = [str(cell) if deviations else cell.text for cell in both]
            marks = [mark(row, label, one) for one in MAIN]
            cells.append(Cell(" / ".join(map(add, texts, marks)), both[0].value))
        rows.append(cells)
    method = "" if config["method"] == "none" else f" · {config['method']}"
    caption = (
        f"{grid['benchmark']} · {', '.join(config['modalities'])}{method} · accuracy %, clean / mean over "
        f"corruptions, over {plural(config['seeds'], 'seed')}"
    )
    return Table("grid", caption, columns, rows, legend(grid), left=len(columns))


def legend(grid: Document) -> str:
    """Return the meaning of the marks that the grid has."""
    ours = ours_of(grid)
    if ours is None:
        return LEGEND.partition(" {ours}")[0]
    text = LEGEND.format(ours=shown(ours))
    return text if has_alone(grid) else text.partition(" Best alone")[0]


def ours_of(grid: Document) -> str | None:
    """Return the method that is compared with the others, or None."""
    return next((str(entry["of"]) for row in grid["rows"] for entry in row["comparisons"]), None)


def has_alone(grid: Document) -> bool:
    """Return True for a grid that trained modalities by themselves too."""
    return any(row["best_alone"] is not None for row in grid["rows"])


def mark(row: Document, label: str, condition: str) -> str:
    """Return "+" where the compared method is significantly better than `label`, "-" where worse, else nothing."""
    wanted = (entry for entry in row["comparisons"] if (entry["to"], entry["condition"]) == (label, condition))
    return next(map(outcome, wanted), "")


def versus_alone(row: Document) -> str:
    """Return ">", "=" or "<": the uncalibrated fusion, trained clean, against its best modality alone."""
    entry = row["against_alone"].get("none")
    return {"+": ">", "-": "<", "": "="}["" if entry is None else outcome(entry)]

"""One table over several runs, and over the rows of grids: a row a run and method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from concordant.report.html.numbers import by_label, mean
from concordant.report.html.tables.base import Cell, Document, Table, number, spread, table_or_none
from concordant.report.table import labels_of, p_text, shown, values_of


@dataclass(frozen=True)
class Compared:
    """What one run says of its methods.

    Args:
        name: of the run.
        benchmark: of the run.
        fusion: of the run, or the row of a grid.
        clean: method -> accuracy in [0, 1] by seed.
        hurt: the same, the mean over the quick corruptions; empty where there were none.
        comparisons: as in results.json.
        corruption: corruption.json, or None.
    """

    name: str
    benchmark: str
    fusion: str
    clean: Mapping[str, Sequence[float]]
    hurt: Mapping[str, Sequence[float]]
    comparisons: Sequence[Document]
    corruption: Document | None


def of_results(name: str, results: Document, corruption: Document | None) -> Compared:
    """Return what a run says."""
    labels = labels_of(results)
    quick = bool(results["runs"][0]["corruption"])
    return Compared(
        name,
        results["benchmark"],
        results["fusion"],
        {label: values_of(results, label, "clean") for label in labels},
        {label: values_of(results, label, "corruption.mean") if quick else [] for label in labels},
        results["comparisons"],
        corruption,
    )


def of_grid(name: str, grid: Document, corruptions: Mapping[str, Document | None]) -> list[Compared]:
    """Return what every row of a grid says."""
    return [
        Compared(
            name,
            grid["benchmark"],
            row["row"],
            {label: scores["clean"] for label, scores in row["scores"].items()},
            {label: scores["corruption.mean"] for label, scores in row["scores"].items()},
            row["comparisons"],
            corruptions.get(row["row"]),
        )
        for row in grid["rows"]
    ]


def joint(compared: Sequence[Compared], key: str) -> Table | None:
    """Return the table; columns of the severity sweep only where one was made."""
    swept = any(one.corruption is not None for one in compared)
    rows = [row for one in compared for row in _rows(one, swept=swept)]
    head: tuple[str, ...] = ("run", "benchmark", "fusion", "calibrator", "clean", "quick corruption")
    head += ("all corruptions", "corruption error") if swept else ()
    head += ("ours minus it", "p (Holm)")
    note = (
        "Accuracy in %, mean ± standard deviation over seeds; bold is the best of a run. Ours minus it: the paired "
        "difference in points under the quick corruption of one modality, with its corrected p-value."
    )
    if swept:
        note += (
            " All corruptions: over all kinds and severities. Corruption error: relative to the twin's, 1 is as many."
        )
    return table_or_none(f"{key}-joint", "All runs together", head, rows, note)


def _rows(one: Compared, *, swept: bool) -> list[tuple[Cell, ...]]:
    stressed = by_label(one.corruption["runs"]) if one.corruption is not None else {}
    against = {entry["to"]: entry for entry in one.comparisons if entry["condition"] == "corruption.mean"}
    tops = [max((mean(values) or 0.0 for values in scores.values()), default=0.0) for scores in (one.clean, one.hurt)]
    rows = []
    for label in one.clean:
        cells = []
        for scores, top in zip((one.clean, one.hurt), tops, strict=True):
            cell = spread(scores[label])
            cells.append(Cell(cell.text, cell.value, strong=bool(scores[label]) and mean(scores[label]) == top))
        if swept:
            runs = stressed.get(label, [])
            cells.append(spread(run["mean"] for run in runs))
            cells.append(spread((run["mean_corruption_error"] for run in runs), 3, scale=1))
        entry = against.get(label)
        cells.append(number(entry["difference"] if entry is not None else None, sign=True))
        cells.append(Cell("-") if entry is None else Cell(p_text(entry["p_holm"]), entry["p_holm"]))
        rows.append((Cell(one.name), Cell(one.benchmark), Cell(one.fusion), Cell(shown(label)), *cells))
    return rows

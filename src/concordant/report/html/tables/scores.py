"""Tables of results.json and grid.json: accuracies, paired differences, detection."""

from __future__ import annotations

from concordant.report.grid import cells_of, headings_of, legend
from concordant.report.html.numbers import mean
from concordant.report.html.tables.base import Cell, Document, Table, best, number, table_or_none
from concordant.report.table import detection_of, label_of, labels_of, mean_and_std, p_text, shown, values_of


def scores(results: Document, key: str) -> Table:
    """Return accuracies by method: clean, under each corruption, in the mean, and without each modality."""
    first = results["runs"][0]
    kinds, removed = list(first["corruption"]), list(first["removal"])
    conditions = ["clean", *(f"corruption.{kind}" for kind in kinds), *(["corruption.mean"] if kinds else [])]
    conditions += [f"removal.{name}" for name in removed]
    head = [
        "calibrator",
        "parameters",
        "clean",
        *kinds,
        *(["mean"] if kinds else []),
        *(f"no {one}" for one in removed),
    ]
    rows = []
    for label in labels_of(results):
        parameters = next(run["parameters"] for run in results["runs"] if label_of(run) == label)
        cells = [values_of(results, label, condition) for condition in conditions]
        texts = [Cell(mean_and_std(values), 100 * (mean(values) or 0.0)) for values in cells]
        rows.append((Cell(shown(label)), Cell(f"{parameters:,}", float(parameters)), *texts))
    note = "Mean ± standard deviation over seeds; bold is the highest mean of a column."
    return Table(f"{key}-scores", "Accuracy, %", tuple(head), best(rows, 2), note)


def comparisons(results: Document, key: str) -> Table | None:
    """Return the paired differences, all conditions, with intervals and p-values."""
    rows = [
        (
            Cell(f"{shown(one['of'])} - {shown(one['to'])}"),
            Cell(
                "mean of corruptions" if one["condition"] == "corruption.mean" else one["condition"].replace(".", ": ")
            ),
            Cell(f"{100 * one['difference']:+.1f}", 100 * one["difference"], strong=one["p_holm"] < 0.05),
            Cell(f"{100 * one['ci95'][0]:+.1f} to {100 * one['ci95'][1]:+.1f}", 100 * one["ci95"][0]),
            Cell(p_text(one["p_holm"]), one["p_holm"]),
            Cell(p_text(one["p_wilcoxon"]), one["p_wilcoxon"]),
        )
        for one in results["comparisons"]
    ]
    head = ("difference", "condition", "points", "95 % interval", "p (Holm)", "p (Wilcoxon)")
    note = "Paired over seeds and test instances; bold is significant after Holm's correction (p < 0.05)."
    return table_or_none(f"{key}-comparisons", "Paired differences in accuracy", head, rows, note)


def detection(results: Document, key: str) -> Table | None:
    """Return how well each method names the corrupted modality."""
    kinds = list(results["runs"][0]["corruption"])
    rows = []
    for label in labels_of(results):
        found = detection_of(results, label) if kinds else None
        if found is not None:
            cells = [number(value, 2, scale=1) for pair in found for value in pair]
            rows.append((Cell(shown(label)), *cells))
    head = ("calibrator", *(f"{kind}, {what}" for kind in kinds for what in ("which", "whether")))
    note = (
        "Area under the ROC curve of the reliability: which modality of an instance was hit, and whether one was; "
        "0.5 is guessing, 1 is perfect."
    )
    return table_or_none(f"{key}-detection", "Finding the corrupted modality", head, best(rows, 1), note)


def grid_scores(grid: Document, key: str) -> Table:
    """Return the grid: a row a fusion, a column a method, accuracy clean / corrupted."""
    rows = []
    left = len(headings_of(grid)) - len(grid["rows"][0]["scores"])
    for row in grid["rows"]:
        texts = cells_of(grid, row, spread=grid["config"]["seeds"] > 1)
        clean = [100 * (mean(values["clean"]) or 0.0) for values in row["scores"].values()]
        texts[0] = row["row"]
        rows.append(
            tuple(Cell(text, None if place < left else clean[place - left]) for place, text in enumerate(texts))
        )
    return Table(
        f"{key}-grid", "Accuracy by fusion and calibrator", tuple(headings_of(grid)), tuple(rows), legend(grid)
    )

"""Figures of results.json and grid.json: accuracy clean and corrupted, and the paired differences."""

from __future__ import annotations

from collections.abc import Sequence

from concordant.report.figures.base import Figure, Spec, methods, over_seeds, rows, score_text
from concordant.report.format import (
    SIGNIFICANT,
    Document,
    by_label,
    condition_name,
    lines_of,
    mean,
    seeds_of,
    shown,
    values_of,
)
from concordant.statistics.comparisons import MAIN

FOREST = (
    "Right of zero is in favour of the method named first, left against it; a line is the paired 95 % interval, and a "
    "filled mark is significant after Holm's correction{} (p < 0.05)."
)


def accuracies(results: Document) -> Figure:
    """Return accuracy, clean and under every corruption: a panel per condition, a row per baseline and method."""
    kinds = list(results["runs"][0]["corruption"])
    conditions = ["clean", *(["corruption.mean"] if kinds else []), *(f"corruption.{kind}" for kind in kinds)]
    labels = list(by_label(lines_of(results)))
    values = {one: {label: values_of(results, label, one) for label in labels} for one in conditions}
    texts = []
    for label in labels:
        corrupted = f", {score_text(mean(values['corruption.mean'][label]))} corrupted" if kinds else ""
        texts.append(f"{shown(label)} {score_text(mean(values['clean'][label]))} clean{corrupted}")
    series = methods(labels)
    panels = {condition_name(one): [over_seeds(values[one][label], "%") for label in labels] for one in conditions}
    return Figure(
        id="accuracy",
        title="Accuracy, clean and with one modality corrupted",
        caption="Marks are means over seeds, lines one standard deviation to either side; farther right is better."
        if seeds_of(results["runs"]) > 1
        else "Marks are the scores of one seed; farther right is better.",
        alt=f"Dot plots of accuracy. {'; '.join(texts)}.",
        series=series,
        specs=[rows(panels, [one["name"] for one in series], {"label": "accuracy, %", "score": True})],
    )


def differences(results: Document) -> Figure | None:
    """Return paired differences with their intervals, ours minus each other method, by condition; None without any."""
    wanted = [entry for entry in results["comparisons"] if not entry["condition"].startswith("removal.")]
    if not wanted:
        return None
    labels = list(dict.fromkeys(entry["to"] for entry in wanted))
    whole = len(wanted) == len(labels) * len({entry["condition"] for entry in wanted})
    return Figure(
        id="differences",
        title=f"{shown(str(wanted[0]['of']))} minus each other method",
        caption=FOREST.format("") + ("" if whole else " Methods without a mark were not compared there."),
        alt=f"Differences in accuracy with intervals. {_main_differences(wanted)}.",
        series=methods(labels),
        specs=[_forest([(condition_name(entry["condition"]), entry["to"], entry) for entry in wanted], labels)],
    )


def grid_differences(grid: Document) -> Figure | None:
    """Return the paired differences of every row of a grid, with a select for the condition; None without any."""
    found = [(row["row"], entry) for row in grid["rows"] for entry in row["comparisons"]]
    if not found:
        return None
    conditions = list(dict.fromkeys(entry["condition"] for _, entry in found))
    labels = list(dict.fromkeys(entry["to"] for _, entry in found))
    return Figure(
        id="differences",
        title=f"{shown(str(found[0][1]['of']))} minus each other method, by fusion",
        caption=FOREST.format(" within the row"),
        alt=f"Differences in accuracy by fusion. Over all rows: {_main_differences(grid['overall'])}.",
        series=methods(labels),
        specs=[
            _forest([(row, one["to"], one) for row, one in found if one["condition"] == condition], labels)
            for condition in conditions
        ],
        choices={"condition": [condition_name(one) for one in conditions]},
    )


def _forest(found: Sequence[tuple[str, str, Document]], labels: Sequence[str]) -> Spec:
    """Return a panel per title and a row per method, from triples of title, method and comparison."""
    known = {(title, label): _interval(entry) for title, label, entry in found}
    titles = dict.fromkeys(title for title, _, _ in found)
    panels = {title: [known.get((title, label)) for label in labels] for title in titles}
    return rows(panels, [shown(label) for label in labels], {"label": "points of accuracy", "zero": True})


def _interval(entry: Document) -> Spec:
    value, low, high = (100 * one for one in (entry["difference"], *entry["ci95"]))
    text = f"{value:+.1f} points, 95 % interval {low:+.1f} to {high:+.1f}, Holm p {entry['p_holm']:.3f}"
    return {"x": value, "low": low, "high": high, "open": entry["p_holm"] >= SIGNIFICANT, "text": text}


def _main_differences(entries: Sequence[Document]) -> str:
    return "; ".join(
        f"{'clean' if entry['condition'] == 'clean' else 'corrupted'}, against {shown(entry['to'])}: "
        f"{100 * entry['difference']:+.1f} points"
        for entry in entries
        if entry["condition"] in MAIN
    )

"""Figures of results.json and grid.json: accuracy clean and corrupted, and the paired differences."""

from __future__ import annotations

from collections.abc import Sequence

from concordant.report.figures.base import Figure, Spec, bars, dots, forest, layout, score_text
from concordant.report.figures.colours import colour_of, marker_of
from concordant.report.format import (
    SIGNIFICANT,
    Document,
    condition_name,
    labels_of,
    mean,
    plain,
    seeds_of,
    shown,
    values_of,
)
from concordant.statistics.comparisons import MAIN

FOREST = (
    "Right of zero is in favour of the method named first, left against it; a line is the paired 95 % interval, and a "
    "filled mark is significant after Holm's correction{} (p < 0.05)."
)


def accuracy_bars(results: Document) -> Figure:
    """Return bars of accuracy, clean and under every corruption, one colour per method."""
    kinds = list(results["runs"][0]["corruption"])
    conditions = ["clean", *(f"corruption.{kind}" for kind in kinds), *(["corruption.mean"] if kinds else [])]
    names = [condition_name(condition) for condition in conditions]
    data, texts = [], []
    for label in labels_of(results):
        values = [values_of(results, label, condition) for condition in conditions]
        data.append(bars(label, names, values, "%"))
        corrupted = f", {score_text(mean(values[-1]))} corrupted" if kinds else ""
        texts.append(f"{shown(label)} {score_text(mean(values[0]))} clean{corrupted}")
    several = seeds_of(results["runs"]) > 1
    groups: Spec = {"barmode": "group", "bargap": 0.22, "bargroupgap": 0.06}
    return Figure(
        id="accuracy",
        title="Accuracy, clean and with one modality corrupted",
        caption="Bars are means over seeds, lines one standard deviation to either side; higher is better."
        if several
        else "Bars are the scores of one seed; higher is better.",
        alt=f"Bar chart of accuracy. {'; '.join(texts)}.",
        specs=[{"data": data, "layout": layout(360, y="accuracy, %", **groups, yaxis={"rangemode": "tozero"})}],
    )


def differences(results: Document) -> Figure | None:
    """Return paired differences with their intervals, ours minus each other method; None without any."""
    wanted = [entry for entry in results["comparisons"] if not entry["condition"].startswith("removal.")]
    if not wanted:
        return None
    return Figure(
        id="differences",
        title=f"{shown(str(wanted[0]['of']))} minus each other method",
        caption=FOREST.format(""),
        alt=f"Differences in accuracy with intervals. {_main_differences(wanted)}.",
        specs=[_forest([(condition_name(entry["condition"]), entry) for entry in wanted])],
    )


def grid_differences(grid: Document) -> Figure | None:
    """Return the paired differences of every row of a grid, with a select for the condition; None without any."""
    found = [(row["row"], entry) for row in grid["rows"] for entry in row["comparisons"]]
    if not found:
        return None
    conditions = list(dict.fromkeys(entry["condition"] for _, entry in found))
    return Figure(
        id="differences",
        title=f"{shown(str(found[0][1]['of']))} minus each other method, by fusion",
        caption=FOREST.format(" within the row"),
        alt=f"Differences in accuracy by fusion. Over all rows: {_main_differences(grid['overall'])}.",
        specs=[_forest([(row, one) for row, one in found if one["condition"] == name]) for name in conditions],
        choices={"condition": [condition_name(one) for one in conditions]},
    )


def _forest(found: Sequence[tuple[str, Document]]) -> Spec:
    """Return one mark and line per category and method, from pairs of a category and its comparison."""
    data = []
    for other in dict.fromkeys(entry["to"] for _, entry in found):
        mine = [(category, entry) for category, entry in found if entry["to"] == other]
        data.append(_intervals(other, [category for category, _ in mine], [entry for _, entry in mine]))
    height = 110 + len({category for category, _ in found}) * (18 + 15 * len(data))
    layout = forest(height, "difference in points of accuracy", 0.35, zeroline=True, zerolinewidth=2)
    return {"data": data, "layout": layout}


def _intervals(other: str, names: Sequence[str], entries: Sequence[Document]) -> Spec:
    """Return the trace of one method: a mark and a line per comparison."""
    triples = [(100 * one["ci95"][0], 100 * one["difference"], 100 * one["ci95"][1]) for one in entries]
    values, symbol, colour = [value for _, value, _ in triples], marker_of(other), colour_of(other)
    symbols = [symbol if entry["p_holm"] < SIGNIFICANT else f"{symbol}-open" for entry in entries]
    up, down = [high - value for _, value, high in triples], [value - low for low, value, _ in triples]
    texts = [
        f"{value:+.1f} points, 95 % interval {low:+.1f} to {high:+.1f}, Holm p {entry['p_holm']:.3f}"
        for (low, value, high), entry in zip(triples, entries, strict=True)
    ]
    return dots(
        other,
        names,
        values,
        {"symmetric": False, "array": up, "arrayminus": down},
        name=plain(f"minus {shown(other)}"),
        marker={"color": colour, "symbol": symbols, "size": 9, "line": {"width": 1.6, "color": colour}},
        text=texts,
        hovertemplate="%{y}, %{fullData.name}<br>%{text}<extra></extra>",
    )


def _main_differences(entries: Sequence[Document]) -> str:
    return "; ".join(
        f"{'clean' if entry['condition'] == 'clean' else 'corrupted'}, against {shown(entry['to'])}: "
        f"{100 * entry['difference']:+.1f} points"
        for entry in entries
        if entry["condition"] in MAIN
    )

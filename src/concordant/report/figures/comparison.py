"""Figures of results.json and grid.json: accuracy clean and corrupted, and the paired differences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from concordant.report.figures.base import Choice, Figure, label_key, layout, score_text
from concordant.report.figures.colours import colour_of, marker_of
from concordant.report.format import (
    SIGNIFICANT,
    Document,
    condition_name,
    labels_of,
    mean,
    percent,
    plain,
    seeds_of,
    shown,
    std,
    values_of,
)
from concordant.report.tables.scores import MAIN


def accuracy_bars(results: Document) -> Figure:
    """Return the bars of accuracy, clean and under every corruption, a colour a method."""
    kinds = list(results["runs"][0]["corruption"])
    conditions = ["clean", *(f"corruption.{kind}" for kind in kinds), *(["corruption.mean"] if kinds else [])]
    names = ["clean", *(plain(kind) for kind in kinds), *(["mean of corruptions"] if kinds else [])]
    data = []
    for label in labels_of(results):
        values = [values_of(results, label, condition) for condition in conditions]
        spread = percent([std(one) for one in values])
        data.append(
            {
                "type": "bar",
                "name": plain(shown(label)),
                "x": names,
                "y": percent([mean(one) for one in values]),
                "error_y": {
                    "type": "data",
                    "array": [one or 0 for one in spread],
                    "thickness": 1.2,
                    "width": 2,
                    "visible": any(one is not None for one in spread),
                },
                "marker": {"color": colour_of(label)},
                "legendgroup": label_key(label),
                "hovertemplate": "%{fullData.name}<br>%{x}: %{y:.1f} %<extra></extra>",
            }
        )
    said = "; ".join(
        f"{shown(label)} {score_text(mean(values_of(results, label, 'clean')))} clean"
        + (f", {score_text(mean(values_of(results, label, 'corruption.mean')))} corrupted" if kinds else "")
        for label in labels_of(results)
    )
    seeds = seeds_of(results["runs"])
    return Figure(
        id="accuracy",
        title="Accuracy, clean and with one modality corrupted",
        caption="Bars are means over seeds, lines one standard deviation to either side; higher is better."
        if seeds > 1
        else "Bars are the scores of one seed; higher is better.",
        alt=f"Bar chart of accuracy. {said}.",
        spec={
            "data": data,
            "layout": layout(
                360, y="accuracy, %", barmode="group", bargap=0.22, bargroupgap=0.06, yaxis={"rangemode": "tozero"}
            ),
        },
    )


def differences(results: Document) -> Figure | None:
    """Return the paired differences with their intervals, ours minus each other method; None without any."""
    wanted = [entry for entry in results["comparisons"] if not entry["condition"].startswith("removal.")]
    if not wanted:
        return None
    ours = str(wanted[0]["of"])
    conditions = list(dict.fromkeys(entry["condition"] for entry in wanted))
    data = []
    for other in dict.fromkeys(entry["to"] for entry in wanted):
        mine = {entry["condition"]: entry for entry in wanted if entry["to"] == other}
        entries = [mine[condition] for condition in conditions if condition in mine]
        data.append(_intervals(other, [plain(condition_name(entry["condition"])) for entry in entries], entries))
    return Figure(
        id="differences",
        title=f"{shown(ours)} minus each other method",
        caption="Right of zero is in favour of the method named first, left against it; a line is the paired 95 % "
        "interval, and a filled mark is significant after Holm's correction (p < 0.05).",
        alt=f"Differences in accuracy with intervals. {_said(wanted)}.",
        spec={"data": data, "layout": _forest(len(conditions), len(data))},
    )


def grid_differences(grid: Document) -> Figure | None:
    """Return the paired differences of every row of a grid, with a select for the condition."""
    found = [entry for row in grid["rows"] for entry in row["comparisons"]]
    if not found:
        return None
    ours = str(found[0]["of"])
    specs = {}
    conditions = list(dict.fromkeys(entry["condition"] for entry in found))
    for place, condition in enumerate(conditions):
        data = []
        for other in dict.fromkeys(entry["to"] for entry in found):
            rows = [
                (plain(row["row"]), entry)
                for row in grid["rows"]
                for entry in row["comparisons"]
                if entry["to"] == other and entry["condition"] == condition
            ]
            data.append(_intervals(other, [name for name, _ in rows], [entry for _, entry in rows]))
        specs[str(place)] = {"data": data, "layout": _forest(len(grid["rows"]), len(data))}
    return Figure(
        id="differences",
        title=f"{shown(ours)} minus each other method, by fusion",
        caption="Right of zero is in favour of the method named first, left against it; a line is the paired 95 % "
        "interval, and a filled mark is significant after Holm's correction within the row (p < 0.05).",
        alt=f"Differences in accuracy by fusion. Over all rows: {_said(grid['overall'])}.",
        spec=specs["0"],
        choices=(Choice("condition", tuple(condition_name(one) for one in conditions)),),
        variants=specs,
    )


def _intervals(other: str, names: Sequence[str], entries: Sequence[Document]) -> dict[str, Any]:
    """Return the trace of one method: a mark and a line a condition."""
    values = [100 * entry["difference"] for entry in entries]
    sure = [entry["p_holm"] < SIGNIFICANT for entry in entries]
    symbol, colour = marker_of(other), colour_of(other)
    return {
        "type": "scatter",
        "mode": "markers",
        "name": plain(f"minus {shown(other)}"),
        "legendgroup": label_key(other),
        "orientation": "h",
        "x": values,
        "y": list(names),
        "error_x": {
            "type": "data",
            "symmetric": False,
            "array": [100 * entry["ci95"][1] - value for entry, value in zip(entries, values, strict=True)],
            "arrayminus": [value - 100 * entry["ci95"][0] for entry, value in zip(entries, values, strict=True)],
            "thickness": 1.4,
            "width": 0,
            "color": colour,
        },
        "marker": {
            "color": colour,
            "symbol": [symbol if one else f"{symbol}-open" for one in sure],
            "size": 9,
            "line": {"width": 1.6, "color": colour},
        },
        "text": [
            f"{entry['difference'] * 100:+.1f} points, 95 % interval {100 * entry['ci95'][0]:+.1f} to "
            f"{100 * entry['ci95'][1]:+.1f}, Holm p {entry['p_holm']:.3f}"
            for entry in entries
        ],
        "hovertemplate": "%{y}, %{fullData.name}<br>%{text}<extra></extra>",
    }


def _forest(rows: int, methods: int) -> dict[str, Any]:
    return layout(
        110 + rows * (18 + 15 * methods),
        x="difference in points of accuracy",
        scattermode="group",
        scattergap=0.35,
        xaxis={"zeroline": True, "zerolinewidth": 2},
        yaxis={"autorange": "reversed", "type": "category", "showgrid": False},
    )


def _said(entries: Sequence[Document]) -> str:
    main = [entry for entry in entries if entry["condition"] in MAIN]
    return "; ".join(
        f"{'clean' if entry['condition'] == 'clean' else 'corrupted'}, against {shown(entry['to'])}: "
        f"{100 * entry['difference']:+.1f} points"
        for entry in main
    )

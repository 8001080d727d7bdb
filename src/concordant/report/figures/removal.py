"""Figures of removal.json: every subset of the modalities, each modality's share of the score, random removal."""

from __future__ import annotations

from typing import Any

from concordant.report.figures.base import Figure, band, edges, label_key, layout, line, score_text
from concordant.report.figures.colours import colour_of, marker_of
from concordant.report.format import (
    Document,
    by_label,
    columns_mean,
    columns_std,
    mean,
    metric_of,
    percent,
    plain,
    seeds_of,
    shown,
    std,
)

MOST = 40  # subsets that a figure shows; with more, only those of one modality, or of all but one


def subset_dots(document: Document) -> Figure:
    """Return the score of every subset of the modalities, a mark a method."""
    modalities = list(document["modalities"])
    labels = by_label(document["runs"])
    first = next(iter(labels.values()))[0]
    subsets = [tuple(one["present"]) for one in first["subsets"]]
    if len(subsets) > MOST:
        subsets = [one for one in subsets if len(one) in (1, len(modalities) - 1, len(modalities))]
    subsets.sort(key=lambda one: (-len(one), [modalities.index(name) for name in one if name in modalities]))
    data, said = [], []
    for label, runs in labels.items():
        scores = [{tuple(one["present"]): one["score"] for one in run["subsets"]} for run in runs]
        middle = percent([mean(one.get(subset) for one in scores) for subset in subsets])
        spread = percent([std(one.get(subset) for one in scores) for subset in subsets])
        data.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": plain(shown(label)),
                "legendgroup": label_key(label),
                "orientation": "h",
                "x": middle,
                "y": [subset_name(subset, modalities) for subset in subsets],
                "error_x": {
                    "type": "data",
                    "array": [one or 0 for one in spread],
                    "thickness": 1.2,
                    "width": 0,
                    "color": colour_of(label),
                },
                "marker": {"color": colour_of(label), "symbol": marker_of(label), "size": 9},
                "hovertemplate": "%{fullData.name}<br>%{y}: %{x:.1f} %<extra></extra>",
            }
        )
        whole = tuple(modalities)
        said.append(f"{shown(label)} {score_text(mean(one.get(whole) for one in scores))} with all")
    spread_said = "; lines are one standard deviation over seeds" if seeds_of(document["runs"]) > 1 else ""
    return Figure(
        id="subsets",
        title=f"{metric_of(document).capitalize()} by the modalities that are present",
        caption=f"Each row names the modalities that are left{spread_said}; farther right is better.",
        alt=f"Dot plot of {metric_of(document)} for {len(subsets)} subsets of the modalities. {'; '.join(said)}.",
        spec={
            "data": data,
            "layout": layout(
                110 + len(subsets) * (14 + 11 * len(labels)),
                x=plain(f"{metric_of(document)}, %"),
                scattermode="group",
                scattergap=0.3,
                xaxis={"zeroline": False},
                yaxis={"autorange": "reversed", "type": "category", "showgrid": False},
            ),
        },
    )


def subset_name(subset: tuple[str, ...], modalities: list[str]) -> str:
    """Return how a subset is called."""
    if len(subset) == len(modalities):
        return "all" if len(subset) > 2 else plain(" + ".join(subset))
    if len(subset) == 1:
        return plain(f"{subset[0]} alone")
    return plain(" + ".join(subset))


def shapley_bars(document: Document) -> Figure:
    """Return the part of the score that each modality brings, a bar a method."""
    modalities = list(document["modalities"])
    data, said = [], []
    for label, runs in by_label(document["runs"]).items():
        values = [[run["shapley"].get(name) for run in runs] for name in modalities]
        middle, spread = percent([mean(one) for one in values]), percent([std(one) for one in values])
        data.append(
            {
                "type": "bar",
                "name": plain(shown(label)),
                "legendgroup": label_key(label),
                "x": [plain(name) for name in modalities],
                "y": middle,
                "error_y": {"type": "data", "array": [one or 0 for one in spread], "thickness": 1.2, "width": 2},
                "marker": {"color": colour_of(label)},
                "hovertemplate": "%{fullData.name}<br>%{x}: %{y:.1f} points<extra></extra>",
            }
        )
        parts = ", ".join(
            f"{name} {value:.1f}" for name, value in zip(modalities, middle, strict=True) if value is not None
        )
        said.append(f"{shown(label)}: {parts}")
    return Figure(
        id="shapley",
        title="What each modality brings (Shapley values)",
        caption=f"Points of {metric_of(document)} above always saying the most frequent class, shared out among the "
        "modalities; the "
        "bars of one method add up to its score less that of the most frequent class.",
        alt=f"Bar chart of Shapley values in points. {'; '.join(said)}.",
        spec={
            "data": data,
            "layout": layout(
                340, y=plain(f"points of {metric_of(document)}"), barmode="group", bargap=0.3, bargroupgap=0.06
            ),
        },
    )


def rate_curve(document: Document) -> Figure | None:
    """Return the score by the rate at which modalities are missing at random; None where no rate was tried."""
    data: list[dict[str, Any]] = []
    said = []
    for label, runs in by_label(document["runs"]).items():
        rows = [percent(one["score"] for one in run["rates"]) for run in runs]
        if not rows or not rows[0]:
            continue
        x = [one["rate"] for one in runs[0]["rates"]]
        middle = columns_mean(rows)
        around = edges(middle, columns_std(rows))
        if around is not None:
            data += band(label, *around, {"x": x})
        hover = "%{fullData.name}<br>%{x:.0%} missing: %{y:.1f} %<extra></extra>"
        data.append(line(label, x=x, y=middle, hovertemplate=hover))
        said.append(f"{shown(label)}: area {score_text(mean(run['rate_area'] for run in runs))}")
    if not data:
        return None
    return Figure(
        id="rates",
        title=f"{metric_of(document).capitalize()} when modalities are missing at random",
        caption="Each modality of each instance is left out with the probability on the horizontal axis; a flatter "
        "line bears missing modalities better.",
        alt=f"Line chart of {metric_of(document)} by the rate of missing modalities. {'; '.join(said)}.",
        spec={
            "data": data,
            "layout": layout(
                360,
                x="share of modalities missing",
                y=plain(f"{metric_of(document)}, %"),
                xaxis={"tickformat": ".0%", "zeroline": False},
            ),
        },
    )

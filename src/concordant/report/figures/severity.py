"""Figures of corruption.json: score by severity, and whether a low reliability means a corrupted modality."""

from __future__ import annotations

from collections.abc import Sequence

from concordant.report.figures.base import (
    Choice,
    Figure,
    Spec,
    band,
    edges,
    layout,
    line,
    on_panel,
    panels,
    score_text,
)
from concordant.report.figures.colours import colour_of
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
)

LEVELS = 5
GROUPS = {
    "values": "values",
    "time": "steps in time",
    "instances": "whole instances",
    "image": "images",
    "audio": "sound",
}
# Without a colour of its own: the script gives "ink" the colour of text.
DASHED = {"type": "scatter", "mode": "lines", "line": {"dash": "dash", "width": 1.3, "color": "#7a7f87"}, "meta": "ink"}


def severity_curves(document: Document) -> Figure | None:
    """Return the score by severity, one panel per kind, with a select for the group of kinds; None without kinds."""
    kinds, metric = list(document["kinds"]), metric_of(document)
    if not kinds:
        return None
    groups = list(dict.fromkeys(kind["group"] for kind in kinds))
    specs = {"0": _curves(document, kinds)}
    for place, group in enumerate(groups, 1):
        specs[str(place)] = _curves(document, [kind for kind in kinds if kind["group"] == group])
    several = len(groups) > 1
    texts = [
        f"{shown(label)} {score_text(mean(run['mean'] for run in runs))}"
        for label, runs in by_label(document["runs"]).items()
    ]
    bands = "; bands are one standard deviation over seeds" if seeds_of(document["runs"]) > 1 else ""
    return Figure(
        id="severity",
        title=f"{metric.capitalize()} by severity of the corruption",
        caption=f"Each panel is a kind of corruption: {metric} in percent from clean (0) to the highest severity "
        f"(5){bands}; a flatter line is more robust. The thin dashed line is the oracle: the twin, given the corrupted "
        "modality as absent.",
        alt=f"Line charts of {metric} by severity for {len(kinds)} kinds of corruption. "
        f"Mean over all kinds and severities: {'; '.join(texts)}.",
        spec=specs["0"],
        choices=(Choice("kinds", ("all", *(GROUPS.get(group, group) for group in groups))),) if several else (),
        variants=specs if several else {},
    )


def _curves(document: Document, kinds: Sequence[Document]) -> Spec:
    data: list[Spec] = []
    named: set[str] = set()  # methods that are in the legend
    for place, kind in enumerate(kinds):
        name = kind["name"]
        levels = enumerate(kind["severities"], 1)
        ticks = ["clean", *(f"severity {level}: {value:g} {plain(kind['unit'])}" for level, value in levels)]
        for label, runs in by_label(document["runs"]).items():
            rows = [percent([run["clean"], *run["kinds"][name]["scores"]]) for run in runs if name in run["kinds"]]
            if not rows:
                continue
            middle = columns_mean(rows)
            around = edges(middle, columns_std(rows))
            at = {"x0": 0, "dx": 1}
            if around is not None:
                data += band(label, *around, at, **on_panel(place))
            more = {**at, **on_panel(place), "showlegend": label not in named}
            hover = "%{fullData.name}<br>%{text}<br>%{y:.1f} %<extra></extra>"
            data.append(line(label, y=middle, text=ticks, hovertemplate=hover, **more))
            named.add(label)
        for label, runs in by_label(document["oracle"]).items():
            rows = [percent(run["kinds"][name]["scores"]) for run in runs if name in run["kinds"]]
            if rows:
                data.append(_oracle(label, columns_mean(rows), place, first=f"oracle {label}" not in named))
                named.add(f"oracle {label}")
    titles = [f"{kind['name']}{' (seen)' if kind['seen'] else ''}" for kind in kinds]
    axis = {"range": [-0.15, LEVELS + 0.15], "dtick": 1, "tick0": 0, "zeroline": False}
    return {"data": data, "layout": panels(titles, xaxis=axis, yaxis={"nticks": 5, "zeroline": False, "matches": "y"})}


def _oracle(label: str, values: Sequence[float | None], place: int, *, first: bool) -> Spec:
    return {
        **DASHED,
        "name": plain(f"oracle of {shown(label)}"),
        "legendgroup": f"oracle {label}",
        "x0": 1,
        "dx": 1,
        "y": list(values),
        "showlegend": first,
        "hovertemplate": "%{fullData.name}<br>severity %{x}: %{y:.1f} %<extra></extra>",
        **on_panel(place),
    }


def reliability_diagram(document: Document) -> Figure | None:
    """Return the share of clean modalities by predicted reliability; None without reliabilities."""
    data: list[Spec] = [{**DASHED, "name": "calibrated", "x": [0, 1], "y": [0, 1], "hoverinfo": "skip"}]
    texts = []
    for label, runs in by_label(document["runs"]).items():
        diagrams = [run["diagram"] for run in runs if run["diagram"] is not None]
        if not diagrams:
            continue
        joined = pooled(diagrams)
        most = max((count for _, _, count in joined), default=1) or 1
        sizes = [5 + 13 * (count / most) ** 0.5 for _, _, count in joined]
        data.append(
            line(
                label,
                x=[x for x, _, _ in joined],
                y=[y for _, y, _ in joined],
                text=[f"{count:,} cases" for _, _, count in joined],
                marker={"color": colour_of(label), "size": sizes, "line": {"width": 0}},
                hovertemplate="%{fullData.name}<br>predicted %{x:.2f}, clean %{y:.2f}<br>%{text}<extra></extra>",
            )
        )
        error = mean(diagram["error"] for diagram in diagrams)
        if error is not None:
            texts.append(f"{shown(label)}: mean distance {error:.3f}")
    if len(data) == 1:
        return None
    axis = {"range": [-0.03, 1.06], "zeroline": False}
    return Figure(
        id="reliability",
        title="Does a low reliability mean a corrupted modality?",
        caption="Predicted reliability against the share of modalities that were clean; on the diagonal the number "
        "can be read as a probability, below it the reliability is too high; larger marks are more cases.",
        alt=f"Reliability diagram. {'; '.join(texts)}." if texts else "Reliability diagram.",
        spec={
            "data": data,
            "layout": layout(400, x="predicted reliability", y="share that was clean", xaxis=axis, yaxis=axis),
        },
    )


def pooled(diagrams: Sequence[Document]) -> list[tuple[float, float, int]]:
    """Return (predicted, clean, count) of every bin with cases, seeds weighted by their counts."""
    found = []
    for place in range(min(len(one["count"]) for one in diagrams)):
        bins = [(one["predicted"][place], one["intact"][place], one["count"][place]) for one in diagrams]
        known = [one for one in bins if one[2] and one[0] is not None and one[1] is not None]
        count = sum(one[2] for one in known)
        if count:
            predicted, clean = (sum(one[n] * one[2] for one in known) / count for n in (0, 1))
            found.append((predicted, clean, count))
    return found

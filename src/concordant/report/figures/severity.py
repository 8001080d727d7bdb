"""Figures of corruption.json: accuracy by severity, and whether a low reliability means a corrupted modality."""

from __future__ import annotations

from collections.abc import Sequence

from concordant.report.figures.base import (
    Choice,
    Figure,
    Spec,
    band,
    edges,
    label_key,
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


def severity_curves(document: Document) -> Figure | None:
    """Return accuracy by severity, a panel a kind, with a select for the group of kinds; None without kinds."""
    kinds = list(document["kinds"])
    if not kinds:
        return None
    groups = list(dict.fromkeys(kind["group"] for kind in kinds))
    specs = {"0": _curves(document, kinds)}
    for place, group in enumerate(groups, 1):
        specs[str(place)] = _curves(document, [kind for kind in kinds if kind["group"] == group])
    several = len(groups) > 1
    said = "; ".join(
        f"{shown(label)} {score_text(mean(run['mean'] for run in runs))}"
        for label, runs in by_label(document["runs"]).items()
    )
    seeds = seeds_of(document["runs"])
    return Figure(
        id="severity",
        title=f"{metric_of(document).capitalize()} by severity of the corruption",
        caption=f"Each panel is a kind of corruption: {metric_of(document)} in percent from untouched (0) to the "
        "highest severity "
        f"(5){'; bands are one standard deviation over seeds' if seeds > 1 else ''}; a flatter line is more robust. "
        "The thin dashed line is the oracle: the twin, told which modality is corrupted and given it as absent.",
        alt=f"Line charts of {metric_of(document)} by severity for {len(kinds)} kinds of corruption. "
        "Mean over all kinds and "
        f"severities: {said}.",
        spec=specs["0"],
        choices=(Choice("kinds", ("all", *(GROUPS.get(group, group) for group in groups))),) if several else (),
        variants=specs if several else {},
    )


def _curves(document: Document, kinds: Sequence[Document]) -> Spec:
    data: list[Spec] = []
    labels, oracles = by_label(document["runs"]), by_label(document["oracle"])
    known: set[str] = set()
    for place, kind in enumerate(kinds):
        ticks = ["untouched", *(f"severity {n}: {value:g} {plain(kind['unit'])}" for n, value in _levels(kind))]
        for label, runs in labels.items():
            rows = [
                percent([run["clean"], *run["kinds"][kind["name"]]["scores"]])
                for run in runs
                if kind["name"] in run["kinds"]
            ]
            if not rows:
                continue
            middle, around = columns_mean(rows), edges(columns_mean(rows), columns_std(rows))
            if around is not None:
                data += band(label, *around, {"x0": 0, "dx": 1}, **on_panel(place))
            data.append(
                line(
                    label,
                    x0=0,
                    dx=1,
                    y=middle,
                    text=ticks,
                    hovertemplate="%{fullData.name}<br>%{text}<br>%{y:.1f} %<extra></extra>",
                    showlegend=label not in known,
                    **on_panel(place),
                )
            )
            known.add(label)
        for label, runs in oracles.items():
            rows = [percent(run["kinds"][kind["name"]]["scores"]) for run in runs if kind["name"] in run["kinds"]]
            if rows:
                data.append(_oracle(label, columns_mean(rows), place, first=f"oracle {label}" not in known))
                known.add(f"oracle {label}")
    titles = [f"{kind['name']}{' (seen)' if kind['seen'] else ''}" for kind in kinds]
    axis = {"range": [-0.15, LEVELS + 0.15], "dtick": 1, "tick0": 0, "zeroline": False}
    return {"data": data, "layout": panels(titles, xaxis=axis, yaxis={"nticks": 5, "zeroline": False, "matches": "y"})}


def _levels(kind: Document) -> list[tuple[int, float]]:
    return list(enumerate(kind["severities"], 1))


def _oracle(label: str, values: Sequence[float | None], place: int, *, first: bool) -> Spec:
    # Without a colour of its own: the script gives "ink" the colour of text.
    return {
        "type": "scatter",
        "mode": "lines",
        "name": plain(f"oracle of {shown(label)}"),
        "legendgroup": f"oracle {label}",
        "x0": 1,
        "dx": 1,
        "y": list(values),
        "line": {"dash": "dash", "width": 1.3, "color": "#7a7f87"},
        "meta": "ink",
        "showlegend": first,
        "hovertemplate": "%{fullData.name}<br>severity %{x}: %{y:.1f} %<extra></extra>",
        **on_panel(place),
    }


def reliability_diagram(document: Document) -> Figure | None:
    """Return how often a modality was intact where a reliability was predicted; None without reliabilities."""
    data: list[Spec] = [
        {
            "type": "scatter",
            "mode": "lines",
            "name": "what it should be",
            "x": [0, 1],
            "y": [0, 1],
            "line": {"dash": "dash", "width": 1.3, "color": "#7a7f87"},
            "meta": "ink",
            "hoverinfo": "skip",
        }
    ]
    said = []
    for label, runs in by_label(document["runs"]).items():
        diagrams = [run["diagram"] for run in runs if run["diagram"] is not None]
        if not diagrams:
            continue
        joined = pooled(diagrams)
        most = max((count for _, _, count in joined), default=1) or 1
        data.append(
            line(
                label,
                x=[x for x, _, _ in joined],
                y=[y for _, y, _ in joined],
                text=[f"{count:,} cases" for _, _, count in joined],
                marker={
                    "color": colour_of(label),
                    "size": [5 + 13 * (count / most) ** 0.5 for _, _, count in joined],
                    "line": {"width": 0},
                },
                legendgroup=label_key(label),
                hovertemplate="%{fullData.name}<br>predicted %{x:.2f}, intact %{y:.2f}<br>%{text}<extra></extra>",
            )
        )
        error = mean(diagram["error"] for diagram in diagrams)
        if error is not None:
            said.append(f"{shown(label)}: mean distance {error:.3f}")
    if len(data) == 1:
        return None
    return Figure(
        id="reliability",
        title="Is a low reliability earned?",
        caption="Predicted reliability against the share of modalities that were intact; on the diagonal the number "
        "can be read as a probability, below it the calibrator trusts too much; larger marks are more cases.",
        alt=f"Reliability diagram. {'; '.join(said)}." if said else "Reliability diagram.",
        spec={
            "data": data,
            "layout": layout(
                400,
                x="predicted reliability",
                y="share that was intact",
                xaxis={"range": [-0.03, 1.06], "zeroline": False},
                yaxis={"range": [-0.03, 1.06], "zeroline": False},
            ),
        },
    )


def pooled(diagrams: Sequence[Document]) -> list[tuple[float, float, int]]:
    """Return (predicted, intact, count) of every bin that is not empty, seeds weighed by their counts."""
    found = []
    for place in range(min(len(one["count"]) for one in diagrams)):
        parts = [
            (one["predicted"][place], one["intact"][place], one["count"][place])
            for one in diagrams
            if one["count"][place] and one["predicted"][place] is not None and one["intact"][place] is not None
        ]
        count = sum(part[2] for part in parts)
        if count:
            predicted, intact = (sum(part[n] * part[2] for part in parts) / count for n in (0, 1))
            found.append((predicted, intact, count))
    return found

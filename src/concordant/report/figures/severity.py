"""Figures of corruption.json: score by severity, and whether a low reliability means a corrupted modality."""

from __future__ import annotations

from collections.abc import Sequence

from concordant.report.figures.base import Figure, Spec, band, layout, line, on_panel, over_seeds, panels, score_text
from concordant.report.figures.colours import colour_of
from concordant.report.format import Document, by_label, mean, metric_of, percent, plain, seeds_of, shown

GROUPS = {"time": "steps in time", "instances": "whole instances", "image": "images", "audio": "sound"}
# Without a colour of its own: the script gives "ink" the colour of text.
DASHED = {"type": "scatter", "mode": "lines", "line": {"dash": "dash", "width": 1.3, "color": "#7a7f87"}, "meta": "ink"}


def severity_curves(document: Document) -> Figure | None:
    """Return the score by severity, one panel per kind, with a select for the group of kinds; None without kinds."""
    kinds, metric = list(document["kinds"]), metric_of(document)
    if not kinds:
        return None
    groups = list(dict.fromkeys(kind["group"] for kind in kinds))
    several = groups if len(groups) > 1 else []
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
        specs=[
            _curves(document, [kind for kind in kinds if group in ("all", kind["group"])])
            for group in ("all", *several)
        ],
        choices={"kinds": ["all", *(GROUPS.get(group, group) for group in groups)]} if several else {},
    )


def _curves(document: Document, kinds: Sequence[Document]) -> Spec:
    data: list[Spec] = []
    named: set[str] = set()  # lines that are in the legend
    for place, kind in enumerate(kinds):
        name, panel = kind["name"], on_panel(place)
        levels = enumerate(kind["severities"], 1)
        ticks = ["clean", *(f"severity {level}: {value:g} {plain(kind['unit'])}" for level, value in levels)]
        for label, runs in by_label(document["runs"]).items():
            rows = [percent([run["clean"], *run["kinds"][name]["scores"]]) for run in runs if name in run["kinds"]]
            if not rows:
                continue
            middle, edges = over_seeds(rows)
            more = {"x0": 0, "dx": 1, **panel}
            hover = "%{fullData.name}<br>%{text}<br>%{y:.1f} %<extra></extra>"
            drawn = line(label, y=middle, text=ticks, hovertemplate=hover, **more, showlegend=label not in named)
            data += [*band(label, edges, **more), drawn]
            named.add(label)
        for label, runs in by_label(document["oracle"]).items():
            rows = [percent(run["kinds"][name]["scores"]) for run in runs if name in run["kinds"]]
            if rows:
                group = f"oracle {label}"
                named_as = {"name": plain(f"oracle of {shown(label)}"), "legendgroup": group}
                values = {"x0": 1, "dx": 1, "y": over_seeds(rows)[0], "showlegend": group not in named}
                hover = "%{fullData.name}<br>severity %{x}: %{y:.1f} %<extra></extra>"
                data.append({**DASHED, **named_as, **values, "hovertemplate": hover, **panel})
                named.add(group)
    titles = [f"{kind['name']}{' (seen)' if kind['seen'] else ''}" for kind in kinds]
    axis = {"range": [-0.15, 5.15], "dtick": 1, "tick0": 0, "zeroline": False}
    return {"data": data, "layout": panels(titles, xaxis=axis, yaxis={"nticks": 5, "zeroline": False, "matches": "y"})}


def reliability_diagram(document: Document) -> Figure | None:
    """Return the share of clean modalities by predicted reliability; None without reliabilities."""
    data: list[Spec] = [{**DASHED, "name": "calibrated", "x": [0, 1], "y": [0, 1], "hoverinfo": "skip"}]
    texts = []
    for label, runs in by_label(document["runs"]).items():
        diagrams = [run["diagram"] for run in runs if run["diagram"] is not None]
        if not diagrams:
            continue
        joined = pooled(diagrams)
        most = max((count for _, _, count in joined), default=1)
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
                hovertemplate="%{fullData.name}<br>predicted %{x:.2f}, clean %{y:.2f}<br>%{text}<extra></extra>",
            )
        )
        error = mean(diagram["error"] for diagram in diagrams)
        if error is not None:
            texts.append(f"{shown(label)}: mean distance {error:.3f}")
    if len(data) == 1:
        return None
    axis = {"range": [-0.03, 1.06], "zeroline": False}
    axes: Spec = {"x": "predicted reliability", "y": "share that was clean", "xaxis": axis, "yaxis": axis}
    return Figure(
        id="reliability",
        title="Does a low reliability mean a corrupted modality?",
        caption="Predicted reliability against the share of modalities that were clean; on the diagonal the number "
        "can be read as a probability, below it the reliability is too high; larger marks are more cases.",
        alt=f"Reliability diagram. {'; '.join(texts)}." if texts else "Reliability diagram.",
        specs=[{"data": data, "layout": layout(400, **axes)}],
    )


def pooled(diagrams: Sequence[Document]) -> list[tuple[float, float, int]]:
    """Return (predicted, clean, count) of every bin with cases, seeds weighted by their counts."""
    found = []
    bins = (zip(*(one[key] for one in diagrams), strict=False) for key in ("predicted", "intact", "count"))
    for one in zip(*bins, strict=False):
        known = [(p, c, n) for p, c, n in zip(*one, strict=True) if n and p is not None and c is not None]
        count = sum(n for _, _, n in known)
        if count:
            found.append((sum(p * n for p, _, n in known) / count, sum(c * n for _, c, n in known) / count, count))
    return found

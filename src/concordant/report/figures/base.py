"""A figure of the report: a plain-dict Plotly specification with title, caption and text alternative.

A specification has data and no theme: the page's script adds the colours of text, grid and background. `layout.meta`
tells the script the height of a figure, and how its panels flow into the width of the page.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from concordant.report.figures.colours import colour_of, dash_of, marker_of
from concordant.report.figures.compact import apart, compact
from concordant.report.format import mean, percent, plain, rounded, shown, std

Spec = dict[str, Any]
WIDTH = 960  # pixels for which panels are laid out before the script measures the page
TOP, BOTTOM, LEFT, RIGHT = 56, 44, 52, 12
GAP_X, GAP_Y = 56, 74
LEGEND = {
    "orientation": "h",
    "x": 0,
    "xanchor": "left",
    "yref": "container",
    "y": 1,
    "yanchor": "top",
    "tracegroupgap": 0,
}


@dataclass(frozen=True)
class Choice:
    """A select above a figure: its label, and the options, of which the first is shown at the start."""

    name: str
    options: tuple[str, ...]


@dataclass(frozen=True)
class Figure:
    """A figure.

    Args:
        id: its place in a block of the page; names the downloaded file.
        title: what it shows.
        caption: how to read it, in one sentence.
        alt: the text alternative.
        spec: the specification drawn first.
        choices: selects.
        variants: the places of the chosen options, joined by "-" -> the specification drawn then.
    """

    id: str
    title: str
    caption: str
    alt: str
    spec: Spec
    choices: tuple[Choice, ...] = ()
    variants: Mapping[str, Spec] = field(default_factory=dict)

    def embedded(self, identity: str) -> dict[str, Any]:
        """Return the data on the page, under the figure's id there: numbers rounded, repetitions left out."""
        specs = rounded(dict(self.variants) or {"": self.spec})
        parts = {key: {**one, "data": [apart(trace) for trace in one["data"]]} for key, one in specs.items()}
        return {"id": identity, **compact(parts)}


def layout(height: int, *, x: str = "", y: str = "", **more: Any) -> Spec:  # noqa: ANN401 - Plotly's own values
    """Return the layout of a figure with one pair of axes.

    Args:
        height: of the whole, in pixels.
        x: title of the horizontal axis.
        y: title of the vertical axis.
        more: further keys of Plotly's layout; "xaxis" and "yaxis" are added to the axes.
    """
    axes = {
        axis: {"title": {"text": title}, "automargin": True, **more.pop(axis, {})}
        for axis, title in (("xaxis", x), ("yaxis", y))
    }
    margin = {"t": TOP, "b": BOTTOM if x else BOTTOM // 2, "l": LEFT, "r": RIGHT}
    return {"meta": {"height": height}, "margin": margin, "legend": LEGEND, "hovermode": "closest", **axes, **more}


def forest(height: int, x: str, gap: float, **xaxis: Any) -> Spec:  # noqa: ANN401
    """Return the layout of horizontal marks by category, the first category at the top."""
    category = {"autorange": "reversed", "type": "category", "showgrid": False}
    return layout(height, x=x, scattermode="group", scattergap=gap, xaxis=xaxis, yaxis=category)


def panels(titles: Sequence[str], *, height: int = 190, columns: int = 3, **axes: Any) -> Spec:  # noqa: ANN401
    """Return the layout of small multiples: one pair of axes per title, row by row.

    Args:
        titles: of the panels; the script takes the first annotations for them.
        height: of a panel, in pixels.
        columns: at most; the script takes fewer on a narrow page.
        axes: "xaxis" and "yaxis", shared by all horizontal and all vertical axes.
    """
    count = len(titles)
    columns = min(columns, max(count, 1))
    rows = math.ceil(count / columns) or 1
    width, tall = WIDTH - LEFT - RIGHT, rows * height + (rows - 1) * GAP_Y
    each = (width - (columns - 1) * GAP_X) / columns
    found: Spec = {
        "meta": {"panels": count, "panel": height, "columns": columns, "height": tall + TOP + BOTTOM + 22},
        "margin": {"t": TOP + 22, "b": BOTTOM, "l": LEFT, "r": RIGHT},
        "legend": LEGEND,
        "hovermode": "closest",
        "annotations": [],
    }
    for place, title in enumerate(titles):
        row, column = divmod(place, columns)
        left, top = column * (each + GAP_X) / width, 1 - row * (height + GAP_Y) / tall
        number = "" if place == 0 else str(place + 1)
        across, up = [left, min(1.0, left + each / width)], [max(0.0, top - height / tall), top]
        found[f"xaxis{number}"] = {"domain": across, "anchor": f"y{number}", **axes.get("xaxis", {})}
        found[f"yaxis{number}"] = {"domain": up, "anchor": f"x{number}", **axes.get("yaxis", {})}
        corner = {"xref": "paper", "yref": "paper", "x": left, "y": top, "xanchor": "left", "yanchor": "bottom"}
        found["annotations"].append({"text": f"<b>{plain(title)}</b>", "showarrow": False, **corner})
    if titles:
        found["yaxis"].pop("matches", None)  # the others match this one
    return found


def on_panel(place: int) -> Spec:
    """Return the axes of a trace on a panel."""
    number = "" if place == 0 else str(place + 1)
    return {"xaxis": f"x{number}", "yaxis": f"y{number}"}


def line(label: str, **more: Any) -> Spec:  # noqa: ANN401
    """Return a method's line with its colour, dash and marker; the legend names each method once."""
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": plain(shown(label)),
        "legendgroup": label_key(label),
        "line": {"color": colour_of(label), "dash": dash_of(label), "width": 2.5 if label == "context" else 1.8},
        "marker": {"color": colour_of(label), "symbol": marker_of(label), "size": 6},
        **more,
    }


def bars(label: str, names: Sequence[str], values: Sequence[Sequence[float | None]], unit: str) -> Spec:
    """Return a method's bars: the mean over seeds per name, in percent, with the standard deviation as a line."""
    spread = percent(std(one) for one in values)
    error = {"type": "data", "array": [one or 0 for one in spread], "thickness": 1.2, "width": 2}
    return {
        "type": "bar",
        "name": plain(shown(label)),
        "legendgroup": label_key(label),
        "x": [plain(name) for name in names],
        "y": percent(mean(one) for one in values),
        "error_y": {**error, "visible": any(one is not None for one in spread)},
        "marker": {"color": colour_of(label)},
        "hovertemplate": f"%{{fullData.name}}<br>%{{x}}: %{{y:.1f}} {unit}<extra></extra>",
    }


def dots(label: str, names: Sequence[str], values: Sequence[float | None], error: Spec, **more: Any) -> Spec:  # noqa: ANN401
    """Return a method's marks by category with horizontal error lines."""
    return {
        "type": "scatter",
        "mode": "markers",
        "name": plain(shown(label)),
        "legendgroup": label_key(label),
        "orientation": "h",
        "x": list(values),
        "y": [plain(name) for name in names],
        "error_x": {"type": "data", "thickness": 1.3, "width": 0, "color": colour_of(label), **error},
        "marker": {"color": colour_of(label), "symbol": marker_of(label), "size": 9},
        **more,
    }


def band(
    label: str,
    low: Sequence[float | None],
    high: Sequence[float | None],
    x: Mapping[str, Any],
    **more: Any,  # noqa: ANN401
) -> list[Spec]:
    """Return the two traces of the band around a method's line.

    Args:
        label: the method.
        low: its lower edge.
        high: its upper edge.
        x: the places of the values: {"x": [...]} or {"x0": ..., "dx": ...}.
        more: further keys of the traces, such as the panel.
    """
    shared = {
        "type": "scatter",
        "mode": "lines",
        "line": {"width": 0, "color": colour_of(label)},
        "legendgroup": label_key(label),
        "showlegend": False,
        "hoverinfo": "skip",
        **x,
        **more,
    }
    return [
        {**shared, "y": rounded(list(low), 3)},
        {**shared, "y": rounded(list(high), 3), "fill": "tonexty", "fillcolor": faint(colour_of(label))},
    ]


def edges(
    middle: Sequence[float | None], spread: Sequence[float | None]
) -> tuple[list[float | None], list[float | None]] | None:
    """Return mean - std and mean + std; None for a single seed, which has no spread."""
    if all(one is None for one in spread):
        return None
    low, high = (
        [None if m is None else m + sign * (s or 0.0) for m, s in zip(middle, spread, strict=True)] for sign in (-1, 1)
    )
    return low, high


def faint(colour: str) -> str:
    """Return a translucent colour.

    >>> faint("#1b7f5c")
    'rgba(27,127,92,0.16)'
    """
    return f"rgba({int(colour[1:3], 16)},{int(colour[3:5], 16)},{int(colour[5:7], 16)},0.16)"


def label_key(label: str) -> str:
    """Return the name of a method's group in the legend."""
    return f"method {label}"


def score_text(value: float | None) -> str:
    """Return a share in percent as text.

    >>> score_text(0.8139), score_text(None)
    ('81.4 %', 'unknown')
    """
    return "unknown" if value is None else f"{100 * value:.1f} %"

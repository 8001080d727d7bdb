"""A figure of the report: plain-dict Plotly specifications with title, caption and text alternative.

A specification has data and no theme: the page's script adds the colours of text, grid and background. `layout.meta`
gives the script the height of a figure, and the way in which its panels flow into the width of the page.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from concordant.report.figures.colours import colour_of, dash_of, marker_of
from concordant.report.figures.compact import apart, compact
from concordant.report.format import by_column, mean, percent, plain, rounded, shown, std

Spec = dict[str, Any]
Values = list[float | None]
Edges = tuple[Values, Values]
WIDTH = 960  # pixels for which panels are laid out before the script measures the page
TOP, BOTTOM, LEFT, RIGHT = 56, 44, 52, 12
GAP_X, GAP_Y = 56, 74
_PLACE = {"x": 0, "xanchor": "left", "yref": "container", "y": 1, "yanchor": "top"}
LEGEND = {"orientation": "h", **_PLACE, "tracegroupgap": 0}


@dataclass(frozen=True)
class Figure:
    """A figure.

    Args:
        id: its place in a block of the page; names the downloaded file.
        title: what it shows.
        caption: how to read it, in one sentence.
        alt: the text alternative.
        specs: one specification per combination of options, the last choice changing fastest; the first is drawn first.
        choices: label of a select above the figure -> its options.
    """

    id: str
    title: str
    caption: str
    alt: str
    specs: Sequence[Spec]
    choices: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def embedded(self, identity: str) -> dict[str, Any]:
        """Return the data on the page, under the figure's id there: numbers rounded, repetitions left out."""
        keys = ("-".join(map(str, one)) for one in product(*(range(len(options)) for options in self.choices.values())))
        specs = [{**one, "data": [apart(trace) for trace in one["data"]]} for one in rounded(self.specs)]
        return {"id": identity, **compact(dict(zip(keys, specs, strict=True)))}


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


def panels(titles: Sequence[str], *, height: int = 190, most: int = 3, **axes: Any) -> Spec:  # noqa: ANN401
    """Return the layout of small multiples: one pair of axes per title, row by row.

    Args:
        titles: of the panels; the script takes the first annotations for them.
        height: of a panel, in pixels.
        most: columns; the script takes fewer on a narrow page.
        axes: "xaxis" and "yaxis", shared by all horizontal and all vertical axes.
    """
    count = len(titles)
    columns = min(most, max(count, 1))
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
        across, up = [left, min(1.0, left + each / width)], [max(0.0, top - height / tall), top]
        x, y = on_panel(place).values()
        found[f"xaxis{x[1:]}"] = {"domain": across, "anchor": y, **axes.get("xaxis", {})}
        found[f"yaxis{y[1:]}"] = {"domain": up, "anchor": x, **axes.get("yaxis", {})}
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
        **_named(label),
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
        **_named(label),
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
        **_named(label),
        "orientation": "h",
        "x": list(values),
        "y": [plain(name) for name in names],
        "error_x": {"type": "data", "thickness": 1.3, "width": 0, "color": colour_of(label), **error},
        "marker": {"color": colour_of(label), "symbol": marker_of(label), "size": 9},
        **more,
    }


def band(label: str, edges: Edges | None, **more: Any) -> list[Spec]:  # noqa: ANN401
    """Return the two traces of the band around a method's line; none without edges.

    Args:
        label: the method.
        edges: the lower and the upper edge.
        more: the places of the values, {"x": [...]} or {"x0": ..., "dx": ...}, and further keys such as the panel.
    """
    if edges is None:
        return []
    colour = colour_of(label)
    unseen = {"legendgroup": f"method {label}", "showlegend": False, "hoverinfo": "skip"}
    shared = {"type": "scatter", "mode": "lines", "line": {"width": 0, "color": colour}, **unseen, **more}
    low, high = ({**shared, "y": rounded(list(edge), 3)} for edge in edges)
    return [low, {**high, "fill": "tonexty", "fillcolor": faint(colour)}]


def over_seeds(rows: Sequence[Sequence[float | None]]) -> tuple[Values, Edges | None]:
    """Return the mean of every column, and the edges of the band one standard deviation around it; rows are seeds."""
    middle = by_column(mean, rows)
    return middle, edges(middle, by_column(std, rows))


def edges(middle: Sequence[float | None], spread: Sequence[float | None]) -> Edges | None:
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


def score_text(value: float | None) -> str:
    """Return a share in percent as text.

    >>> score_text(0.8139), score_text(None)
    ('81.4 %', 'unknown')
    """
    return "unknown" if value is None else f"{100 * value:.1f} %"


def _named(label: str) -> Spec:
    """Return a method's name, and its group in the legend."""
    return {"name": plain(shown(label)), "legendgroup": f"method {label}"}

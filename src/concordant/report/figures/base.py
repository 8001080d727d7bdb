"""A figure of the report: plain-dict Plotly specifications, with a title, a caption and a text alternative.

A spec carries data, not a theme: the page's script adds the colours of text, grid and ground. `layout.meta`
tells the script how high a figure is and how its panels flow into the width that there is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from concordant.report.figures.colours import colour_of, dash_of, marker_of
from concordant.report.figures.compact import apart, compact
from concordant.report.format import plain, rounded, shown

Spec = dict[str, Any]
WIDTH = 960  # pixels for which panels are laid out before the script knows better
TOP, BOTTOM, LEFT, RIGHT = 56, 44, 52, 12
GAP_X, GAP_Y = 56, 74


@dataclass(frozen=True)
class Choice:
    """A select above a figure.

    Args:
        name: its label.
        options: what can be chosen; the first is shown at the start.
    """

    name: str
    options: tuple[str, ...]


@dataclass(frozen=True)
class Figure:
    """A figure.

    Args:
        id: its place in a block of the page; it names the downloaded file.
        title: what it shows.
        caption: one sentence on how to read it.
        alt: the same in words, for who does not see it.
        spec: what is drawn first.
        choices: selects.
        variants: the chosen options' places joined by "-" -> the spec that is drawn then.
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
        more: what else Plotly's layout takes; "xaxis" and "yaxis" are added to the axes.
    """
    axes = {
        "xaxis": {"title": {"text": x}, "automargin": True, **more.pop("xaxis", {})},
        "yaxis": {"title": {"text": y}, "automargin": True, **more.pop("yaxis", {})},
    }
    margin = {"t": TOP, "b": BOTTOM if x else BOTTOM // 2, "l": LEFT, "r": RIGHT}
    return {"meta": {"height": height}, "margin": margin, "legend": legend(), "hovermode": "closest", **axes, **more}


def legend() -> Spec:
    """Return the place of a legend: a line or two at the top."""
    return {
        "orientation": "h",
        "x": 0,
        "xanchor": "left",
        "yref": "container",
        "y": 1,
        "yanchor": "top",
        "tracegroupgap": 0,
    }


def panels(titles: Sequence[str], *, height: int = 190, columns: int = 3, **axes: Any) -> Spec:  # noqa: ANN401
    """Return the layout of small multiples: one pair of axes a title, row by row.

    Args:
        titles: of the panels; the script takes the first annotations for them.
        height: of a panel, in pixels.
        columns: at the most; the script takes fewer on a narrow page.
        axes: "xaxis" and "yaxis", what all horizontal and all vertical axes share.
    """
    count = len(titles)
    columns = min(columns, max(count, 1))
    rows = math.ceil(count / columns) or 1
    width, tall = WIDTH - LEFT - RIGHT, rows * height + (rows - 1) * GAP_Y
    each = (width - (columns - 1) * GAP_X) / columns
    found: Spec = {
        "meta": {"panels": count, "panel": height, "columns": columns, "height": tall + TOP + BOTTOM + 22},
        "margin": {"t": TOP + 22, "b": BOTTOM, "l": LEFT, "r": RIGHT},
        "legend": legend(),
        "hovermode": "closest",
        "annotations": [],
    }
    for place, title in enumerate(titles):
        row, column = divmod(place, columns)
        left, top = column * (each + GAP_X) / width, 1 - row * (height + GAP_Y) / tall
        number = "" if place == 0 else str(place + 1)
        found[f"xaxis{number}"] = {
            "domain": [left, min(1.0, left + each / width)],
            "anchor": f"y{number}",
            **axes.get("xaxis", {}),
        }
        found[f"yaxis{number}"] = {
            "domain": [max(0.0, top - height / tall), top],
            "anchor": f"x{number}",
            **axes.get("yaxis", {}),
        }
        if not number:
            found["yaxis"].pop("matches", None)  # the others match this one
        found["annotations"].append(
            {
                "text": f"<b>{plain(title)}</b>",
                "xref": "paper",
                "yref": "paper",
                "x": left,
                "y": top,
                "xanchor": "left",
                "yanchor": "bottom",
                "showarrow": False,
            }
        )
    return found


def on_panel(place: int) -> Spec:
    """Return the axes of a trace on a panel."""
    number = "" if place == 0 else str(place + 1)
    return {"xaxis": f"x{number}", "yaxis": f"y{number}"}


def line(label: str, **more: Any) -> Spec:  # noqa: ANN401
    """Return a trace of a method's line with its colour, dash and marker; the legend names each method once."""
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": plain(shown(label)),
        "legendgroup": label_key(label),
        "line": {"color": colour_of(label), "dash": dash_of(label), "width": 2.5 if label == "context" else 1.8},
        "marker": {"color": colour_of(label), "symbol": marker_of(label), "size": 6},
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
        x: where the values stand: {"x": [...]} or {"x0": ..., "dx": ...}.
        more: as Plotly takes it, the panel for one.
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
    """Return mean - std and mean + std; None where there is no spread, with one seed."""
    if all(one is None for one in spread):
        return None
    low, high = (
        [None if m is None else m + sign * (s or 0.0) for m, s in zip(middle, spread, strict=True)] for sign in (-1, 1)
    )
    return low, high


def faint(colour: str) -> str:
    """Return a colour that shows the ground through.

    >>> faint("#1b7f5c")
    'rgba(27,127,92,0.16)'
    """
    return f"rgba({int(colour[1:3], 16)},{int(colour[3:5], 16)},{int(colour[5:7], 16)},0.16)"


def label_key(label: str) -> str:
    """Return the name of a method's group in the legend."""
    return f"method {label}"


def score_text(value: float | None) -> str:
    """Return a share in percent, as one reads it.

    >>> score_text(0.8139), score_text(None)
    ('81.4 %', 'unknown')
    """
    return "unknown" if value is None else f"{100 * value:.1f} %"

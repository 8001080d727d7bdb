"""A figure of the report: panels of marks on a pair of axes, as plain dictionaries that the page's script draws.

A specification is {"panels", "columns", "least", "height", "x", "y", "legend"}: panels flow into as many columns, of at
least so many pixels, as the page has room for. A panel is {"title", "marks"}, a mark is of one kind "k":

- "line": values "y" at "x", or from "from" by "by"; a band from "low" to "high"; with "dots", symbols of "size".
- "dots": values "x" in the rows "y", with an interval from "low" to "high"; "open" symbols are not filled.
- "cloud": places "x", "y" of the figure's `points`.
- "heat": values "z" of "rows" and "columns", coloured from "low" to "high" on a "scale".
- "diagonal": the line of equal values.

"s" is the place of a mark's series in the figure, "text" what pointing at it shows. An axis has a "label" and may be
"log", "percent", "hidden", from "zero", of a "score" (the script says where such an axis does not start at zero), have
a "range", or be of "names", one row each; "own" axes differ from panel to panel.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from concordant.report.figures.colours import colour_of, dash_of, marker_of
from concordant.report.format import by_column, mean, percent, rounded, shown, std

LEAST = 230  # pixels of a panel
Spec = dict[str, Any]
Values = list[float | None]
Edges = tuple[Values, Values]


@dataclass(frozen=True)
class Figure:
    """A figure.

    Args:
        id: its place in a block of the page; names the downloaded file.
        title: what it shows.
        caption: how to read it, in one sentence.
        alt: the text alternative.
        series: name and look of what marks belong to, in the order of the legend.
        specs: one specification per combination of options, the last choice changing fastest; the first is drawn first.
        choices: label of a select above the figure -> its options.
        points: "of", the series, and "text" of each point of a cloud.
    """

    id: str
    title: str
    caption: str
    alt: str
    series: Sequence[Spec]
    specs: Sequence[Spec]
    choices: Mapping[str, Sequence[str]] = field(default_factory=dict)
    points: Spec = field(default_factory=dict)

    def embedded(self, identity: str) -> dict[str, Any]:
        """Return the data on the page, under the figure's id there, with numbers rounded."""
        keys = ("-".join(map(str, one)) for one in product(*(range(len(options)) for options in self.choices.values())))
        specs = dict(zip(keys, rounded(self.specs), strict=True))
        return {"id": identity, "series": self.series, "points": self.points, "specs": specs}


def methods(labels: Iterable[str]) -> list[Spec]:
    """Return the series of methods, each with its colour, dash and symbol."""
    return [
        {
            "name": shown(label),
            "color": colour_of(label),
            "dash": dash_of(label),
            "symbol": marker_of(label),
            "width": 2.6 if label == "context" else 1.8,
        }
        for label in labels
    ]


def spec(panels: Sequence[Spec], *, height: int, x: Spec, y: Spec, columns: int = 3, **more: Any) -> Spec:  # noqa: ANN401
    """Return a specification of panels with the axes `x` and `y`, each `height` pixels high, in `columns` at most.

    `more`: "least", the width of a panel in pixels; "legend", False for none.
    """
    return {"panels": panels, "height": height, "x": x, "y": y, "columns": columns, "least": LEAST, **more}


def rows(panels: Mapping[str, Sequence[Spec | None]], names: Sequence[str], x: Spec, *, columns: int = 3) -> Spec:
    """Return small multiples of one row per name: a symbol and its interval on a horizontal axis.

    Args:
        panels: title -> per name "x", "low", "high", "open" and "text"; None where a row is empty.
        names: of the rows, which are the figure's series.
        x: the horizontal axis.
        columns: at most.
    """
    found = []
    for title, given in panels.items():
        there = [(place, one) for place, one in enumerate(given) if one is not None]
        mark: Spec = {"k": "dots", "s": [place for place, _ in there], "y": [place for place, _ in there]}
        keys = ("x", "low", "high", "open", "text")
        found.append({"title": title, "marks": [{**mark, **{key: [one.get(key) for _, one in there] for key in keys}}]})
    return spec(found, height=12 + 21 * len(names), x=x, y={"names": list(names)}, columns=columns, legend=False)


def over_seeds(values: Sequence[float | None], unit: str) -> Spec | None:
    """Return the entry of `rows` of shares, one per seed: their mean in percent, one standard deviation around it."""
    middle, spread = mean(percent(values)), std(percent(values))
    if middle is None:
        return None
    if spread is None:
        return {"x": middle, "text": f"{middle:.1f} {unit}"}
    return {"x": middle, "low": middle - spread, "high": middle + spread, "text": f"{middle:.1f} ± {spread:.1f} {unit}"}


def line(series: int, values: Sequence[Sequence[float | None]], **more: Any) -> Spec:  # noqa: ANN401
    """Return a line through the means over seeds, with a band of one standard deviation.

    Args:
        series: its place in the figure.
        values: rows are seeds.
        more: the places of the values, {"x": [...]} or {"from": ..., "by": ...}, "text", "dots".
    """
    middle = by_column(mean, values)
    return {"k": "line", "s": series, "y": middle, **band(edges(middle, by_column(std, values))), **more}


def band(found: Edges | None) -> Spec:
    """Return "low" and "high" of a line; nothing without edges."""
    return {} if found is None else dict(zip(("low", "high"), found, strict=True))


def edges(middle: Sequence[float | None], spread: Sequence[float | None]) -> Edges | None:
    """Return mean - std and mean + std; None for a single seed, which has no spread."""
    if all(one is None for one in spread):
        return None
    low, high = (
        [None if m is None else m + sign * (s or 0.0) for m, s in zip(middle, spread, strict=True)] for sign in (-1, 1)
    )
    return low, high


def score_text(value: float | None) -> str:
    """Return a share in percent as text.

    >>> score_text(0.8139), score_text(None)
    ('81.4 %', 'unknown')
    """
    return "unknown" if value is None else f"{100 * value:.1f} %"

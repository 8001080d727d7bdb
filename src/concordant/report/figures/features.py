"""Figures of features.json: maps of the features before and after calibration, gates, support and conflict.

Axis letters: C classes, D features, M modalities, K kinds of corruption.
"""

from __future__ import annotations

from collections.abc import Sequence

from concordant.report.figures.base import Figure, Spec, layout, on_panel, panels
from concordant.report.format import Document, listed, plain, plural

# Okabe and Ito's colours, darkened where they are too light for a white ground.
CLASSES = ("#0072b2", "#c9562f", "#1b8a66", "#b0579d", "#b8861a", "#3f9fd4", "#7a7f87", "#7d6bd0")
SYMBOLS = ("circle", "square", "diamond", "cross", "triangle-up", "x", "star", "triangle-down")
PROJECTIONS = {"pca": "PCA", "tsne": "t-SNE"}
DIVERGING = [[0, "#2166ac"], [0.25, "#92c5de"], [0.5, "#f7f7f7"], [0.75, "#f4a582"], [1, "#b2182b"]]
SEQUENTIAL = [[0, "#f4f1ea"], [0.25, "#bcd7cc"], [0.5, "#6fae97"], [0.75, "#2f8266"], [1, "#0c4a35"]]


def feature_map(document: Document) -> Figure | None:
    """Return the features of every instance in two dimensions, before and after; None without a map."""
    points, maps = document["points"], document["points"]["maps"]
    modalities = [name for name in document["modalities"] if set(PROJECTIONS) & set(maps.get(name, {}))]
    projections = [one for one in PROJECTIONS if modalities and all(one in maps[name] for name in modalities)]
    if not projections:
        return None
    classes = len(set(points["label"]))
    texts = [hover_text(document, place) for place in range(len(points["id"]))]
    hidden = {"showticklabels": False, "showgrid": False, "zeroline": False, "ticks": ""}
    shared = {
        **panels(["before calibration", "after calibration"], height=400, most=2, xaxis=hidden, yaxis=hidden),
        "dragmode": "zoom",
        "showlegend": classes <= 12,
    }
    specs = []
    for found in (maps[modality][projection] for modality in modalities for projection in projections):
        sides = [_points(document, side, texts, on_grid(found[name])) for side, name in enumerate(("before", "after"))]
        specs.append({"data": [*sides[0], *sides[1]], "layout": shared})
    return Figure(
        id="map",
        title="Features before and after calibration",
        caption="Each mark is a test instance, coloured by its class; point at one to read its id, its class, a "
        "wrong prediction, and the reliability of each modality. Distances in a t-SNE map mean little beyond "
        "the nearest neighbours.",
        alt=f"Two scatter plots, before and after calibration, of {plural(len(points['id']), 'instance')} in "
        f"{classes} classes.",
        specs=specs,
        choices={"modality": modalities, "projection": [PROJECTIONS[name] for name in projections]},
    )


def hover_text(document: Document, place: int) -> str:
    """Return the text of an instance's mark: its id, a wrong prediction, and the reliability of each modality."""
    points = document["points"]
    label, prediction = points["label"][place], points["prediction"][place]
    notes = [f"taken for {plain(_class(document, prediction))}"] if prediction != label else []
    for name, values in points["reliability"].items():
        if place < len(values) and values[place] is not None:
            notes.append(f"{plain(name)} {values[place]:.2f}")
    return "<br>".join([plain(points["id"][place]), *([", ".join(notes)] if notes else [])])


def gate_maps(document: Document) -> Figure | None:
    """Return the mean gate of every feature by class and by corruption, with a select for each; None without gates."""
    gates = document["gates"]
    modalities = [name for name in document["modalities"] if gates["by_class"].get(name)]
    if not modalities:
        return None
    kinds = gates["by_corruption"]["kinds"]
    options = ["class", *(["corruption"] if kinds else [])]
    specs = []
    for modality in modalities:
        by_class = dict(zip(document["classes"], gates["by_class"][modality], strict=True))
        shown = {name: row for name, row in by_class.items() if row is not None}  # of classes with instances
        specs.append(_gates(list(shown.values()), list(shown)))
        if kinds:
            specs.append(_gates(gates["by_corruption"]["values"].get(modality, []), kinds))
    return Figure(
        id="gates",
        title="Gates: which features are raised and lowered",
        caption="The mean gate of each feature: white (1) leaves it unchanged, red raises it, blue lowers it; a row "
        "that differs from the others is a class, or a corruption, with a modulation of its own.",
        alt=f"Heat maps of the mean gate of each feature of {listed(modalities)}, by {listed(options)}.",
        specs=specs,
        choices={"modality": modalities, "rows": [f"by {one}" for one in options]},
    )


def agreement_maps(document: Document) -> Figure | None:
    """Return the mean support and conflict between modalities, with a select for the condition."""
    found = document["agreement"]
    if not found:
        return None
    return Figure(
        id="agreement",
        title="Support and conflict between modalities",
        caption="How much two modalities agree (support) and contradict each other (conflict), in the mean over test "
        "instances; darker is more, on one scale for all conditions; compare clean with corrupted.",
        alt=f"Matrices of support and conflict between {listed(document['modalities'])} under "
        f"{plural(len(found), 'condition')}.",
        specs=[_agreement(document, one) for one in found],
        choices={"condition": [one["condition"] for one in found]},
    )


def _class(document: Document, number: int) -> str:
    classes = document["classes"]
    return str(classes[number]) if 0 <= number < len(classes) else str(number)


def on_grid(places: Sequence[Sequence[float] | None], size: int = 1000) -> list[tuple[int, ...] | None]:
    """Return places as whole numbers from 0 to `size`, which are short; a map has no unit.

    >>> on_grid([[0.0, 5.0], None, [2.0, 5.0], [1.0, 6.0]], 10)
    [(0, 0), None, (10, 0), (5, 10)]
    """
    axes = [*zip(*(place for place in places if place is not None), strict=True)]
    ends = [(min(axis), max(axis) - min(axis) or 1.0) for axis in axes]

    def moved(place: Sequence[float]) -> tuple[int, ...]:
        return tuple(round(size * (value - low) / reach) for value, (low, reach) in zip(place, ends, strict=True))

    return [None if place is None else moved(place) for place in places]


def _points(
    document: Document, side: int, texts: Sequence[str], places: Sequence[tuple[int, ...] | None]
) -> list[Spec]:
    """Return the marks of each class before (side 0) or after calibration (side 1)."""
    labels = document["points"]["label"]
    traces = []
    for number, one in enumerate(sorted(set(labels))):
        marks = [(text, at) for label, text, at in zip(labels, texts, places, strict=False) if label == one]
        x, y = ([None if at is None else at[axis] for _, at in marks] for axis in (0, 1))
        symbol = SYMBOLS[(number + number // len(CLASSES)) % len(SYMBOLS)]
        look = {"color": CLASSES[number % len(CLASSES)], "symbol": symbol, "size": 7, "opacity": 0.8}
        trace = {
            "type": "scatter",
            "mode": "markers",
            "name": plain(_class(document, one)),
            "legendgroup": f"class {one}",
            "showlegend": side == 0,
            "x": x,
            "y": y,
            "text": [text for text, _ in marks],
            "hovertemplate": "%{text}<extra>%{fullData.name}</extra>",
            "marker": look,
            **on_panel(side),
        }
        traces.append(trace)
    return traces


def _gates(rows: Sequence[Sequence[float | None]], names: Sequence[str]) -> Spec:
    values = [[None if one is None else round(one, 3) for one in row] for row in rows]
    known = [one for row in values for one in row if one is not None]
    reach = max([0.1, *(abs(one - 1) for one in known)])
    trace = {
        "type": "heatmap",
        "z": values,
        "y": [plain(name) for name in names[: len(values)]],
        "zmin": 1 - reach,
        "zmax": 1 + reach,
        "colorscale": DIVERGING,
        "colorbar": {"title": {"text": "gate"}, "thickness": 12, "len": 1, "outlinewidth": 0, "nticks": 5},
        "hovertemplate": "%{y}, feature %{x}: %{z:.3f}<extra></extra>",
    }
    high = min(34, max(16, 360 // max(len(values), 1)))
    height = 110 + len(values) * high
    axis = {"autorange": "reversed", "type": "category", "showgrid": False}
    return {"data": [trace], "layout": layout(height, x="feature", xaxis={"showgrid": False}, yaxis=axis)}


def _agreement(document: Document, one: Document) -> Spec:
    names = [plain(name) for name in document["modalities"]]
    axis = {"type": "category", "showgrid": False, "zeroline": False}
    upwards = {**axis, "autorange": "reversed", "automargin": True}
    look = {"colorscale": SEQUENTIAL, "showscale": False, "xgap": 2, "ygap": 2, "texttemplate": "%{z:.2f}"}
    data = []
    for place, quantity in enumerate(("support", "conflict")):
        every = (value for other in document["agreement"] for row in other[quantity] for value in row)
        trace = {
            "type": "heatmap",
            "x": names,
            "y": names,
            "z": one[quantity],
            "zmin": 0,
            "zmax": max([1e-6, *(value for value in every if value is not None)]),
            **look,
            "hovertemplate": f"{quantity} of %{{y}} and %{{x}}: %{{z:.3f}}<extra></extra>",
            **on_panel(place),
        }
        data.append(trace)
    return {"data": data, "layout": panels(["support", "conflict"], height=250, most=2, xaxis=axis, yaxis=upwards)}

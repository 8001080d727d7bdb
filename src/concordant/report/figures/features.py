"""Figures of features.json: maps of the features before and after calibration, gates, support and conflict.

Axis letters: C classes, D features, M modalities, K kinds of corruption.
"""

from __future__ import annotations

from collections.abc import Sequence

from concordant.report.figures.base import Figure, Spec, spec
from concordant.report.figures.colours import CLASSES, MARKERS
from concordant.report.format import Document, listed, plural

PROJECTIONS = {"pca": "PCA", "tsne": "t-SNE"}


def feature_map(document: Document) -> Figure | None:
    """Return the features of every instance in two dimensions, before and after; None without a map."""
    points, maps = document["points"], document["points"]["maps"]
    modalities = [name for name in document["modalities"] if set(PROJECTIONS) & set(maps.get(name, {}))]
    projections = [one for one in PROJECTIONS if modalities and all(one in maps[name] for name in modalities)]
    if not projections:
        return None
    classes = sorted(set(points["label"]))
    texts = [hover_text(document, place) for place in range(len(points["id"]))]
    hidden = {"hidden": True}
    specs = []
    for found in (maps[modality][projection] for modality in modalities for projection in projections):
        panels = []
        for name in ("before", "after"):
            places = on_grid(found[name])
            x, y = ([None if at is None else at[axis] for at in places] for axis in (0, 1))
            panels.append({"title": f"{name} calibration", "marks": [{"k": "cloud", "x": x, "y": y}]})
        specs.append(spec(panels, height=380, x=hidden, y=hidden, columns=2, legend=len(classes) <= 12))
    return Figure(
        id="map",
        title="Features before and after calibration",
        caption="Each mark is a test instance, coloured by its class; point at one to read its id, its class, a "
        "wrong prediction, and the reliability of each modality. Distances in a t-SNE map mean little beyond "
        "the nearest neighbours.",
        alt=f"Two scatter plots, before and after calibration, of {plural(len(points['id']), 'instance')} in "
        f"{len(classes)} classes.",
        series=[_class_series(document, place, label) for place, label in enumerate(classes)],
        specs=specs,
        choices={"modality": modalities, "projection": [PROJECTIONS[name] for name in projections]},
        points={"of": [classes.index(label) for label in points["label"]], "text": texts},
    )


def hover_text(document: Document, place: int) -> str:
    """Return the text of an instance's mark: its id, a wrong prediction, and the reliability of each modality."""
    points = document["points"]
    label, prediction = points["label"][place], points["prediction"][place]
    notes = [f"taken for {_class(document, prediction)}"] if prediction != label else []
    for name, values in points["reliability"].items():
        if place < len(values) and values[place] is not None:
            notes.append(f"{name} {values[place]:.2f}")
    return "\n".join([points["id"][place], *([", ".join(notes)] if notes else [])])


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
        series=[],
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
        series=[],
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


def _class_series(document: Document, place: int, label: int) -> Spec:
    """Return name and look of a class: of ten classes each has a colour and a symbol of its own."""
    count = len(CLASSES)
    look = {"color": CLASSES[place % count], "symbol": MARKERS[(place + place // count) % len(MARKERS)]}
    return {"name": _class(document, label), "dash": "", "width": 1, **look}


def _gates(rows: Sequence[Sequence[float | None]], names: Sequence[str]) -> Spec:
    values = [[None if one is None else round(one, 3) for one in row] for row in rows]
    reach = max([0.1, *(abs(one - 1) for row in values for one in row if one is not None)])
    mark = {"k": "heat", "z": values, "rows": list(names[: len(values)]), "low": 1 - reach, "high": 1 + reach}
    high = min(34, max(16, 360 // max(len(values), 1)))
    x, y = {"label": "feature"}, {"label": "mean gate", "names": mark["rows"]}
    panel = {"title": "", "marks": [{**mark, "scale": "diverging"}]}
    return spec([panel], height=len(values) * high, x=x, y=y, columns=1, legend=False)


def _agreement(document: Document, one: Document) -> Spec:
    names = list(document["modalities"])
    panels = []
    for quantity in ("support", "conflict"):
        every = (value for other in document["agreement"] for row in other[quantity] for value in row)
        most = max([1e-6, *(value for value in every if value is not None)])
        mark = {"k": "heat", "z": one[quantity], "rows": names, "columns": names, "low": 0, "high": most}
        panels.append({"title": quantity, "marks": [{**mark, "scale": "sequential", "write": True}]})
    return spec(panels, height=40 * len(names) + 20, x={}, y={"names": names}, columns=2, legend=False)

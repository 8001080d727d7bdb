"""Figures of dynamics.json: the recorded quantities of training, one at a time.

A quantity of modalities has one panel per modality. Long series are thinned to the means of equal stretches.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from concordant.report.figures.base import Choice, Figure, Spec, band, edges, line, on_panel, panels
from concordant.report.format import Document, by_label, columns_mean, columns_std, listed, mean

MOST = 40  # points of a line
NAMES = {
    "loss": "loss in training",
    "validation_loss": "loss on validation data",
    "validation_score": "score on validation data",
    "gradient_norm": "norm of the gradient, by modality",
    "conflict": "cosine of two modalities' gradients",
    "update_ratio": "size of an update, as a share of the weights",
    "probe": "accuracy of a linear probe on the encoder",
    "reliability": "reliability (median, 10 to 90 %)",
    "gate": "gate (median, 10 to 90 %)",
}
LOGARITHMIC = ("gradient_norm", "update_ratio")
Series = tuple[list[int], list[float | None]]
Drawn = tuple[list[int], list[float | None], tuple[list[float | None], list[float | None]] | None]


def training_lines(document: Document) -> Figure | None:
    """Return the lines of every quantity, with a select for the quantity; None where nothing was recorded."""
    found = quantities(document)
    if not found:
        return None
    variants = {str(place): _spec(document, name, subjects) for place, (name, subjects) in enumerate(found.items())}
    names = [NAMES.get(name, name) for name in found]
    return Figure(
        id="dynamics",
        title="What happened while training",
        caption="Choose a quantity; lines are means over seeds by optimiser step, bands one standard deviation over "
        "seeds (for reliability and gates, the middle 80 % of instances). A seed that stops early counts until then; "
        "long series are means of short stretches.",
        alt=f"Line charts by optimiser step of {listed(names)}.",
        spec=variants["0"],
        choices=(Choice("quantity", tuple(names)),),
        variants=variants,
    )


def quantities(document: Document) -> dict[str, list[str]]:
    """Return quantity -> its subjects, such as modalities; the quantiles of one quantity count as one."""
    found: dict[str, list[str]] = {}
    for run in document["runs"]:
        for series in run["series"]:
            of = found.setdefault(_base(series["quantity"]), [])
            if series["of"] not in of:
                of.append(series["of"])
    order = [*(name for name in NAMES if name in found), *(name for name in found if name not in NAMES)]
    return {name: found[name] for name in order}


def thinned(steps: Sequence[int], values: Sequence[float | None], most: int = MOST) -> Series:
    """Return a series of at most `most` points: means of equal stretches, each at its last step."""
    if len(steps) <= most:
        return list(steps), list(values)
    ends = [(number + 1) * len(steps) // most for number in range(most)]
    starts = [0, *ends[:-1]]
    return [steps[end - 1] for end in ends], [mean(values[a:b]) for a, b in zip(starts, ends, strict=True)]


def where(steps: Sequence[int]) -> Spec:
    """Return steps for Plotly: start and distance if they are even, which is shorter.

    >>> where([10, 20, 30]), where([1, 2, 4])
    ({'x0': 10, 'dx': 10}, {'x': [1, 2, 4]})
    """
    gaps = {b - a for a, b in pairwise(steps)}
    return {"x0": steps[0], "dx": gaps.pop()} if len(gaps) == 1 else {"x": list(steps)}


def _base(quantity: str) -> str:
    stem, found, quantile = quantity.rpartition("_q")
    return stem if found and quantile.isdigit() else quantity


def _spec(document: Document, name: str, subjects: Sequence[str]) -> Spec:
    data: list[Spec] = []
    known: set[str] = set()
    for place, of in enumerate(subjects):
        for label, runs in by_label(document["runs"]).items():
            drawn = _quantiles(runs, name, of) or _means(runs, name, of)
            if drawn is None:
                continue
            steps, middle, around = drawn
            if around is not None:
                data += band(label, *around, where(steps), **on_panel(place))
            data.append(
                line(
                    label,
                    **where(steps),
                    y=middle,
                    mode="lines",
                    showlegend=label not in known,
                    hovertemplate="%{fullData.name}<br>step %{x}: %{y:.4g}<extra></extra>",
                    **on_panel(place),
                )
            )
            known.add(label)
    titles = [of.replace("|", " and ") or NAMES.get(name, name) for of in subjects]
    axis = (
        {"type": "log", "nticks": 5, "exponentformat": "power"}
        if name in LOGARITHMIC
        else {"nticks": 5, "zeroline": False}
    )
    columns = 1 if len(titles) == 1 else 2 if len(titles) in (2, 4) else 3
    height = 300 if len(titles) == 1 else 220
    spread = {"nticks": 6, "zeroline": False}
    return {"data": data, "layout": panels(titles, height=height, columns=columns, xaxis=spread, yaxis=axis)}


def aligned(found: Sequence[Series]) -> tuple[list[int], list[list[float | None]]]:
    """Return all steps, and one row of values per series; None where a series has no such step.

    Seeds that stop early have shorter series, so series are joined by step.

    >>> aligned([([1, 2], [0.1, 0.2]), ([2, 3], [0.5, 0.6])])
    ([1, 2, 3], [[0.1, 0.2, None], [None, 0.5, 0.6]])
    """
    steps = sorted({step for at, _ in found for step in at})
    known = [dict(zip(at, values, strict=False)) for at, values in found]
    return steps, [[one.get(step) for step in steps] for one in known]


def _of(runs: Sequence[Document], quantity: str, of: str) -> tuple[list[int], list[list[float | None]]]:
    """Return the steps of a quantity and its values, one row per seed."""
    return aligned(
        [
            (series["step"], series["value"])
            for run in runs
            for series in run["series"]
            if series["quantity"] == quantity and series["of"] == of
        ]
    )


def _means(runs: Sequence[Document], quantity: str, of: str) -> Drawn | None:
    """Return steps, the mean over seeds, and the band around it."""
    steps, rows = _of(runs, quantity, of)
    if not steps:
        return None
    at, middle = thinned(steps, columns_mean(rows))
    around = edges(middle, thinned(steps, columns_std(rows))[1])
    if around is not None and quantity in LOGARITHMIC:
        # A logarithmic axis has no place for zero and below.
        around = ([None if one is None or one <= 0 else one for one in around[0]], around[1])
    return at, middle, around


def _quantiles(runs: Sequence[Document], name: str, of: str) -> Drawn | None:
    """Return steps, the median and the band between outer quantiles, each a mean over seeds; None without quantiles."""
    found = [_of(runs, f"{name}_{quantile}", of) for quantile in ("q10", "q50", "q90")]
    low, middle, high = (thinned(steps, columns_mean(rows)) for steps, rows in found)
    if not middle[0]:
        return None
    around = (low[1], high[1]) if low[0] == middle[0] == high[0] else None
    return *middle, around

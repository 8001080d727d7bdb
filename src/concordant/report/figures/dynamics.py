"""Figures of dynamics.json: the recorded quantities of training, one at a time.

A quantity of modalities has one panel per modality. Long series are thinned to the means of equal stretches.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from concordant.report.figures.base import Edges, Figure, Spec, Values, band, edges, methods, spec
from concordant.report.format import Document, by_column, by_label, listed, mean, std

MOST = 40  # points of a line
NAMES = {
    "task_loss": "the task's loss in training, on clean instances",
    "loss": "whole loss in training, with what each method adds",
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
Series = tuple[list[int], Values]


def training_lines(document: Document) -> Figure | None:
    """Return the lines of every quantity, with a select for the quantity; None where nothing was recorded."""
    found = quantities(document)
    if not found:
        return None
    names = [NAMES.get(name, name) for name in found]
    return Figure(
        id="dynamics",
        title="What happened while training",
        caption="Choose a quantity; lines are means over seeds by optimiser step, bands one standard deviation over "
        "seeds (for reliability and gates, the middle 80 % of instances). A seed that stops early counts until then; "
        "long series are means of short stretches.",
        alt=f"Line charts by optimiser step of {listed(names)}.",
        series=methods(by_label(document["runs"])),
        specs=[_spec(document, name, subjects) for name, subjects in found.items()],
        choices={"quantity": names},
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
    """Return the places of a line: start and distance if they are even, which is shorter.

    >>> where([10, 20, 30]), where([1, 2, 4])
    ({'from': 10, 'by': 10}, {'x': [1, 2, 4]})
    """
    gaps = {b - a for a, b in pairwise(steps)}
    return {"from": steps[0], "by": gaps.pop()} if len(gaps) == 1 else {"x": list(steps)}


def aligned(found: Sequence[Series]) -> tuple[list[int], list[Values]]:
    """Return all steps, and one row of values per series; None where a series has no such step.

    Seeds that stop early have shorter series, so series are joined by step.

    >>> aligned([([1, 2], [0.1, 0.2]), ([2, 3], [0.5, 0.6])])
    ([1, 2, 3], [[0.1, 0.2, None], [None, 0.5, 0.6]])
    """
    steps = sorted({step for at, _ in found for step in at})
    known = [dict(zip(at, values, strict=False)) for at, values in found]
    return steps, [[one.get(step) for step in steps] for one in known]


def _base(quantity: str) -> str:
    stem, found, quantile = quantity.rpartition("_q")
    return stem if found and quantile.isdigit() else quantity


def _spec(document: Document, name: str, subjects: Sequence[str]) -> Spec:
    labels = by_label(document["runs"])
    found = {of: [_drawn(runs, name, of) for runs in labels.values()] for of in subjects}
    panels = [
        {
            "title": of.replace("|", " and "),
            "marks": [
                {"k": "line", "s": place, **where(one[0]), "y": one[1], **band(one[2])}
                for place, one in enumerate(drawn)
                if one is not None
            ],
        }
        for of, drawn in found.items()
    ]
    y = {"label": NAMES.get(name, name), "log": name in LOGARITHMIC, "own": name in LOGARITHMIC}
    height, columns = (260, 1) if len(panels) == 1 else (180, 2 if len(panels) in (2, 4) else 3)
    return spec(panels, height=height, x={"label": "optimiser step"}, y=y, columns=columns)


def _drawn(runs: Sequence[Document], name: str, of: str) -> tuple[list[int], Values, Edges | None] | None:
    """Return steps, the middle and the band of a method's line, each in the mean over seeds; None where it has none.

    Recorded quantiles give the median and the outer quantiles, other quantities the mean and one standard deviation.
    """

    def rows(quantity: str) -> tuple[list[int], list[Values]]:
        every = (series for run in runs for series in run["series"])
        return aligned([(s["step"], s["value"]) for s in every if (s["quantity"], s["of"]) == (quantity, of)])

    quantiles = [rows(f"{name}_{quantile}") for quantile in ("q10", "q50", "q90")]
    low, middle, high = (thinned(steps, by_column(mean, values)) for steps, values in quantiles)
    if middle[0]:
        return *middle, (low[1], high[1]) if low[0] == middle[0] == high[0] else None
    steps, values = rows(name)
    if not steps:
        return None
    at, means = thinned(steps, by_column(mean, values))
    around = edges(means, thinned(steps, by_column(std, values))[1])
    if around is not None and name in LOGARITHMIC:
        # A logarithmic axis has no place for zero and below.
        around = ([None if one is None or one <= 0 else one for one in around[0]], around[1])
    return at, means, around

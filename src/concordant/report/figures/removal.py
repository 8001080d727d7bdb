"""Figures of removal.json: every subset of the modalities, each modality's share of the score, random removal."""

from __future__ import annotations

from concordant.report.figures.base import Figure, line, methods, over_seeds, rows, score_text, spec
from concordant.report.format import Document, by_label, mean, metric_of, percent, seeds_of, shown

MOST = 40  # subsets that a figure shows; with more, only those of one modality, or of all but one


def subset_scores(document: Document) -> Figure:
    """Return the score of every subset of the modalities: a panel per subset, a row per method."""
    modalities, labels, metric = list(document["modalities"]), by_label(document["runs"]), metric_of(document)
    subsets = [tuple(one["present"]) for one in document["runs"][0]["subsets"]]
    if len(subsets) > MOST:
        subsets = [one for one in subsets if len(one) in (1, len(modalities) - 1, len(modalities))]
    subsets.sort(key=lambda one: (-len(one), [modalities.index(name) for name in one if name in modalities]))
    scores = {
        label: [{tuple(one["present"]): one["score"] for one in run["subsets"]} for run in runs]
        for label, runs in labels.items()
    }
    texts = [
        f"{shown(a)} {score_text(mean(one.get(tuple(modalities)) for one in b))} with all" for a, b in scores.items()
    ]
    panels = {
        subset_name(subset, modalities): [
            over_seeds([one.get(subset) for one in found], "%") for found in scores.values()
        ]
        for subset in subsets
    }
    deviation = "; lines are one standard deviation over seeds" if seeds_of(document["runs"]) > 1 else ""
    return Figure(
        id="subsets",
        title=f"{metric.capitalize()} by the modalities that are present",
        caption=f"Each panel names the modalities that are left{deviation}; farther right is better.",
        alt=f"Dot plots of {metric} for {len(subsets)} subsets of the modalities. {'; '.join(texts)}.",
        series=methods(labels),
        specs=[rows(panels, [*map(shown, labels)], {"label": f"{metric}, %", "score": True})],
    )


def subset_name(subset: tuple[str, ...], modalities: list[str]) -> str:
    """Return a subset of the modalities as text.

    >>> subset_name(("a",), ["a", "b", "c"]), subset_name(("a", "b", "c"), ["a", "b", "c"])
    ('a alone', 'all')
    """
    if len(subset) == len(modalities) > 2:
        return "all"
    return f"{subset[0]} alone" if len(subset) == 1 else " + ".join(subset)


def shapley_values(document: Document) -> Figure:
    """Return the share of the score that each modality brings: a panel per modality, a row per method."""
    modalities, labels, metric = list(document["modalities"]), by_label(document["runs"]), metric_of(document)
    shares = {
        name: [over_seeds([run["shapley"].get(name) for run in runs], "points") for runs in labels.values()]
        for name in modalities
    }
    texts = []
    for place, label in enumerate(labels):
        known = [(name, one["x"]) for name, found in shares.items() if (one := found[place]) is not None]
        texts.append(f"{shown(label)}: {', '.join(f'{name} {points:.1f}' for name, points in known)}")
    return Figure(
        id="shapley",
        title="What each modality brings (Shapley values)",
        caption=f"Points of {metric} above always predicting the most frequent class, shared out among the modalities; "
        "the values of one method add up to its score less that of the most frequent class.",
        alt=f"Dot plots of Shapley values in points. {'; '.join(texts)}.",
        series=methods(labels),
        specs=[rows(shares, [*map(shown, labels)], {"label": f"points of {metric}", "zero": True})],
    )


def rate_curve(document: Document) -> Figure | None:
    """Return the score by the rate of modalities missing at random; None where no rate was tried."""
    metric, labels = metric_of(document), by_label(document["runs"])
    marks, texts = [], []
    for place, (label, runs) in enumerate(labels.items()):
        if not runs[0]["rates"]:
            continue
        x = [one["rate"] for one in runs[0]["rates"]]
        marks.append(line(place, [percent(one["score"] for one in run["rates"]) for run in runs], x=x, dots=True))
        texts.append(f"{shown(label)}: area {score_text(mean(run['rate_area'] for run in runs))}")
    if not marks:
        return None
    return Figure(
        id="rates",
        title=f"{metric.capitalize()} when modalities are missing at random",
        caption="Each modality of each instance is left out with the probability on the horizontal axis; a flatter "
        "line bears missing modalities better.",
        alt=f"Line chart of {metric} by the rate of missing modalities. {'; '.join(texts)}.",
        series=methods(labels),
        specs=[
            spec(
                [{"title": "", "marks": marks}],
                height=260,
                x={"label": "share of modalities missing", "percent": True},
                y={"label": f"{metric}, %", "score": True, "unit": " %"},
            )
        ],
    )

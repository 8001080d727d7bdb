"""Figures of removal.json: every subset of the modalities, each modality's share of the score, random removal."""

from __future__ import annotations

from concordant.report.figures.base import (
    Figure,
    Spec,
    band,
    bars,
    dots,
    forest,
    layout,
    line,
    over_seeds,
    score_text,
)
from concordant.report.format import (
    Document,
    by_label,
    mean,
    metric_of,
    percent,
    plain,
    seeds_of,
    shown,
    std,
)

MOST = 40  # subsets that a figure shows; with more, only those of one modality, or of all but one


def subset_dots(document: Document) -> Figure:
    """Return the score of every subset of the modalities, one mark per method."""
    modalities, labels, metric = list(document["modalities"]), by_label(document["runs"]), metric_of(document)
    subsets = [tuple(one["present"]) for one in document["runs"][0]["subsets"]]
    if len(subsets) > MOST:
        subsets = [one for one in subsets if len(one) in (1, len(modalities) - 1, len(modalities))]
    subsets.sort(key=lambda one: (-len(one), [modalities.index(name) for name in one if name in modalities]))
    data, texts = [], []
    for label, runs in labels.items():
        scores = [{tuple(one["present"]): one["score"] for one in run["subsets"]} for run in runs]
        values = [[one.get(subset) for one in scores] for subset in subsets]
        error = {"array": [one or 0 for one in percent(std(one) for one in values)]}
        names = [subset_name(subset, modalities) for subset in subsets]
        hover = "%{fullData.name}<br>%{y}: %{x:.1f} %<extra></extra>"
        data.append(dots(label, names, percent(mean(one) for one in values), error, hovertemplate=hover))
        texts.append(f"{shown(label)} {score_text(mean(one.get(tuple(modalities)) for one in scores))} with all")
    deviation = "; lines are one standard deviation over seeds" if seeds_of(document["runs"]) > 1 else ""
    height = 110 + len(subsets) * (14 + 11 * len(labels))
    return Figure(
        id="subsets",
        title=f"{metric.capitalize()} by the modalities that are present",
        caption=f"Each row names the modalities that are left{deviation}; farther right is better.",
        alt=f"Dot plot of {metric} for {len(subsets)} subsets of the modalities. {'; '.join(texts)}.",
        specs=[{"data": data, "layout": forest(height, plain(f"{metric}, %"), 0.3, zeroline=False)}],
    )


def subset_name(subset: tuple[str, ...], modalities: list[str]) -> str:
    """Return a subset of the modalities as text.

    >>> subset_name(("a",), ["a", "b", "c"]), subset_name(("a", "b", "c"), ["a", "b", "c"])
    ('a alone', 'all')
    """
    if len(subset) == len(modalities) > 2:
        return "all"
    return f"{subset[0]} alone" if len(subset) == 1 else " + ".join(subset)


def shapley_bars(document: Document) -> Figure:
    """Return the share of the score that each modality brings, one bar per method."""
    modalities, metric = list(document["modalities"]), metric_of(document)
    data, texts = [], []
    for label, runs in by_label(document["runs"]).items():
        values = [[run["shapley"].get(name) for run in runs] for name in modalities]
        data.append(bars(label, modalities, values, "points"))
        known = [(name, mean(one)) for name, one in zip(modalities, values, strict=True)]
        points = ", ".join(f"{name} {100 * value:.1f}" for name, value in known if value is not None)
        texts.append(f"{shown(label)}: {points}")
    groups: Spec = {"barmode": "group", "bargap": 0.3, "bargroupgap": 0.06}
    return Figure(
        id="shapley",
        title="What each modality brings (Shapley values)",
        caption=f"Points of {metric} above always predicting the most frequent class, shared out among the modalities; "
        "the bars of one method add up to its score less that of the most frequent class.",
        alt=f"Bar chart of Shapley values in points. {'; '.join(texts)}.",
        specs=[{"data": data, "layout": layout(340, y=plain(f"points of {metric}"), **groups)}],
    )


def rate_curve(document: Document) -> Figure | None:
    """Return the score by the rate of modalities missing at random; None where no rate was tried."""
    metric = metric_of(document)
    data: list[Spec] = []
    texts = []
    for label, runs in by_label(document["runs"]).items():
        rows = [percent(one["score"] for one in run["rates"]) for run in runs]
        if not rows[0]:
            continue
        x = [one["rate"] for one in runs[0]["rates"]]
        middle, edges = over_seeds(rows)
        hover = "%{fullData.name}<br>%{x:.0%} missing: %{y:.1f} %<extra></extra>"
        data += [*band(label, edges, x=x), line(label, x=x, y=middle, hovertemplate=hover)]
        texts.append(f"{shown(label)}: area {score_text(mean(run['rate_area'] for run in runs))}")
    if not data:
        return None
    axes: Spec = {
        "x": "share of modalities missing",
        "y": plain(f"{metric}, %"),
        "xaxis": {"tickformat": ".0%", "zeroline": False},
    }
    return Figure(
        id="rates",
        title=f"{metric.capitalize()} when modalities are missing at random",
        caption="Each modality of each instance is left out with the probability on the horizontal axis; a flatter "
        "line bears missing modalities better.",
        alt=f"Line chart of {metric} by the rate of missing modalities. {'; '.join(texts)}.",
        specs=[{"data": data, "layout": layout(360, **axes)}],
    )

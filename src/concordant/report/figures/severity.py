"""Figures of corruption.json: score by severity, and whether a low reliability means a corrupted modality."""

from __future__ import annotations

from collections.abc import Sequence

from concordant.report.figures.base import Figure, Spec, line, methods, score_text, spec
from concordant.report.format import Document, by_column, by_label, mean, metric_of, percent, seeds_of, shown

GROUPS = {"time": "steps in time", "instances": "whole instances", "image": "images", "audio": "sound"}


def severity_curves(document: Document) -> Figure | None:
    """Return the score by severity, one panel per kind, with a select for the group of kinds; None without kinds."""
    kinds, metric, labels = list(document["kinds"]), metric_of(document), by_label(document["runs"])
    if not kinds:
        return None
    groups = list(dict.fromkeys(kind["group"] for kind in kinds))
    several = groups if len(groups) > 1 else []
    texts = [f"{shown(label)} {score_text(mean(run['mean'] for run in runs))}" for label, runs in labels.items()]
    bands = "; bands are one standard deviation over seeds" if seeds_of(document["runs"]) > 1 else ""
    oracles = [
        {"name": f"oracle of {shown(label)}", "color": "var(--ink)", "dash": "5 4", "symbol": "", "width": 1.3}
        for label in by_label(document["oracle"])
    ]
    return Figure(
        id="severity",
        title=f"{metric.capitalize()} by severity of the corruption",
        caption=f"Each panel is a kind of corruption: {metric} in percent from clean (0) to the highest severity "
        f"(5){bands}; a flatter line is more robust. The thin dashed line is the oracle: the twin, given the corrupted "
        "modality as absent where that is better. It bounds the twin; other methods may pass it.",
        alt=f"Line charts of {metric} by severity for {len(kinds)} kinds of corruption. "
        f"Mean over all kinds and severities: {'; '.join(texts)}.",
        series=[*methods(labels), *oracles],
        specs=[
            _curves(document, [kind for kind in kinds if group in ("all", kind["group"])])
            for group in ("all", *several)
        ],
        choices={"kinds": ["all", *(GROUPS.get(group, group) for group in groups)]} if several else {},
    )


def _curves(document: Document, kinds: Sequence[Document]) -> Spec:
    labels = by_label(document["runs"])
    panels = []
    for kind in kinds:
        name, marks = kind["name"], []
        levels = enumerate(kind["severities"], 1)
        ticks = ["clean", *(f"severity {level}: {value:g} {kind['unit']}" for level, value in levels)]
        means: dict[str, list[float | None]] = {}
        for place, (label, runs) in enumerate(labels.items()):
            rows = [percent([run["clean"], *run["kinds"][name]["scores"]]) for run in runs if name in run["kinds"]]
            if rows:
                marks.append(line(place, rows, **{"from": 0, "by": 1}, text=ticks, dots=True))
                means[label] = by_column(mean, rows)
        for place, (label, runs) in enumerate(by_label(document["oracle"]).items(), len(labels)):
            rows = [percent(run["kinds"][name]["scores"]) for run in runs if name in run["kinds"]]
            if rows:
                best = [_better(*pair) for pair in zip(by_column(mean, rows), means[label][1:], strict=True)]
                marks.append({"k": "line", "s": place, "from": 1, "by": 1, "y": best, "text": ticks[1:]})
        panels.append({"title": f"{name}{' (seen)' if kind['seen'] else ''}", "marks": marks})
    x, y = {"label": "severity", "range": [0, 5]}, {"label": f"{metric_of(document)}, %", "score": True, "unit": " %"}
    return spec(panels, height=150, x=x, y=y, columns=4, least=150)


def _better(one: float | None, other: float | None) -> float | None:
    known = [value for value in (one, other) if value is not None]
    return max(known) if known else None


def reliability_diagram(document: Document) -> Figure | None:
    """Return the share of clean modalities by predicted reliability; None without reliabilities."""
    labels = by_label(document["runs"])
    marks: list[Spec] = [{"k": "diagonal", "x": [], "y": []}]
    texts = []
    for place, (label, runs) in enumerate(labels.items()):
        diagrams = [run["diagram"] for run in runs if run["diagram"] is not None]
        joined = pooled(diagrams)
        if not joined:
            continue
        x, y, counts = (list(one) for one in zip(*joined, strict=True))
        mark = {
            "k": "line",
            "s": place,
            "x": x,
            "y": y,
            "dots": True,
            "size": [2.5 + 6 * (count / max(counts)) ** 0.5 for count in counts],
            "text": [
                f"predicted {a:.2f}, {n:,.0f} cases, share that was clean:" for a, n in zip(x, counts, strict=True)
            ],
        }
        marks.append(mark)
        error = mean(diagram["error"] for diagram in diagrams)
        if error is not None:
            texts.append(f"{shown(label)}: mean distance {error:.3f}")
    if len(marks) == 1:
        return None
    ends = {"range": [0, 1]}
    axes = {"x": {"label": "predicted reliability", **ends}, "y": {"label": "share that was clean", **ends}}
    return Figure(
        id="reliability",
        title="Does a low reliability mean a corrupted modality?",
        caption="Predicted reliability against the share of modalities that were clean; on the diagonal the number "
        "can be read as a probability, below it the reliability is too high; larger marks are more cases.",
        alt=f"Reliability diagram. {'; '.join(texts)}." if texts else "Reliability diagram.",
        series=methods(labels),
        specs=[spec([{"title": "", "marks": marks}], height=300, columns=1, **axes)],
    )


def pooled(diagrams: Sequence[Document]) -> list[tuple[float, float, int]]:
    """Return (predicted, clean, count) of every bin with cases, seeds weighted by their counts."""
    found = []
    bins = (zip(*(one[key] for one in diagrams), strict=False) for key in ("predicted", "intact", "count"))
    for one in zip(*bins, strict=False):
        known = [(p, c, n) for p, c, n in zip(*one, strict=True) if n and p is not None and c is not None]
        count = sum(n for _, _, n in known)
        if count:
            found.append((sum(p * n for p, _, n in known) / count, sum(c * n for _, c, n in known) / count, count))
    return found

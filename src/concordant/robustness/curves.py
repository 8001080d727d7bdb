"""Corruption curves: a model's score under every kind at five severities, and how well its reliability detects it.

With them goes an oracle: the model with the corrupted modality given as absent. The share of the way from an
uncalibrated twin to that oracle which a calibrator covers is the share of the avoidable loss.
Axis letters: N instances, M modalities.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from concordant.benchmarks.benchmark import Waves
from concordant.data.scaling import fit_chunks
from concordant.data.split import AnySplit, Split
from concordant.errors import UsageError
from concordant.robustness.answers import Answer, Answers, check_metric, evaluate, usual_answer
from concordant.robustness.conditions import (
    CLEAN,
    LEVELS,
    SWAP,
    SplitContext,
    can_swap,
    check_kinds,
    oracle_name,
    stress_conditions,
)
from concordant.robustness.corruptions import Kind
from concordant.robustness.detection import detection, reliability_diagram
from concordant.robustness.own_data import as_split, layouts_of
from concordant.robustness.predict import Model
from concordant.training.metrics import PRIMARY


def measure_corruption(
    model: Model,
    data: Any,  # noqa: ANN401
    labels: Any = None,  # noqa: ANN401
    *,
    valid: Any = None,  # noqa: ANN401
    kinds: Sequence[str] | None = None,
    layouts: Mapping[str, str] | None = None,
    natures: Mapping[str, str] | None = None,
    signals: Mapping[str, Waves] | None = None,
    standardised: bool = False,
    metric: str = PRIMARY,
    seed: int = 0,
    oracle: bool = True,
    masks: Mapping[str, Any] | None = None,
    present: Mapping[str, Any] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Score a trained model under corruption: one random modality of every instance, by each kind and severity.

    Args:
        model: `model(features) -> logits`, or an object with `.logits` and, for detection, `.reliability` (N, M).
        data: modality -> tensor or array (N, ...), a torch Dataset of (features by modality, label), or a split.
        labels: (N,), beside features by modality.
        valid: clean instances like those of `data`, features by modality or a split, for the usual reliability and the
            usual spread of features; None = `data`, clean.
        kinds: names from `concordant.robustness.corruptions.KINDS`; None = all that can be applied.
        layouts: modality -> layout, batch first; None = read off the number of axes.
        natures: modality -> "image", or anything else for maps that are not images (spectrograms).
        signals: modality -> its waveforms, which audio kinds change.
        standardised: the features have mean 0 and standard deviation 1 each; otherwise both are taken from `valid`.
        metric: the score, one that is better when higher.
        seed: of all draws.
        oracle: also score the model with the corrupted modality given as absent.
        masks: modality -> bool (N, T).
        present: modality -> bool (N,).
        progress: called with the finished conditions and all of them.

    Returns:
        "clean", "kinds" (kind -> scores, detection AUROCs "which" and "whether", area under the severity curve),
        "about" (a description of the kinds), "mean", "area", "worst", "diagram" (of reliability), "oracle" (kind ->
        scores).

    Raises:
        UsageError: the data, a kind or the metric cannot be used, or no kind can be applied.
    """
    split = as_split(data, labels, masks=masks, present=present)
    check_metric(metric, split.labels)
    if signals and not isinstance(split, Split):
        raise UsageError("signals go with data in memory; this split is read from disk in chunks")
    usual_split = _usual(valid, split)
    known = layouts_of(split, layouts)
    scales = {} if standardised else fit_chunks(usual_split.chunks(), known)
    context = SplitContext(known, natures or {}, scales, signals or {})
    wanted = check_kinds(kinds)
    able = {kind.name: context.able(kind, split.shapes) for kind in wanted}
    if SWAP in able and not can_swap(split):
        able[SWAP] = ()
    applied = [kind for kind in wanted if able[kind.name]]
    if not applied:
        raise UsageError(
            f"none of the corruptions {', '.join(kind.name for kind in wanted)} can be applied to "
            f"{', '.join(f'{name} ({layout})' for name, layout in known.items())}"
        )
    conditions = [
        one for one in stress_conditions(split, context, applied, seed) if oracle or not one.name.startswith("oracle.")
    ]
    answers = evaluate(model, split, conditions, progress=progress)
    usual = usual_answer(model, usual_split)
    clean = answers.rows[CLEAN]
    pairs = [(answers.rows[f"corruption.{kind.name}.{level}"], clean) for kind in applied for level in LEVELS]
    curves = {kind.name: _curve(answers, kind.name, metric, usual) for kind in applied}
    found: dict[str, Any] = {
        "metric": metric,
        "modalities": list(answers.names),
        "clean": answers.score(CLEAN, metric),
        "kinds": curves,
        "about": [describe(kind, able[kind.name]) for kind in applied],
        **summary(curves),
        "diagram": None if clean.reliability is None else reliability_diagram(pairs),
    }
    if oracle:
        scores = {name: answers.score(oracle_name(reached), metric) for name, reached in able.items() if reached}
        found["oracle"] = {kind.name: {"scores": [scores[kind.name]] * len(LEVELS)} for kind in applied}
    return found


def describe(kind: Kind, able: Sequence[str]) -> dict[str, Any]:
    """Return the description of a kind that stands in corruption.json; `able` are the modalities it can change."""
    own = {name: getattr(kind, name) for name in ("name", "summary", "group", "unit", "severities", "seen")}
    at = "signal" if kind.group == "audio" else "inputs"
    return {**own, "severities": list(kind.severities), "modalities": list(able), "at": at}


def summary(curves: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the mean over kinds and severities, the mean area under the severity curves, and the worst case."""
    scores = {name: curve["scores"] for name, curve in curves.items()}
    name, place = min(((n, k) for n, s in scores.items() for k in range(len(s))), key=lambda at: scores[at[0]][at[1]])
    return {
        "mean": float(np.mean([np.mean(one) for one in scores.values()])),
        "area": float(np.mean([curve["area"] for curve in curves.values()])),
        "worst": {"kind": name, "severity": place + 1, "score": scores[name][place]},
    }


def area(x: Sequence[float], y: Sequence[float]) -> float:
    """Return the mean height of a curve: its area by trapezoids over the width; for one point its height.

    >>> area([0.0, 0.5, 1.0], [1.0, 0.5, 0.5])
    0.625
    """
    if len(x) < 2:
        return float(y[0])
    widths = np.diff(np.asarray(x, dtype=np.float64))
    heights = np.asarray(y, dtype=np.float64)
    return float((widths * (heights[1:] + heights[:-1]) / 2).sum() / widths.sum())


def _curve(answers: Answers, kind: str, metric: str, usual: Answer) -> dict[str, Any]:
    clean, names = answers.rows[CLEAN], [f"corruption.{kind}.{level}" for level in LEVELS]
    scores = [answers.score(name, metric) for name in names]
    found: dict[str, Any] = {"scores": scores, "which": None, "whether": None}
    if clean.reliability is not None:
        areas = [detection(answers.rows[name], clean, usual) for name in names]
        found |= {what: [one[what] for one in areas] for what in ("which", "whether")}
    return {**found, "area": area(range(len(names) + 1), [answers.score(CLEAN, metric), *scores])}


def _usual(valid: Any, split: AnySplit) -> AnySplit:  # noqa: ANN401
    if valid is None:
        return split
    if isinstance(valid, Mapping):
        count = len(next(iter(valid.values()))) if valid else 0
        found = as_split(valid, np.zeros(count, split.labels.dtype))
    else:
        found = as_split(valid)
    if set(found.shapes) != set(split.shapes):
        raise UsageError(f"valid must have the modalities of data, {list(split.shapes)}; found {list(found.shapes)}")
    return found

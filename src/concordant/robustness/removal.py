"""Removal: what is left of a model's score when modalities are gone, and what each of them adds.

Removed from the whole dataset: every subset of modalities present. Removed from single instances at random: each
modality of each instance is gone with the same chance, one at least is left. The draws are the same at every rate,
so that what is gone at a low rate is gone at a higher one.
Axis letters: N instances, M modalities.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from concordant import seeding
from concordant.data.split import Split
from concordant.errors import UsageError
from concordant.robustness import shapley
from concordant.robustness.own_data import as_part
from concordant.robustness.predict import Model, ask
from concordant.robustness.scoring import check_metric, score_of, score_without_any
from concordant.training.metrics import PRIMARY

RATES = tuple(round(0.1 * k, 1) for k in range(10))


def measure_removal(
    model: Model,
    data: Any,  # noqa: ANN401
    labels: Any = None,  # noqa: ANN401
    *,
    metric: str = PRIMARY,
    rates: Sequence[float] = RATES,
    train_labels: Any = None,  # noqa: ANN401
    seed: int = 0,
    masks: Mapping[str, Any] | None = None,
    present: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Score a trained model with every subset of its modalities.

    Args:
        model: `model(features) -> logits`, or an object with `.logits`. If it takes `present=`, absent modalities
            are named there; their values are zeros in any case.
        data: modality -> tensor or array (N, ...), a torch Dataset of (features by modality, label), or a part.
        labels: (N,), beside features by modality.
        metric: what is followed, one that is better when higher.
        rates: chances of each modality of each instance to be gone, in [0, 1).
        train_labels: their most frequent class, or median, gives the score of no modality; None = `labels`.
        seed: of what is drawn.
        masks: modality -> bool (N, T).
        present: modality -> bool (N,); what an instance lacks stays absent throughout.

    Returns:
        "full", "empty" (the score of no modality), "subsets" (each with its score and the share of the full score
        that it retains), "shapley", "shapley_error" (None where exact: up to six modalities), "rates", "rate_area".

    Raises:
        UsageError: the data, the metric or a rate cannot be used.
    """
    part = as_part(data, labels, masks=masks, present=present)
    check_metric(metric, part.labels)
    wrong = [rate for rate in rates if not 0 <= rate < 1]
    if wrong:
        raise UsageError(f"rates must lie in [0, 1); found {wrong[0]}")
    names = tuple(part.shapes)
    known: dict[frozenset[str], float] = {}

    def score(kept: frozenset[str]) -> float:
        if kept not in known:
            answer = ask(model, part, change=lambda piece, _: keep(piece, kept))
            known[kept] = score_of(part.labels, answer, metric)
        return known[kept]

    untouched = ask(model, part)
    full = known[frozenset(names)] = score_of(part.labels, untouched, metric)
    reference = part.labels if train_labels is None else np.asarray(train_labels)
    known[frozenset()] = score_without_any(reference, part.labels, metric, untouched.logits.shape[1])
    values, errors = _values(names, score, seed)
    by_rate = []
    for rate in rates:
        answer = ask(model, part, change=lambda piece, number, rate=rate: thin(piece, rate, seed, number))  # type: ignore[misc]
        by_rate.append(score_of(part.labels, answer, metric))
    return {
        "metric": metric,
        "modalities": list(names),
        "empty": known[frozenset()],
        "full": full,
        "subsets": [
            {"present": list(one), "score": score(frozenset(one)), "retained": _share(score(frozenset(one)), full)}
            for one in shapley.subsets(names)
        ],
        "shapley": values,
        "shapley_error": errors,
        "rates": [
            {"rate": float(rate), "score": value, "retained": _share(value, full)}
            for rate, value in zip(rates, by_rate, strict=True)
        ],
        "rate_area": area(list(rates), by_rate),
    }


def keep(part: Split, kept: Collection[str]) -> Split:
    """Return the part with all other modalities absent from every instance, their values gone."""
    present, inputs = dict(part.present), dict(part.inputs)
    for name in part.inputs:
        if name not in kept:
            present[name] = np.zeros(len(part), np.bool_)
            inputs[name] = np.zeros_like(part.inputs[name])
    return Split(inputs, part.labels, part.ids, part.groups, part.masks, present)


def thin(part: Split, rate: float, seed: int, number: int | None = None) -> Split:
    """Return the part with each modality of each instance gone with the chance `rate`, one at least left.

    Args:
        part: the instances.
        rate: in [0, 1).
        seed: of the draws, which are the same at every rate.
        number: which piece of a part this is that is too large for memory.
    """
    names = tuple(part.inputs)
    draws = np.random.default_rng(seeding.derive_seed(seed, "removal", "" if number is None else f"piece {number}"))
    here = np.stack([part.present.get(name, np.ones(len(part), np.bool_)) for name in names], 1)  # (N, M)
    chance = draws.random(here.shape)
    left = here & (chance >= rate)
    last = np.where(here, chance, -1.0).argmax(1)  # the modality that goes last stays
    left[np.arange(len(part)), last] = here.any(1)
    return with_presence(part, dict(zip(names, left.T, strict=True)))


def with_presence(part: Split, present: Mapping[str, NDArray[np.bool_]]) -> Split:
    """Return the part with these modalities absent where they say so, their values gone."""
    inputs, known = dict(part.inputs), dict(part.present)
    for name, here in present.items():
        known[name] = here
        if not here.all():
            shape = (-1, *(1 for _ in part.inputs[name].shape[1:]))
            inputs[name] = np.where(here.reshape(shape), part.inputs[name], np.float32(0))
    return Split(inputs, part.labels, part.ids, part.groups, part.masks, known)


def area(x: Sequence[float], y: Sequence[float]) -> float:
    """Return the mean height of a curve: its area by trapezoids over the width; of one point its height.

    >>> area([0.0, 0.5, 1.0], [1.0, 0.5, 0.5])
    0.625
    """
    if len(x) < 2:
        return float(y[0])
    widths = np.diff(np.asarray(x, dtype=np.float64))
    heights = np.asarray(y, dtype=np.float64)
    return float((widths * (heights[1:] + heights[:-1]) / 2).sum() / widths.sum())


def _values(
    names: tuple[str, ...], score: shapley.Score, seed: int
) -> tuple[dict[str, float], dict[str, float] | None]:
    if len(names) <= shapley.EXACT:
        return shapley.exact(names, score), None
    return shapley.sampled(names, score, draws=np.random.default_rng(seeding.derive_seed(seed, "shapley")))


def _share(score: float, full: float) -> float | None:
    return score / full if full > 0 else None

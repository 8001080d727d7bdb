"""Removal: the score that is left when modalities are absent, and what each of them adds (Shapley values).

Removed from the whole dataset: every subset of modalities present. Removed from single instances at random: each
modality of each instance is absent with one chance, at least one is left.
Axis letters: N instances, M modalities.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations, pairwise
from typing import Any

import numpy as np

from concordant import seeding
from concordant.errors import UsageError
from concordant.robustness.answers import check_metric, evaluate, score_without_any
from concordant.robustness.conditions import CLEAN, clean, subset, thinned
from concordant.robustness.curves import area
from concordant.robustness.own_data import as_split
from concordant.robustness.predict import Model
from concordant.training.metrics import PRIMARY

RATES = tuple(round(0.1 * k, 1) for k in range(10))
EXACT = 6  # modalities up to which all subsets are scored
ORDERS = 64  # sampled beyond, half of them the others reversed

Score = Callable[[frozenset[str]], float]


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
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Score a trained model with every subset of its modalities.

    Args:
        model: `model(features) -> logits`, or an object with `.logits`. If it takes `present=`, absent modalities
            are named there; their values are zeros in any case.
        data: modality -> tensor or array (N, ...), a torch Dataset of (features by modality, label), or a split.
        labels: (N,), beside features by modality.
        metric: the score, one that is better when higher.
        rates: chances that a modality of an instance is absent, in [0, 1), increasing; one or more.
        train_labels: their most frequent class, or median, gives the score without modalities; None = `labels`.
        seed: of all draws.
        masks: modality -> bool (N, T).
        present: modality -> bool (N,); modalities that an instance lacks stay absent throughout.
        progress: called with the finished conditions and all of them.

    Returns:
        "full", "empty" (the score without modalities), "subsets" (each with its score and the share of the full score
        that it retains), "shapley", "shapley_error" (None where exact: up to six modalities), "rates", "rate_area".

    Raises:
        UsageError: the data, the metric or a rate cannot be used.
    """
    split = as_split(data, labels, masks=masks, present=present)
    check_metric(metric, split.labels)
    wrong = [rate for rate in rates if not 0 <= rate < 1]
    if wrong:
        raise UsageError(f"rates must lie in [0, 1); found {wrong[0]}")
    if len(rates) == 0 or any(after <= before for before, after in pairwise(rates)):
        raise UsageError(f"rates must be one or more, each larger than the one before; found {list(rates)}")
    names = tuple(split.shapes)
    answers = evaluate(model, split, [clean()])
    full = answers.score(CLEAN, metric)
    reference = split.labels if train_labels is None else np.asarray(train_labels)
    none = score_without_any(reference, split.labels, metric, answers.outputs)
    known = {frozenset(names): full, frozenset(): none}

    def shapley(score: Score) -> tuple[dict[str, float], dict[str, float] | None]:
        if len(names) <= EXACT:
            return exact(names, score), None
        return sampled(names, score, draws=np.random.default_rng(seeding.derive_seed(seed, "shapley")))

    def scored(value: float) -> dict[str, float | None]:
        return {"score": value, "retained": value / full if full > 0 else None}

    wanted = dict.fromkeys(map(frozenset, subsets(names)), 0.0)
    shapley(lambda kept: wanted.setdefault(kept, 0.0))  # shows which subsets it needs
    unknown = [kept for kept in wanted if kept not in known]
    conditions = [subset([name for name in names if name in kept]) for kept in unknown]
    conditions += [thinned(rate, seed) for rate in rates]
    scores: list[float] = []
    for condition in conditions:
        scores.append(evaluate(model, split, [condition]).score(condition.name, metric))
        if progress is not None:
            progress(len(scores), len(conditions))
    known |= dict(zip(unknown, scores, strict=False))
    by_rate = scores[len(unknown) :]
    values, errors = shapley(known.__getitem__)
    return {
        "metric": metric,
        "modalities": list(names),
        "empty": none,
        "full": full,
        "subsets": [{"present": list(one), **scored(known[frozenset(one)])} for one in subsets(names)],
        "shapley": values,
        "shapley_error": errors,
        "rates": [{"rate": float(rate), **scored(value)} for rate, value in zip(rates, by_rate, strict=True)],
        "rate_area": area(list(rates), by_rate),
    }


def subsets(names: Sequence[str]) -> list[tuple[str, ...]]:
    """Return every non-empty subset, small ones first; beyond six modalities singles, leave-one-out and all.

    >>> subsets(["a", "b"])
    [('a',), ('b',), ('a', 'b')]
    """
    count = len(names)
    sizes = range(1, count + 1) if count <= EXACT else sorted({1, count - 1, count})
    return [subset for size in sizes for subset in combinations(names, size)]


def exact(names: Sequence[str], score: Score) -> dict[str, float]:
    """Return the Shapley value of each name from the scores of all 2^M subsets, the empty one among them.

    v_m is the mean over orders of score(those before m, and m) - score(those before m): what each modality adds,
    averaged over all orders in which they could come in. The values add up to score(all) - score(none) (Shapley, A
    Value for n-person Games, 1953).

    >>> worth = {"a": 2.0, "b": 1.0}
    >>> exact(["a", "b"], lambda present: sum(worth[name] for name in present))
    {'a': 2.0, 'b': 1.0}
    """
    count = len(names)
    values = {}
    for name in names:
        others = [other for other in names if other != name]
        total = 0.0
        for size in range(count):
            weight = 1 / (count * math.comb(count - 1, size))
            for before in combinations(others, size):
                coalition = frozenset(before)
                total += weight * (score(coalition | {name}) - score(coalition))
        values[name] = total
    return values


def sampled(
    names: Sequence[str], score: Score, *, draws: np.random.Generator, orders: int = ORDERS
) -> tuple[dict[str, float], dict[str, float]]:
    """Return estimates of the Shapley values from random orders, and their standard errors.

    Every order is followed by its reverse, which takes much of the variance away (antithetic sampling; Mitchell et
    al., Sampling Permutations for Shapley Value Estimation, JMLR 2022); a pair is one observation. `score` is called
    more than once per subset.

    Raises:
        UsageError: `orders` is odd or less than 4.
    """
    if orders < 4 or orders % 2:
        raise UsageError(f"orders must be an even number of 4 or more; found {orders}")
    pairs = np.zeros((orders // 2, len(names)))
    for number in range(orders // 2):
        order = draws.permutation(len(names))
        for way in (order, order[::-1]):
            before: frozenset[str] = frozenset()
            last = score(before)
            for column in way:
                before = before | {names[column]}
                now = score(before)
                pairs[number, column] += (now - last) / 2
                last = now
    errors = pairs.std(0, ddof=1) / math.sqrt(len(pairs))
    return (
        {name: float(value) for name, value in zip(names, pairs.mean(0), strict=True)},
        {name: float(value) for name, value in zip(names, errors, strict=True)},
    )

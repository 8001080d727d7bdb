"""Shapley values: what each modality adds to a score, averaged over all orders in which they could come in.

v_m = mean over orders of score(those before m, and m) - score(those before m). They add up to score(all) -
score(none) (Shapley, A Value for n-person Games, 1953).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import combinations

import numpy as np

from concordant.errors import UsageError

Score = Callable[[frozenset[str]], float]
EXACT = 6  # modalities up to which all subsets are scored
ORDERS = 64  # sampled beyond, half of them the others reversed


def subsets(names: Sequence[str]) -> list[tuple[str, ...]]:
    """Return every non-empty subset, small ones first; beyond six modalities singles, leave-one-out and all.

    >>> subsets(["a", "b"])
    [('a',), ('b',), ('a', 'b')]
    """
    count = len(names)
    sizes = range(1, count + 1) if count <= EXACT else sorted({1, count - 1, count})
    return [subset for size in sizes for subset in combinations(names, size)]


def exact(names: Sequence[str], score: Score) -> dict[str, float]:
    """Return the Shapley value of each name from the scores of all its 2^M subsets, the empty one among them.

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
    al., Sampling Permutations for Shapley Value Estimation, JMLR 2022); a pair is one observation.

    Args:
        names: the modalities.
        score: of a subset; asked for the same one more than once, so let it remember.
        draws: the source of the orders.
        orders: how many, an even number of 4 or more.

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

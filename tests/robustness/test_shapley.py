import math
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from concordant.errors import UsageError
from concordant.robustness.shapley import exact, sampled, subsets

NAMES = ["a", "b", "c"]


def game(seed, names):
    draws = np.random.default_rng(seed)
    worth = {}

    def score(present):
        if present not in worth:
            worth[present] = float(draws.normal())
        return worth[present]

    for size in range(len(names) + 1):
        for order in permutations(names, size):
            score(frozenset(order))
    return score


def by_orders(names, score):
    """Average over all orders, as the definition says."""
    values = dict.fromkeys(names, 0.0)
    for order in permutations(names):
        for place, name in enumerate(order):
            values[name] += score(frozenset(order[: place + 1])) - score(frozenset(order[:place]))
    return {name: value / math.factorial(len(names)) for name, value in values.items()}


@given(st.integers(0, 10**6), st.integers(1, 4))
def test_exact_values_are_the_mean_over_all_orders_and_add_up(seed, count):
    names = list("abcd")[:count]
    score = game(seed, names)
    values = exact(names, score)
    assert values == pytest.approx(by_orders(names, score))
    assert sum(values.values()) == pytest.approx(score(frozenset(names)) - score(frozenset()))


def test_an_additive_game_gives_each_its_own_worth():
    worth = {"a": 0.5, "b": 0.25, "c": -0.125}

    def score(present):
        return 0.1 + sum(worth[name] for name in present)

    assert exact(NAMES, score) == pytest.approx(worth)
    values, errors = sampled(NAMES, score, draws=np.random.default_rng(0))
    assert values == pytest.approx(worth)
    assert all(error < 1e-12 for error in errors.values())


def test_sampling_finds_the_exact_values_within_its_errors():
    names = list("abcdefgh")
    draws = np.random.default_rng(3)
    synergy = draws.normal(0, 1, (8, 8))

    def score(present):
        rows = [names.index(name) for name in present]
        return float(synergy[np.ix_(rows, rows)].sum())

    truth = exact(names, score)
    values, errors = sampled(names, score, draws=np.random.default_rng(1), orders=400)
    # Reversed orders take pairwise synergies away altogether, so that the estimate is exact here.
    assert values == pytest.approx(truth, abs=1e-9)
    uneven = sampled(names, lambda p: float(len(p) ** 3 if "a" in p else 0), draws=np.random.default_rng(1), orders=400)
    exactly = exact(names, lambda p: float(len(p) ** 3 if "a" in p else 0))
    for name in names:
        assert abs(uneven[0][name] - exactly[name]) < 4 * uneven[1][name] + 1e-9
    assert errors.keys() == values.keys()


def test_subsets_are_all_up_to_six_and_the_ends_beyond():
    assert len(subsets(list("abcdef"))) == 63
    beyond = subsets(list("abcdefg"))
    assert sorted(map(len, beyond)) == [1] * 7 + [6] * 7 + [7]
    assert subsets(["a"]) == [("a",)]


@pytest.mark.parametrize("orders", [3, 2, 0])
def test_orders_come_in_pairs(orders):
    with pytest.raises(UsageError, match="orders must be an even number of 4 or more"):
        sampled(NAMES, lambda present: 0.0, draws=np.random.default_rng(0), orders=orders)

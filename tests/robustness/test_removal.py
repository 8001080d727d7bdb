import math
from itertools import pairwise, permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from concordant.errors import UsageError
from concordant.robustness.curves import area
from concordant.robustness.removal import RATES, exact, measure_removal, sampled, subsets


def additive(count=8, copies=10):
    """Votes of modalities: the model is right about an instance as soon as one modality that knows it is there."""
    labels = np.repeat(np.arange(count) % 2, copies)
    known = {"a": slice(0, 2), "b": slice(2, 5), "c": slice(5, 8)}  # which eighths a modality knows
    x = {}
    for name, where in known.items():
        vote = np.zeros((count, 2))
        vote[where, 0] = 2 * (np.arange(count)[where] % 2) - 1
        vote[where, 1] = 1
        x[name] = np.repeat(vote, copies, 0)
    return x, labels


def model(features):
    vote = sum(x[:, 0] for x in features.values())
    import torch

    return torch.stack([-vote, vote - 1e-3], 1)  # without a vote: class 0


def test_shapley_values_of_an_additive_toy_are_their_closed_form():
    x, labels = additive()
    found = measure_removal(model, x, labels)
    # Without a vote the prediction is 0, so a modality adds the odd instances that it knows: an eighth each.
    assert found["full"] == 1.0
    assert found["empty"] == 0.5
    assert found["shapley"] == pytest.approx({"a": 1 / 8, "b": 1 / 8, "c": 2 / 8})
    assert found["shapley_error"] is None
    scores = {tuple(one["present"]): one for one in found["subsets"]}
    assert len(scores) == 7
    assert scores["a",]["score"] == pytest.approx(5 / 8)
    assert scores["b", "c"]["retained"] == pytest.approx(7 / 8)


def test_random_removal_starts_at_the_full_score_and_falls():
    x, labels = additive(copies=200)
    found = measure_removal(model, x, labels)
    scores = [one["score"] for one in found["rates"]]
    assert [one["rate"] for one in found["rates"]] == list(RATES)
    assert scores[0] == found["full"]
    assert all(later <= earlier for earlier, later in pairwise(scores))
    # At a rate of one half, a modality is gone from an instance with that chance unless it is the last one left.
    gone = 0.5 - (0.5**3) / 3
    assert scores[5] == pytest.approx(1 - gone / 2, abs=0.03)
    assert found["rate_area"] == pytest.approx(area(list(RATES), scores))


def test_beyond_six_modalities_values_are_sampled_with_errors():
    draws = np.random.default_rng(0)
    labels = draws.integers(0, 2, 60)
    x = {f"m{k}": (labels[:, None] * 2 - 1) + draws.standard_normal((60, 1)) for k in range(7)}

    def vote(features):
        import torch

        total = sum(v[:, 0] for v in features.values())
        return torch.stack([-total, total], 1)

    seen = []
    found = measure_removal(vote, x, labels, rates=(0.5,), progress=lambda *at: seen.append(at))
    assert seen == [(number, len(seen)) for number in range(1, len(seen) + 1)]
    assert set(found["shapley_error"]) == set(x)
    assert sum(found["shapley"].values()) == pytest.approx(found["full"] - found["empty"])
    assert len(found["subsets"]) == 15


def test_in_the_planted_world_the_modality_that_is_noise_half_the_time_adds_least(planted):
    found = measure_removal(planted.ours, planted.test.x, planted.test.labels, train_labels=planted.train.labels)
    values = found["shapley"]
    assert values["b"] < 0.6 * min(values["a"], values["c"])
    assert max(values, key=values.get) == "c"
    scores = {tuple(one["present"]): one["score"] for one in found["subsets"]}
    assert scores["a", "c"] == pytest.approx(found["full"], abs=0.01)


@pytest.mark.parametrize("rate", [1.0, -0.1])
def test_a_rate_is_a_chance(rate):
    x, labels = additive()
    with pytest.raises(UsageError, match=r"rates must lie in \[0, 1\)"):
        measure_removal(model, x, labels, rates=[rate])


@pytest.mark.parametrize("rates", [[], [0.5, 0.5], [0.5, 0.1]])
def test_rates_are_a_curve(rates):
    x, labels = additive()
    with pytest.raises(UsageError, match="rates must be one or more, each larger than the one before; found"):
        measure_removal(model, x, labels, rates=rates)


@pytest.mark.parametrize(
    ("labels", "outputs", "text"),
    [
        ([0.0, 1.0, 2.0], 3, "labels are real numbers, and the model returns 3 values per instance"),
        ([0, 1, 1], 1, "labels are class indices, and the model returns one number per instance"),
        ([1, 2, 3], 3, r"labels must lie in 0..2, as the model returns 3 logits per instance; found 1..3"),
    ],
)
def test_labels_that_the_model_cannot_predict_are_not_scored(labels, outputs, text):
    with pytest.raises(UsageError, match=text):
        measure_removal(lambda features: features["a"][:, :outputs], {"a": np.eye(3), "b": np.eye(3)}, labels)


def test_the_area_of_a_curve_is_its_mean_height():
    assert area([0.0, 1.0], [1.0, 0.0]) == 0.5
    assert area([3.0], [0.7]) == 0.7


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

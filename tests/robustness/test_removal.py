from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from concordant.errors import UsageError
from concordant.robustness.own_data import as_part
from concordant.robustness.removal import RATES, area, keep, measure_removal, thin


def additive(count=8, copies=10):
    """Votes of modalities: the model is right about an instance as soon as one modality that knows it is there."""
    labels = np.repeat(np.arange(count) % 2, copies)
    known = {"a": slice(0, 2), "b": slice(2, 5), "c": slice(5, 8)}  # which eighths a modality knows
    x = {}
    for name, where in known.items():
        told = np.zeros((count, 2))
        told[where, 0] = 2 * (np.arange(count)[where] % 2) - 1
        told[where, 1] = 1
        x[name] = np.repeat(told, copies, 0)
    return x, labels


def model(features):
    vote = sum(x[:, 0] for x in features.values())
    import torch

    return torch.stack([-vote, vote - 1e-3], 1)  # nobody knows: class 0


def test_shapley_values_of_an_additive_toy_are_their_closed_form():
    x, labels = additive()
    found = measure_removal(model, x, labels)
    # Without a vote the model says 0, so a modality adds the odd instances that it knows: an eighth each.
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


@given(st.integers(0, 1000), st.integers(1, 5), st.floats(0, 0.95))
def test_thinning_leaves_one_and_is_nested(seed, modalities, rate):
    count = 40
    draws = np.random.default_rng(seed)
    x = {f"m{k}": draws.standard_normal((count, 2)) + 5 for k in range(modalities)}
    lacking = draws.random(count) < 0.2
    part = as_part(x, np.zeros(count, int), present={"m0": ~lacking})
    some, more = thin(part, rate / 2, seed), thin(part, rate, seed)
    here = {which: np.stack([p.present[name] for name in x], 1) for which, p in (("some", some), ("more", more))}
    assert not (here["more"] & ~here["some"]).any()
    had = (~lacking | (modalities > 1)).sum()
    assert here["more"].any(1).sum() == had
    assert not here["more"][lacking, 0].any()
    for name in x:
        gone = ~more.present[name]
        assert (more.inputs[name][gone] == 0).all()
        assert np.array_equal(more.inputs[name][~gone], part.inputs[name][~gone])


def test_what_is_not_kept_is_absent_and_its_values_gone():
    part = as_part({"a": np.ones((3, 2)), "b": np.ones((3, 2))}, [0, 1, 0])
    kept = keep(part, {"a"})
    assert not kept.present["b"].any()
    assert (kept.inputs["b"] == 0).all()
    assert "a" not in kept.present


def test_beyond_six_modalities_values_are_sampled_with_errors():
    draws = np.random.default_rng(0)
    labels = draws.integers(0, 2, 60)
    x = {f"m{k}": (labels[:, None] * 2 - 1) + draws.standard_normal((60, 1)) for k in range(7)}

    def vote(features):
        import torch

        total = sum(v[:, 0] for v in features.values())
        return torch.stack([-total, total], 1)

    found = measure_removal(vote, x, labels, rates=(0.5,))
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


def test_the_area_of_a_curve_is_its_mean_height():
    assert area([0.0, 1.0], [1.0, 0.0]) == 0.5
    assert area([3.0], [0.7]) == 0.7

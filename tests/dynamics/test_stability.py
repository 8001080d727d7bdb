"""Steadiness and flatness in closed form: white noise, trends, planted spikes, quadratics."""

import math

import numpy as np
import pytest
import torch

from concordant.dynamics.stability import SHIFT, loss_variance, sharpness, spikes, summarise
from concordant.errors import UsageError


def test_the_variance_of_white_noise_is_found_and_that_of_warm_up_is_left_out():
    noise = np.random.default_rng(0).normal(0, 0.3, 20000)
    noise[:9000] *= 100
    assert loss_variance(noise) == pytest.approx(0.09, rel=0.05)


def test_a_straight_trend_has_no_variance_and_adds_none():
    trend = np.linspace(3, 1, 400)
    noise = np.random.default_rng(1).normal(0, 0.1, 400)
    assert loss_variance(trend) == pytest.approx(0, abs=1e-20)
    assert loss_variance(trend + noise) == pytest.approx(loss_variance(noise), rel=1e-9)


def test_the_variance_is_that_around_the_centred_mean():
    losses = np.random.default_rng(2).normal(size=160)
    half = losses[80:]
    residuals = [half[i] - np.mean(half[i - 12 : i + 13]) for i in range(12, 68)]
    assert loss_variance(losses) == pytest.approx(np.mean(np.square(residuals)) * 25 / 24)


@pytest.mark.parametrize("count", [0, 1, 10])
def test_too_few_steps_have_no_variance(count):
    assert loss_variance(np.arange(count)) is None


def test_eleven_steps_are_enough():
    assert loss_variance([9.0] * 5 + [0.0, 1.0] * 3) == pytest.approx(np.mean([(2 / 3) ** 2] * 4) * 3 / 2)


def test_a_planted_spike_is_counted_once():
    losses = 1 + 0.1 * np.random.default_rng(3).uniform(-1, 1, 300)
    assert spikes(losses) == []
    losses[200] = 3
    assert spikes(losses) == [201]


def test_a_spike_is_six_deviations_above_the_median_of_the_steps_before():
    before = [1.0, 1.1, 0.9, 1.2, 0.8] * 5  # median 1, median absolute deviation 0.1
    assert spikes([*before, 1.59]) == []
    assert spikes([*before, 1.61]) == [26]
    assert spikes([*before, 1.61], times=7) == []


def test_rounding_on_a_flat_loss_and_drops_are_no_spikes():
    assert spikes([1.0] * 30 + [1.0 + 1e-9] + [0.2] * 5) == []


def test_a_fall_from_the_start_is_no_spike():
    assert spikes(np.exp(-np.arange(200) / 30)) == []


def test_the_first_window_is_never_a_spike():
    assert spikes([1.0] * 20 + [9.0]) == []


@pytest.mark.parametrize("function", [loss_variance, spikes])
def test_losses_must_be_a_finite_row(function):
    with pytest.raises(UsageError, match=r"losses must have the shape \(S,\), one per step; found \(2, 3\)"):
        function(np.ones((2, 3)))
    with pytest.raises(UsageError, match="losses must be finite; found nan"):
        function([1.0, math.nan])


def test_the_window_must_be_odd():
    with pytest.raises(UsageError, match="window must be odd and 3 or more; found 4"):
        loss_variance(np.ones(100), window=4)


class Quadratic(torch.nn.Module):
    """The loss is 1/2 sum(curvature * (w - at) ** 2)."""

    def __init__(self, curvature, at):
        super().__init__()
        self.weight = torch.nn.Parameter(at.clone())
        self.curvature, self.at = curvature, at

    def loss(self):
        return float((self.curvature * (self.weight.detach() - self.at) ** 2).sum()) / 2


def test_the_sharpness_of_a_round_bowl_is_its_closed_form():
    model = Quadratic(torch.full((50,), 8.0), torch.randn(50, generator=torch.Generator().manual_seed(0)))
    expected = 8 / 2 * (SHIFT * float(model.at.norm())) ** 2  # the same in every direction
    assert sharpness(model, model.loss, seed=0) == pytest.approx(expected, rel=1e-3)


def test_the_sharpness_of_any_bowl_is_near_its_mean_curvature():
    draws = torch.Generator().manual_seed(0)
    curvature = torch.rand(4000, generator=draws) * 6
    model = Quadratic(curvature, torch.randn(4000, generator=draws))
    expected = float(curvature.mean()) / 2 * (SHIFT * float(model.at.norm())) ** 2
    assert sharpness(model, model.loss, seed=0) == pytest.approx(expected, rel=0.05)


def test_weights_come_back_bit_for_bit_and_frozen_ones_never_move():
    model = torch.nn.Linear(7, 3)
    model.bias.requires_grad_(False)
    before = [p.detach().clone() for p in model.parameters()]
    seen = []

    def measure():
        seen.append([p.detach().clone() for p in model.parameters()])
        return 1.0

    state = torch.random.get_rng_state()
    assert sharpness(model, measure, seed=1, draws=3) == 0
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), before, strict=True))
    assert len(seen) == 4
    for weight, bias in seen[1:]:
        assert float((weight - before[0]).norm() / before[0].norm()) == pytest.approx(SHIFT, rel=1e-4)
        assert torch.equal(bias, before[1])


def test_weights_come_back_even_when_measuring_fails():
    model = torch.nn.Linear(2, 2)
    before = model.weight.detach().clone()
    answers = iter([1.0])
    with pytest.raises(StopIteration):
        sharpness(model, lambda: next(answers), seed=0)
    assert torch.equal(model.weight, before)


def test_the_same_seed_shifts_the_same_way_and_another_does_not():
    model = Quadratic(torch.arange(6.0), torch.ones(6))
    found = [sharpness(model, model.loss, seed=seed) for seed in (3, 3, 4)]
    assert found[0] == found[1] != found[2]


def test_a_loss_that_is_not_finite_has_no_sharpness():
    assert sharpness(torch.nn.Linear(2, 2), lambda: math.inf, seed=0) is None


def test_runs_are_summarised_over_seeds():
    def run(label, **measures):
        return {"label": label, "stability": {"spikes": 0, "final_score": 0.5, "sharpness": None, **measures}}

    found = summarise(
        [run("none", loss_variance=1.0), run("context", loss_variance=7.0), run("none", loss_variance=3.0)]
    )
    assert [(entry["label"], entry["seeds"]) for entry in found] == [("none", 2), ("context", 1)]
    assert found[0]["loss_variance"] == {"mean": 2.0, "std": pytest.approx(math.sqrt(2))}
    assert found[0]["spikes"] == {"mean": 0.0, "std": 0.0}
    assert found[1]["loss_variance"] == {"mean": 7.0, "std": None}
    assert found[0]["sharpness"] == {"mean": None, "std": None}

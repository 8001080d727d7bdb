"""OGM-GE: who is ahead is found as a loop finds it, and only that encoder is slowed down."""

import math

import numpy as np
import pytest
import torch

from concordant.benchmarks.catalogue import prepare
from concordant.errors import UsageError
from concordant.training.batches import to_tensors
from concordant.training.config import Variant, make_config
from concordant.training.methods.ogm_ge import GradientModulation, coefficients, unimodal_scores
from concordant.training.model import build_model


@pytest.fixture(scope="module")
def task():
    return prepare("digits", seed=0)


def build(task, calibrator="context"):
    config = make_config("digits", calibrators=(calibrator,), recipe={"width": 8})
    return build_model(task, config, Variant(calibrator, True), 0).train()


def backward(model, method, batch):
    out = model(batch.inputs, labels=batch.labels)
    loss = torch.nn.functional.cross_entropy(out.logits, batch.labels)
    method.loss(out, batch.labels, loss).backward()
    return out


def test_scores_are_the_probabilities_of_the_true_class_with_one_modality_alone(task):
    model = build(task).eval()
    batch = to_tensors(task.valid).take(slice(0, 12))
    batch.present["left"] = torch.arange(12) % 3 != 0
    out = model(batch.inputs, None, batch.present)
    scores = unimodal_scores(model, out, batch.labels)
    head = model.fusion.head
    for name in ("left", "right"):
        pooled = torch.nn.functional.adaptive_avg_pool2d(out.calibration.features[name], 2).flatten(1)
        start = {"left": 0, "right": 32 + 8}[name]  # the profile, a vector of 8, comes between
        logits = (pooled @ head.weight[:, start : start + 32].T + head.bias).detach().double().numpy()
        shares = []
        for row, (one, label) in enumerate(zip(logits, batch.labels, strict=True)):
            if out.calibration.present[row, out.calibration.names.index(name)]:
                shares.append(math.exp(one[label]) / np.exp(one).sum())
        assert scores[name] == pytest.approx(np.mean(shares), rel=1e-5)


def test_the_fusion_is_left_in_the_mode_it_was_in(task):
    model = build(task)
    batch = to_tensors(task.valid).take(slice(0, 8))
    unimodal_scores(model, model(batch.inputs), batch.labels)
    assert model.fusion.training


def test_coefficients_follow_the_formula_with_any_number_of_modalities():
    found = coefficients({"a": 0.6, "b": 0.3, "c": 0.1}, 0.5)
    assert found["a"] == pytest.approx(1 - math.tanh(0.5 * 0.6 / 0.2), rel=1e-5)
    assert found["b"] == found["c"] == 1.0
    assert coefficients({"a": 0.4, "b": 0.4}, 0.5) == {"a": 1.0, "b": 1.0}
    assert coefficients({"a": 0.4}, 0.5) == {"a": 1.0}


def test_only_weights_of_the_encoder_that_is_ahead_are_scaled(task):
    model = build(task, "none")
    method = GradientModulation(model, seed=0, noise=0)
    batch = to_tensors(task.train).take(slice(0, 32))
    backward(model, method, batch)
    before = {name: weight.grad.clone() for name, weight in model.named_parameters()}
    method.coefficients = {"left": 0.25, "right": 1.0, "profile": 1.0}
    method.modulate(0.1)
    for name, weight in model.named_parameters():
        slowed = name.startswith("encoders.left.") and weight.dim() > 1
        assert torch.equal(weight.grad, before[name] * (0.25 if slowed else 1.0)), name


def test_noise_has_the_spread_of_the_gradient_and_comes_from_the_seed(task):
    batch = to_tensors(task.train).take(slice(0, 32))
    found = []
    for seed in (0, 0, 1):
        model = build(task, "none")
        torch.manual_seed(0)  # of dropout
        method = GradientModulation(model, seed=seed)
        backward(model, method, batch)
        weight = max((w for w in model.encoders["right"].parameters() if w.dim() > 1), key=torch.numel)
        before = weight.grad.clone()
        method.coefficients = {"left": 0.25, "right": 1.0, "profile": 1.0}
        method.modulate(0.0)
        found.append(weight.grad - before)
        assert found[-1].std() == pytest.approx(float(before.std()), rel=0.15)
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_after_half_of_the_steps_gradients_are_left_alone(task):
    model = build(task, "none")
    method = GradientModulation(model, seed=0)
    backward(model, method, to_tensors(task.train).take(slice(0, 16)))
    before = [weight.grad.clone() for weight in model.parameters()]
    method.modulate(0.51)
    assert all(torch.equal(w.grad, b) for w, b in zip(model.parameters(), before, strict=True))


@pytest.mark.parametrize("name", ["alpha", "until", "noise"])
def test_negative_arguments_are_refused(task, name):
    with pytest.raises(UsageError, match=f"{name} must not be negative; found -1"):
        GradientModulation(build(task), seed=0, **{name: -1})

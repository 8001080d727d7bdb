"""Training methods: coefficients and weights follow the formulas, and each method trains with any calibrator."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from concordant.benchmarks.catalogue import prepare
from concordant.calibration import Perturbation
from concordant.errors import UsageError
from concordant.training.batches import to_tensors
from concordant.training.config import Variant, make_config
from concordant.training.methods import (
    _FLOOR,
    METHODS,
    GradientBlending,
    GradientModulation,
    TrainingMethod,
    blend,
    coefficients,
    mean_over,
    presence_of,
    unimodal_scores,
)
from concordant.training.model import build_model
from concordant.training.train import train
from concordant.training.validation import validation_score


@pytest.fixture(scope="module")
def task():
    return prepare("digits", seed=0)


def test_the_base_leaves_loss_and_gradients_as_they_are():
    model, loss = nn.Linear(2, 2), torch.tensor(3.0)
    method = TrainingMethod(model, seed=0)
    assert method.loss(None, torch.zeros(2), loss) is loss
    model(torch.ones(1, 2)).sum().backward()
    before = [p.grad.clone() for p in model.parameters()]
    method.modulate(0.5)
    method.observe(None, None)
    assert all(torch.equal(p.grad, one) for p, one in zip(model.parameters(), before, strict=True))


def test_the_model_is_no_part_of_the_method():
    model = nn.Linear(2, 2)
    method = TrainingMethod(model, seed=0)
    assert method.model is model
    assert list(method.parameters()) == list(method.children()) == []
    assert method.state_dict() == {}
    method.eval()
    assert model.training


def test_presence_is_that_of_the_rows_asked_for():
    present = torch.tensor([[True, False], [False, True], [True, True]])
    out = SimpleNamespace(calibration=SimpleNamespace(present=present, names=("audio", "visual")))
    assert presence_of(out, "visual", 2).tolist() == [False, True]
    assert presence_of(out, "audio", 3).tolist() == [True, False, True]


def test_a_mean_is_over_the_rows_that_count_whatever_the_others_hold():
    values = torch.tensor([torch.nan, 1.0, 5.0, torch.inf], requires_grad=True)
    found = mean_over(values, torch.tensor([False, True, True, False]))
    assert found.item() == 3
    assert torch.autograd.grad(found, values)[0].tolist() == [0, 0.5, 0.5, 0]


@pytest.mark.parametrize("count", [0, 3])
def test_the_mean_over_no_row_is_zero_with_no_gradient(count):
    values = torch.full((count,), torch.nan, requires_grad=True)
    found = mean_over(values, torch.zeros(count, dtype=torch.bool))
    assert found.item() == 0
    assert torch.autograd.grad(found, values)[0].tolist() == [0] * count


def test_the_rows_of_all_processes_count_alike():
    other = torch.tensor([4.0]), torch.tensor([True])
    ranks = SimpleNamespace(gather=lambda *mine: [torch.cat(pair) for pair in zip(mine, other, strict=True)])
    assert mean_over(torch.tensor([1.0, 7.0, 1.0]), torch.tensor([True, False, True]), ranks).item() == 2


def test_entries_say_what_they_are_in_a_line():
    assert list(METHODS) == ["none", "ogm-ge", "gradient-blending"]
    for name in METHODS:
        assert 0 < len(METHODS[name].summary) < 100
        assert METHODS[name].paper or name == "none"


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("variant", [Variant("none", False), Variant("joint", True), Variant("context", True)])
def test_it_learns_beside_any_calibrator_and_repeats_itself(task, method, variant):
    config = make_config(
        "digits", calibrators=(variant.calibrator,), method=method, recipe={"width": 16, "steps": 60, "evaluations": 3}
    )
    one = train(task, config, variant, 0)
    settings = Perturbation() if variant.perturbed else None
    assert validation_score(one.model, to_tensors(task.valid), settings, 0)[0] > 0.6
    again = train(task, config, variant, 0)
    assert all(torch.equal(a, b) for a, b in zip(one.model.parameters(), again.model.parameters(), strict=True))


def test_methods_train_differently(task):
    weights = []
    for method in METHODS:
        config = make_config("digits", calibrators=("none",), method=method, recipe={"steps": 10, "width": 8})
        weights.append(next(train(task, config, Variant("none", False), 0).model.parameters()))
    assert all(not torch.equal(weights[0], other) for other in weights[1:])


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


@pytest.fixture
def model(task):
    return build_model(task, make_config("digits", recipe={"width": 8}), Variant("context", True), 0).train()


def test_at_first_all_losses_weigh_the_same(task, model):
    method = GradientBlending(model, seed=0)
    batch = to_tensors(task.valid).take(slice(0, 10))
    out = model.eval()(batch.inputs)
    joint = F.cross_entropy(out.logits, batch.labels)
    expected = [joint]
    for name, head in method.heads.items():
        x = out.calibration.features[name]
        logits = (x.mean((2, 3)) if x.dim() == 4 else x) @ head.weight.T + head.bias
        expected.append(F.cross_entropy(logits, batch.labels))
    torch.testing.assert_close(method.loss(out, batch.labels, joint), sum(expected) / 4)


def test_a_modality_s_loss_is_over_the_rows_that_have_it(task, model):
    method = GradientBlending(model, seed=0)
    batch = to_tensors(task.valid).take(slice(0, 10))
    rows = torch.arange(10) < 4
    batch.present["left"] = rows
    out = model.eval()(batch.inputs, None, batch.present)
    head = method.heads["left"]
    logits = out.calibration.features["left"][rows].mean((2, 3)) @ head.weight.T + head.bias
    expected = F.cross_entropy(logits, batch.labels[rows])
    torch.testing.assert_close(method.unimodal_losses(out, batch.labels)["alone.left"], expected)


def test_gradients_reach_every_head_and_encoder(task, model):
    method = GradientBlending(model, seed=0)
    batch = to_tensors(task.valid).take(slice(0, 10))
    out = model(batch.inputs)
    method.loss(out, batch.labels, torch.zeros(())).backward()
    for weight in [*method.parameters(), *model.encoders.parameters()]:
        assert weight.grad.abs().sum() > 0


def test_weights_favour_what_generalises_and_does_not_overfit():
    before = {"joint": (2.0, 2.1), "alone.a": (2.0, 2.1), "alone.b": (2.0, 2.1)}
    after = {"joint": (1.0, 1.3), "alone.a": (1.5, 1.9), "alone.b": (0.5, 2.3)}
    raw = {"joint": 0.8 / 0.2**2, "alone.a": 0.2 / 0.3**2, "alone.b": 0.0}
    shares = {name: max(value / sum(raw.values()), _FLOOR) for name, value in raw.items()}
    found = blend(before, after, {})
    assert sum(found.values()) == pytest.approx(1)
    for name, share in shares.items():
        assert found[name] == pytest.approx(share / sum(shares.values()))


def test_weights_stay_where_nothing_generalised():
    before, after = {"joint": (1.0, 1.0)}, {"joint": (0.5, 1.5)}
    assert blend(before, after, {"joint": 0.7}) == {"joint": 0.7}


def test_observing_weighs_anew_from_the_second_time_on(task, model):
    method = GradientBlending(model.eval(), seed=0)
    train, valid = to_tensors(task.train), to_tensors(task.valid)
    method.observe(train, valid)
    assert set(method.weights.values()) == {1 / 4}
    with torch.no_grad():
        model.fusion.head.weight.mul_(0.5)
    method.observe(train, valid)
    assert method.weights["joint"] > max(w for name, w in method.weights.items() if name != "joint")
    assert sum(method.weights.values()) == pytest.approx(1)

"""Gradient blending: the weights follow the formula, every loss counts as it is weighed."""

import pytest
import torch
import torch.nn.functional as F

from concordant.benchmarks.catalogue import prepare
from concordant.training.batches import to_tensors
from concordant.training.config import Variant, make_config
from concordant.training.methods.gradient_blending import FLOOR, GradientBlending, blend
from concordant.training.model import build_model


@pytest.fixture(scope="module")
def task():
    return prepare("digits", seed=0)


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
    shares = {name: max(value / sum(raw.values()), FLOOR) for name, value in raw.items()}
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

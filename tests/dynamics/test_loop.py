import numpy as np
import pytest
import torch
from torch import nn

from concordant import ContextualCalibrator
from concordant.analysis import LoopRecorder
from concordant.errors import UsageError


def series_of(recorder, quantity, of=""):
    (found,) = [one for one in recorder.series() if (one["quantity"], one["of"]) == (quantity, of)]
    return found


def test_numbers_are_those_of_autograd_and_of_plain_descent():
    torch.manual_seed(0)
    encoder, head = nn.Linear(3, 4), nn.Linear(4, 1)
    optimizer = torch.optim.SGD([*encoder.parameters(), *head.parameters()], lr=0.1)
    recorder = LoopRecorder({"encoder": encoder, "head": head, "nothing": nn.ReLU()}, every=2)
    expected = {"norm": [], "ratio": [], "loss": []}
    for _ in range(5):
        features = {"a": encoder(torch.randn(8, 3))}
        loss = head(features["a"]).square().mean()
        expected["loss"].append(float(loss.detach()))
        gradient = torch.autograd.grad(loss, features["a"], retain_graph=True)[0]
        expected["norm"].append(float(gradient.norm()))
        sizes = float(torch.cat([p.detach().flatten() for p in head.parameters()]).norm())
        with recorder.step(loss, features=features):
            optimizer.zero_grad()
            loss.backward()
            step = 0.1 * float(torch.cat([p.grad.flatten() for p in head.parameters()]).norm())
            optimizer.step()
        expected["ratio"].append(step / sizes)
    assert series_of(recorder, "loss")["value"] == pytest.approx(expected["loss"])
    assert series_of(recorder, "gradient_norm", "a")["step"] == [1, 3, 5]
    assert series_of(recorder, "gradient_norm", "a")["value"] == pytest.approx(expected["norm"][::2], rel=1e-5)
    assert series_of(recorder, "update_ratio", "head")["value"] == pytest.approx(expected["ratio"][::2], rel=1e-3)
    assert not [one for one in recorder.series() if one["of"] == "nothing"]


def test_the_task_loss_counts_for_stability():
    recorder = LoopRecorder({})
    for number in range(40):
        whole = torch.tensor(100.0 if number == 30 else 1.0, requires_grad=True)
        with recorder.step(whole, task_loss=torch.tensor(1.0)):
            pass
    assert series_of(recorder, "task_loss")["value"] == [1.0] * 40
    assert recorder.stability() == {"loss_variance": 0.0, "spikes": 0}


def test_opposed_losses_conflict_fully():
    weight = nn.Linear(2, 1)
    recorder = LoopRecorder({}, every=1)
    out = weight(torch.ones(3, 2)).sum()
    with recorder.step(out, losses={"a": out, "b": -out}, shared=list(weight.parameters())):
        out.backward()
    assert series_of(recorder, "conflict", "a|b")["value"] == pytest.approx([-1.0], abs=1e-6)


def test_reliability_gates_and_evaluations_are_kept(planted):
    recorder = LoopRecorder({"head": planted.ours.head})
    x = {name: torch.from_numpy(values) for name, values in planted.test.x.items()}
    out = planted.ours(x).calibration
    with recorder.step(torch.zeros((), requires_grad=True) * 1, calibration=out, features={"a": x["a"]}):
        pass
    recorder.evaluated(validation_loss=0.5, validation_score=0.9, probes={"a": 0.8, "b": None})
    expected = np.quantile(out.reliability[:, 1].detach().numpy(), [0.1, 0.5, 0.9])
    found = [series_of(recorder, f"reliability_{mark}", "b")["value"][0] for mark in ("q10", "q50", "q90")]
    assert found == pytest.approx(expected, abs=1e-5)
    assert series_of(recorder, "gate_q50", "a")["value"][0] > 1
    assert series_of(recorder, "gradient_norm", "a")["value"] == [None]  # inputs have no gradient
    assert series_of(recorder, "probe", "b")["value"] == [None]
    assert series_of(recorder, "validation_score")["value"] == [0.9]
    assert recorder.stability() == {"loss_variance": None, "spikes": 0}


def test_a_calibrator_in_training_is_looked_at_without_being_changed():
    calibrator = ContextualCalibrator({"a": 3, "b": 2}, seed=0)
    features = {"a": torch.randn(6, 3), "b": torch.randn(6, 2)}

    def train(recorder):
        torch.manual_seed(3)
        model = ContextualCalibrator({"a": 3, "b": 2}, seed=0)
        optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
        for _ in range(4):
            out = model(features)
            loss = out.features["a"].square().mean() + model.auxiliary_loss()
            optimizer.zero_grad()
            if recorder is None:
                loss.backward()
                optimizer.step()
            else:
                with recorder.step(loss, calibration=out, features=out.features):
                    loss.backward()
                    optimizer.step()
        return model.state_dict()

    plain, watched = train(None), train(LoopRecorder({"calibrator": calibrator}, every=1))
    assert all(torch.equal(plain[name], watched[name]) for name in plain)


def test_wrong_arguments_are_refused():
    recorder = LoopRecorder({})
    with (
        pytest.raises(UsageError, match=r"loss must be a scalar; found the shape \(2,\)"),
        recorder.step(torch.ones(2)),
    ):
        pass
    with pytest.raises(UsageError, match="losses need shared"), recorder.step(torch.ones(()), losses={}):
        pass
    with pytest.raises(UsageError, match="must be 1 or more"):
        LoopRecorder({}, every=0)

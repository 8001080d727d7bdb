import copy

import numpy as np
import pytest
import torch
from scipy.special import expit

from concordant import ContextualCalibrator, UsageError
from concordant.calibration.modulation import (
    START,
    gate_from_activation,
    reliability_from_shift,
    shift_from_reliability,
)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("size", [1, 7, 64])
def test_zeros_give_exactly_one(dtype, size):
    zeros, ones = torch.zeros(size, dtype=dtype), torch.ones(size, dtype=dtype)
    assert torch.equal(reliability_from_shift(zeros), ones)
    assert torch.equal(reliability_from_shift(-zeros), ones)
    assert torch.equal(gate_from_activation(zeros), ones)


def test_reliability_is_a_sigmoid_over_its_start():
    shift = torch.linspace(-29, 40, 500, dtype=torch.float64)
    expected = expit(3 + shift.numpy()) / expit(3.0)
    np.testing.assert_allclose(reliability_from_shift(shift), expected, rtol=1e-12)
    assert START == 3


def test_gate_is_a_scaled_tangent():
    x = torch.linspace(-4, 4, 50, dtype=torch.float64)
    np.testing.assert_allclose(gate_from_activation(x), 1 + np.tanh(x.numpy()) / 2, rtol=1e-12)


@pytest.mark.parametrize("extreme", [-1e30, 1e30, -300.0, 300.0])
def test_extremes_stay_in_range_with_finite_gradients(extreme):
    x = torch.tensor([extreme], requires_grad=True)
    reliability, gate = reliability_from_shift(x), gate_from_activation(x)
    (reliability + gate).backward()
    assert 0 < reliability.item() < 1.05
    assert 0.5 <= gate.item() <= 1.5
    assert x.grad.isfinite().all()


def test_a_shift_from_a_reliability_leads_back_to_it():
    wanted = torch.tensor([1.0, 0.9, 0.5, 1e-3, 0.0], dtype=torch.float64)
    torch.testing.assert_close(reliability_from_shift(shift_from_reliability(wanted)), wanted, atol=2e-6, rtol=0)
    assert not shift_from_reliability(torch.ones(1)).any()


# Tolerance


@pytest.fixture
def calibrate():
    """A calibrator that distrusts every other instance."""
    calibrator = ContextualCalibrator({"a": 4, "b": 3}, layouts="bd", seed=0)
    with torch.no_grad():
        for head in calibrator.heads.values():
            head.reliability.weight.normal_(0, 3, generator=torch.Generator().manual_seed(1))
    return calibrator.eval()


def features():
    draws = torch.Generator().manual_seed(0)
    return {"a": torch.randn(64, 4, generator=draws), "b": torch.randn(64, 3, generator=draws)}


def test_within_the_tolerance_nothing_changes_and_beyond_it_less(calibrate):
    before = calibrate(features())
    calibrate.tolerate([1.0, 0.5])
    after = calibrate(features())
    shift = before.logits - 3
    expected = reliability_from_shift((shift + torch.tensor([1.0, 0.5])).clamp(max=0))
    torch.testing.assert_close(after.reliability, expected)
    assert torch.equal(after.logits, before.logits)  # for detection
    for column, (name, x) in enumerate(features().items()):
        clean = shift[:, column] > -0.5 if name == "b" else shift[:, column] > -1
        assert 0 < clean.sum() < 64
        assert torch.equal(after.gates[name], before.gates[name])
        kept = after.reliability[:, column] == 1
        assert torch.equal(kept, clean)
        assert torch.equal(after.features[name][kept], (x * after.gates[name])[kept])


def test_training_does_not_depend_on_it(calibrate):
    calibrate.train()
    outs = []
    for margin in (None, 3.0):
        calibrate.tolerate(margin)
        torch.manual_seed(3)  # of dropout
        outs.append(copy.deepcopy(calibrate)(features(), generator=torch.Generator().manual_seed(2)).reliability)
    assert torch.equal(*outs)
    assert (outs[0] > 1).any()


def test_the_state_dictionary_says_whether_there_is_one(calibrate):
    assert "tolerance" not in calibrate.state_dict()
    plain = {name: value.clone() for name, value in calibrate.state_dict().items()}
    calibrate.tolerate(2)
    other = ContextualCalibrator({"a": 4, "b": 3}, layouts="bd").eval()
    other.load_state_dict(calibrate.state_dict())
    assert other.tolerance.tolist() == [2.0, 2.0]
    assert torch.equal(other(features()).reliability, calibrate(features()).reliability)
    other.load_state_dict(plain)
    assert other.tolerance is None
    calibrate.tolerate(None)
    assert torch.equal(other(features()).reliability, calibrate(features()).reliability)


@pytest.mark.parametrize("margin", [-1.0, [1.0], [1.0, -0.1], float("nan")])
def test_a_wrong_margin_is_refused(calibrate, margin):
    with pytest.raises(UsageError, match="margin must be a number of 0 or more, or one for each of a, b; found"):
        calibrate.tolerate(margin)


def test_a_margin_may_be_any_number():
    calibrate = ContextualCalibrator({"a": 3, "b": 2})
    for margin in (2, np.float32(2), np.int64(2), torch.tensor(2.0), [2, 2.0], torch.tensor([2, 2])):
        calibrate.tolerate(margin)
        assert calibrate.tolerance.tolist() == [2.0, 2.0]
    with pytest.raises(UsageError, match=r"margin must be a number of 0 or more, .*; found \[1, 'x'\]"):
        calibrate.tolerate([1, "x"])

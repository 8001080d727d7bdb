import numpy as np
import pytest
import torch
from scipy.special import expit

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

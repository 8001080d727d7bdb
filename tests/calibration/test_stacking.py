import pytest
import torch
import torch.nn.functional as F
from torch import nn

from concordant.calibration.stacking import dropout_stacked, linear_stacked


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_layers_give_what_they_give_one_by_one(dtype):
    layers = [nn.Linear(5, 3) for _ in range(4)]
    x = torch.randn(4, 7, 5, dtype=dtype)
    found = linear_stacked(layers, x)
    for layer, given, one in zip(layers, x, found, strict=True):
        torch.testing.assert_close(one, F.linear(given, layer.weight.to(dtype), layer.bias.to(dtype)))
    found.sum().backward()
    for layer, given in zip(layers, x, strict=True):
        torch.testing.assert_close(layer.weight.grad, given.sum(0).float().expand(3, 5))
        assert torch.equal(layer.bias.grad, torch.full((3,), 7.0))


@pytest.mark.parametrize("shape", [(3, 4, 5), (2, 64, 64), (3, 1, 300)])
def test_dropout_draws_as_one_after_another(shape):
    x = torch.randn(shape).requires_grad_()
    torch.manual_seed(3)
    expected = torch.stack([F.dropout(part, 0.3) for part in x])
    after = torch.rand(2)
    torch.manual_seed(3)
    found = dropout_stacked(x, 0.3)
    assert torch.equal(found, expected)
    assert torch.equal(torch.rand(2), after)
    (gradient,) = torch.autograd.grad(found.sum(), x)
    assert torch.equal(gradient != 0, found != 0)


def test_no_dropout_draws_nothing():
    x, state = torch.randn(2, 3, 4), torch.get_rng_state()
    assert dropout_stacked(x, 0.0) is x
    assert torch.equal(torch.get_rng_state(), state)

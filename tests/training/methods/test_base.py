"""Training by the task's loss alone, and means over the rows that count."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from concordant.training.methods.base import TrainingMethod, mean_over, presence_of


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

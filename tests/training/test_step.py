"""Losses of the training step, with and without weights."""

import math

import pytest
import torch

from concordant.training.step import absolute_error, cross_entropy, squared_error

REAL, TARGETS = torch.tensor([[3.0], [1.0]]), torch.tensor([1.0, 2.0])


def test_the_loss_of_classes_is_the_weighted_cross_entropy():
    logits, labels = torch.tensor([[1.0, 2.0, 0.5], [0.0, 0.0, 0.0]]), torch.tensor([1, 0])
    first, second = math.log(math.exp(1) + math.exp(2) + math.exp(0.5)) - 2, math.log(3)
    assert cross_entropy(logits, labels).item() == pytest.approx((first + second) / 2)
    assert cross_entropy(logits, labels, torch.tensor([2.0, 0.5])).item() == pytest.approx(first + second / 4)


def test_losses_of_real_targets():
    weights = torch.tensor([2.0, 0.0])
    assert (squared_error(REAL, TARGETS).item(), squared_error(REAL, TARGETS, weights).item()) == (2.5, 4.0)
    assert (absolute_error(REAL, TARGETS).item(), absolute_error(REAL, TARGETS, weights).item()) == (1.5, 2.0)

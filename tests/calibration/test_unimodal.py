"""Unimodal predictions against SciPy and scikit-learn."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax
from scipy.stats import entropy
from sklearn.metrics import log_loss

from concordant import ContextualCalibrator, seeding
from concordant.calibration.result import Modulation
from concordant.calibration.unimodal import certainty, overlap


def predictions(rows, modalities, classes, scale=3.0, seed=0):
    draws = seeding.generator(seed, "opinions")
    return scale * torch.randn(rows, modalities, classes, generator=draws, dtype=torch.float64)


sizes = given(st.integers(1, 4), st.integers(2, 5), st.integers(2, 30), st.floats(0, 30))


@sizes
def test_certainty_is_that_of_the_entropy(rows, modalities, classes, scale):
    logits = predictions(rows, modalities, classes, scale)
    here = torch.ones(rows, modalities, dtype=torch.bool)
    expected = 1 - 2 * entropy(softmax(logits.numpy(), 2), axis=2) / np.log(classes)
    np.testing.assert_allclose(certainty(logits.log_softmax(2), here), expected, atol=1e-9)


@sizes
def test_overlap_is_the_bhattacharyya_coefficient(rows, modalities, classes, scale):
    logits = predictions(rows, modalities, classes, scale)
    here = torch.ones(rows, modalities, dtype=torch.bool)
    found = overlap(logits.log_softmax(2), here)
    p = softmax(logits.numpy(), 2)
    for a in range(modalities):
        for b in range(modalities):
            expected = 2 * np.sqrt(p[:, a] * p[:, b]).sum(1) - 1
            np.testing.assert_allclose(found[:, a, b], expected, atol=1e-9)
    assert found.abs().max() <= 1 + 1e-9
    torch.testing.assert_close(found, found.mT)


def test_what_is_absent_has_neither():
    log_p = predictions(2, 3, 4).log_softmax(2)
    here = torch.tensor([[True, False, True], [True, True, True]])
    assert (certainty(log_p, here)[0, 1], overlap(log_p, here)[0, 1].abs().sum()) == (0, 0)
    assert overlap(log_p, here)[0, 0, 2] != 0


def test_the_loss_is_the_mean_over_what_counts():
    logits, labels = predictions(6, 2, 3), torch.tensor([0, 1, 2, 0, 1, 2])
    counted = torch.tensor([[True, True]] * 3 + [[False, True]] * 2 + [[False, False]])
    rows = [(row, m) for row in range(6) for m in range(2) if counted[row, m]]
    probabilities = np.stack([softmax(logits[row, m].numpy()) for row, m in rows])
    expected = log_loss([labels[row].item() for row, _ in rows], probabilities, labels=[0, 1, 2])
    module = ContextualCalibrator({"a": 2, "b": 2}, classes=3, unimodal_weight=1.0)
    modulation, present = Modulation(logits, {}, unimodal=logits.log_softmax(2)), torch.ones_like(counted)
    assert module.own_loss(modulation, counted, labels).item() == pytest.approx(expected)
    assert module.own_loss(modulation, present, labels, ~counted).item() == pytest.approx(expected)
    assert module.own_loss(modulation, torch.zeros_like(counted), labels).item() == 0

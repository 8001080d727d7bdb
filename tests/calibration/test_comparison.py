import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from concordant.calibration.comparison import PAIR_LIMIT, agreement, cue_count, cues, normalise
from tests.calibration import reference


def example(count, seed=0, batch=5, k=8):
    draws = torch.Generator().manual_seed(seed)
    embeddings = normalise(torch.randn(batch, count, k, generator=draws, dtype=torch.float64))
    present = torch.rand(batch, count, generator=draws) < 0.7
    present[0] = True
    energies = [torch.randn(batch, 1 + n % 2, generator=draws, dtype=torch.float64) for n in range(count)]
    return embeddings, present, energies


def test_normalise_gives_centred_unit_vectors():
    x = torch.randn(3, 4, 16, dtype=torch.float64)
    centred = x.numpy() - x.numpy().mean(-1, keepdims=True)
    expected = centred / np.linalg.norm(centred, axis=-1, keepdims=True)
    np.testing.assert_allclose(normalise(x), expected, atol=1e-12)


def test_normalise_of_a_constant_is_finite_with_its_gradient():
    x = torch.zeros(2, 8, requires_grad=True)
    normalise(x).sum().backward()
    assert x.grad.isfinite().all()


@settings(deadline=None, max_examples=30)
@given(st.integers(2, 9), st.integers(0, 99), st.randoms(use_true_random=False))
def test_agreement_and_cues_equal_the_reference(count, seed, random):
    embeddings, present, energies = example(count, seed)
    cosines = agreement(embeddings, present)
    torch.testing.assert_close(cosines, reference.cosines(embeddings, present))
    order = list(range(count))
    random.shuffle(order)
    found = cues(order, cosines, energies, present, 8)
    for one, other in zip(found, reference.cues(cosines * 8**0.5 / 2, energies, present, order), strict=True):
        torch.testing.assert_close(one, other)
    assert [one.shape[1] for one in found] == [cue_count(n, [e.shape[1] for e in energies]) for n in range(count)]


def test_three_vectors_have_six_scalars_and_two_indicators():
    assert cue_count(0, [1, 1, 1]) == 6 + 2


@pytest.mark.parametrize("count", [7, 12])
def test_cues_stay_few_for_many_modalities(count):
    assert cue_count(0, [2] * count) == 12


@pytest.mark.parametrize("count", [3, PAIR_LIMIT, PAIR_LIMIT + 1])
def test_cues_have_finite_gradients_when_only_one_is_present(count):
    embeddings, _, energies = example(count)
    embeddings.requires_grad_()
    present = torch.zeros(5, count, dtype=torch.bool)
    present[:, 0] = True
    cues(range(count), agreement(embeddings, present), energies, present, 8)[0].sum().backward()
    assert torch.equal(embeddings.grad, torch.zeros_like(embeddings))


def test_cues_after_inference_mode_have_gradients():
    embeddings, present, energies = example(5, batch=3, k=6)
    with torch.inference_mode():
        cues(range(5), agreement(embeddings, present), energies, present, 6)
    embeddings.requires_grad_()
    cues(range(5), agreement(embeddings, present), energies, present, 6)[0].sum().backward()
    assert embeddings.grad.abs().sum() > 0

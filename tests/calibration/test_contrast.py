import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from concordant.calibration.contrast import TEMPERATURE, _plain, closeness, contrast, sides


def unit(batch, count, seed, size=5):
    draws = torch.Generator().manual_seed(seed)
    return torch.nn.functional.normalize(torch.randn(batch, count, size, generator=draws, dtype=torch.float64), dim=-1)


def classes(batch, seed):
    labels = torch.randint(3, (batch,), generator=torch.Generator().manual_seed(seed))
    return labels.unsqueeze(0) == labels.unsqueeze(1)


@settings(deadline=None, max_examples=30)
@given(st.integers(2, 9), st.integers(2, 5), st.booleans(), st.integers(0, 999))
def test_it_and_its_gradient_are_those_of_the_plain_operations(batch, count, labelled, seed):
    one = unit(batch, count, seed).requires_grad_()
    other = one.detach().clone().requires_grad_()
    same = classes(batch, seed) if labelled else None
    found, expected = 3 * contrast(one, same), 3 * _plain(other, same)
    torch.testing.assert_close(found, expected)
    found.backward()
    expected.backward()
    torch.testing.assert_close(one.grad, other.grad)


@pytest.mark.parametrize("labelled", [False, True])
def test_gradients_of_first_and_second_order_are_those_of_differences(labelled):
    z, same = unit(4, 3, 1).requires_grad_(), classes(4, 1) if labelled else None
    torch.autograd.gradcheck(lambda x: contrast(x, same), (z,))
    torch.autograd.gradgradcheck(lambda x: contrast(x, same), (z,))


def test_a_graph_that_is_kept_gives_the_same_gradient_again():
    z = unit(6, 3, 2).requires_grad_()
    loss = contrast(z)
    once = torch.autograd.grad(loss, z, retain_graph=True)
    twice = torch.autograd.grad(loss, z)
    assert torch.equal(once[0], twice[0])


def test_the_gradient_is_recorded_under_vmap():
    z = torch.stack([unit(5, 3, seed) for seed in range(3)]).requires_grad_()
    together = torch.vmap(contrast)(z)
    alone = torch.stack([contrast(one) for one in z])
    torch.testing.assert_close(together, alone)
    torch.testing.assert_close(*(torch.autograd.grad(loss.sum(), z)[0] for loss in (together, alone)))


def test_sides_are_the_modalities_of_every_pair():
    z = unit(2, 4, 3)
    one, other = sides(z)
    pairs = [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]
    for place, (a, b) in enumerate(pairs):
        assert torch.equal(one[place], z[:, a])
        assert torch.equal(other[place], z[:, b])


def test_closeness_is_never_above_zero_by_more_than_rounding():
    one, other = sides(torch.ones(3, 2, 4) / 2)
    near = closeness(one, other)
    assert near.abs().max() < 1e-5
    torch.testing.assert_close(closeness(one, -other), torch.full((1, 3, 3), -2 / TEMPERATURE))

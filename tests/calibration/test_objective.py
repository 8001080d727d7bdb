import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import log_loss

from concordant.calibration.objective import agreement_loss, clean_loss
from tests.calibration import reference


def test_clean_loss_is_the_log_loss_of_what_counts():
    draws = torch.Generator().manual_seed(0)
    logits = torch.randn(40, 3, generator=draws, dtype=torch.float64)
    perturbed = torch.rand(40, 3, generator=draws) < 0.3
    present = torch.rand(40, 3, generator=draws) < 0.6
    counted = present & (present.sum(1, keepdim=True) > 1)
    assert not torch.equal(counted, present)
    expected = log_loss((~perturbed[counted]).numpy(), torch.sigmoid(logits[counted]).numpy())
    assert clean_loss(logits, perturbed, present).item() == pytest.approx(expected)


def test_clean_loss_of_nothing_is_zero_with_zero_gradient():
    logits = torch.randn(4, 3, requires_grad=True)
    alone = torch.eye(3, dtype=torch.bool)[[0, 1, 2, 0]]
    loss = clean_loss(logits, torch.zeros(4, 3, dtype=torch.bool), alone)
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(logits.grad, torch.zeros(4, 3))


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 9), st.integers(2, 4), st.sampled_from([None, 1, 2, 3, 5]), st.integers(0, 999))
def test_agreement_loss_equals_the_reference(batch, count, classes, seed):
    draws = torch.Generator().manual_seed(seed)
    z = torch.nn.functional.normalize(torch.randn(batch, count, 4, generator=draws, dtype=torch.float64), dim=-1)
    clean = torch.rand(batch, generator=draws) < 0.7
    present = torch.rand(batch, count, generator=draws) < 0.8
    labels = None if classes is None else torch.randint(classes, (batch,), generator=draws)
    expected = reference.agreement_loss(z, clean, present, labels).item()
    assert agreement_loss(z, clean, present, labels).item() == pytest.approx(expected, abs=1e-9)


def everything(batch, count=2):
    z = torch.nn.functional.normalize(torch.randn(batch, count, 4), dim=-1).requires_grad_()
    return z, torch.ones(batch, dtype=torch.bool), torch.ones(batch, count, dtype=torch.bool)


def test_two_classes_use_the_own_pair():
    z, clean, present = everything(6)
    two = agreement_loss(z, clean, present, torch.tensor([0, 1, 0, 1, 1, 0]))
    assert torch.equal(two, agreement_loss(z, clean, present, None))


def test_three_classes_use_the_whole_class():
    z, clean, present = everything(6)
    three = agreement_loss(z, clean, present, torch.tensor([0, 1, 2, 0, 1, 2]))
    assert three < agreement_loss(z, clean, present, None)


def test_excluded_rows_have_no_influence_and_no_gradient():
    z, clean, present = everything(6, 3)
    clean[1], present[2] = False, False
    loss = agreement_loss(z, clean, present, None)
    (gradient,) = torch.autograd.grad(loss, z)
    assert torch.equal(gradient[[1, 2]], torch.zeros(2, 3, 4))
    assert gradient[[0, 3, 4, 5]].abs().amin(0).max() > 0
    rest = [0, 3, 4, 5]
    torch.testing.assert_close(loss, agreement_loss(z[rest], clean[rest], present[rest], None))


@pytest.mark.parametrize("batch", [0, 1])
def test_no_pair_of_instances_is_a_loss_of_zero(batch):
    z, clean, present = everything(batch)
    loss = agreement_loss(z, clean, present, None)
    loss.backward()
    assert loss.item() == 0
    assert z.grad.isfinite().all()


@pytest.mark.compile
def test_compiled_loss_equals_eager_when_a_class_is_perturbed_throughout():
    z, clean, present = everything(6)
    labels = torch.tensor([0, 0, 1, 1, 2, 2])
    clean[4:] = False  # two classes are left of three
    compiled = torch.compile(agreement_loss, fullgraph=True, backend="aot_eager")
    expected = reference.agreement_loss(z.detach(), clean, present, labels).item()
    with torch.no_grad():
        assert agreement_loss(z, clean, present, labels).item() == pytest.approx(expected, rel=1e-5)
        assert compiled(z, clean, present, labels).item() == pytest.approx(expected, rel=1e-5)
    torch.compiler.reset()


@pytest.mark.parametrize("labelled", [False, True])
def test_under_vmap_it_is_the_eager_loss_of_each_with_its_gradient(labelled):
    draws = torch.Generator().manual_seed(2)
    raw = torch.randn(3, 12, 3, 4, generator=draws)
    present = torch.rand(3, 12, 3, generator=draws) < 0.8
    clean = torch.rand(3, 12, generator=draws) < 0.7
    clean[:, 6:] = False  # as with copies: the second half counts nowhere
    clean[2] = False  # and in one, nothing does
    labels = torch.randint(3, (3, 12), generator=draws) if labelled else None

    def loss(x, u, p, y):
        return agreement_loss(torch.nn.functional.normalize(x, dim=-1), u, p, y)

    one, other = raw.clone().requires_grad_(), raw.clone().requires_grad_()
    axes = (0, 0, 0, 0 if labelled else None)
    found = torch.vmap(loss, in_dims=axes)(one, clean, present, labels)
    every = [loss(other[i], clean[i], present[i], None if labels is None else labels[i]) for i in range(3)]
    torch.testing.assert_close(found, torch.stack(every))
    found.sum().backward()
    torch.stack(every).sum().backward()
    torch.testing.assert_close(one.grad, other.grad)

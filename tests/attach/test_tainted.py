import pytest
import torch
import torch.nn.functional as F

from concordant.attach.tainted import Ancestry, Tainted, is_tainted, plain, taint


def tainted():
    return taint(torch.randn(3, 4))


@pytest.mark.parametrize(
    "step",
    [
        lambda x: x + 1,
        lambda x: F.gelu(x),
        lambda x: torch.cat([torch.zeros(3, 1), x], 1),
        lambda x: torch.einsum("ij,jk->ik", torch.eye(3), x),
        lambda x: x.max(1).values,
        lambda x: x.unbind(1)[2],
        lambda x: x[:, 1],
        lambda x: x.T,
        lambda x: torch.where(x > 0, 1.0, 0.0),
        lambda x: x.detach(),
    ],
)
def test_what_is_computed_from_a_tainted_tensor_is_tainted(step):
    assert is_tainted([step(tainted())])


def test_a_plain_tensor_is_tainted_by_what_is_written_into_it():
    one, two, three = torch.zeros(3, 8), torch.zeros(3, 4), torch.zeros(3, 4)
    one[:, :4] = tainted()
    two.copy_(tainted())
    three += tainted()
    assert [type(x) for x in (one, two, three)] == [Tainted] * 3


def test_a_shape_taints_nothing():
    x = tainted()
    others = [torch.zeros_like(x), x.new_ones(3), torch.randn_like(x), torch.zeros(x.shape), torch.ones(x.size(0))]
    assert not is_tainted(others)


def test_a_tensor_that_was_only_read_stays_plain():
    weight, x = torch.randn(4, 4), tainted()
    weight @ x.T
    assert type(weight) is torch.Tensor
    parameter = torch.nn.Parameter(torch.zeros(2))
    assert taint(parameter) is parameter


def test_values_and_gradients_pass():
    x = torch.randn(3, requires_grad=True)
    out = (taint(x * 2) ** 2).sum()
    assert torch.equal(plain(out), (x * 2).square().sum())
    out.backward()
    torch.testing.assert_close(x.grad, 8 * x.detach())


def test_the_graph_tells_descendants_from_the_rest():
    leaf = torch.randn(3, requires_grad=True)
    source, other = leaf * 2, leaf * 3
    tree = Ancestry()
    assert not tree.descends([source])
    tree.source(source)
    assert tree.descends([source + 1])
    assert tree.descends([other, (source * other).sum()])
    assert not tree.descends([other, other + leaf, leaf, torch.zeros(1)])

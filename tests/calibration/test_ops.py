"""The plain formulas, and the same in blocks with a backward of its own: values, gradients, and what is saved."""

import numpy as np
import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks

from concordant.calibration import ops
from concordant.calibration.ops import clear, pool, scale

MASKS = pytest.mark.parametrize("kind", ["none", "presence", "mask"])
ORDERS = pytest.mark.parametrize("order", ["btd", "bdt", "tbd"])


@pytest.fixture(params=[1 << 20, 128, 16], ids=["plain", "blocks", "small blocks"])
def block(request, monkeypatch):
    """Bytes of a block: all features in a plain formula, several instances, or a single one at once."""
    monkeypatch.setattr(ops, "BLOCK", request.param)
    return request.param


def example(kind, order="btd", dtype=torch.float64, batch=5, length=7, width=3):
    """Return x (B, L, D), laid out in memory as a layout has it, a factor (B, 1, D) and what is valid."""
    draws = torch.Generator().manual_seed(0)
    x = torch.randn(batch, length, width, generator=draws, dtype=dtype)
    factor = torch.rand(batch, 1, width, generator=draws, dtype=dtype)
    valid = None
    if kind == "presence":
        valid = torch.arange(batch).unsqueeze(1) % 3 > 0
    elif kind == "mask":
        valid = torch.rand(batch, length, generator=draws) < 0.6
        valid[1] = False
    arranged = {"btd": x, "bdt": x.mT.contiguous().mT, "tbd": x.transpose(0, 1).contiguous().transpose(0, 1)}
    return arranged[order], factor, valid


def pool_by_hand(x, valid):
    """Return mean and standard deviation in double precision, instance by instance."""
    rows = []
    for index, row in enumerate(x.detach().double().numpy()):
        keep = np.ones(len(row), bool) if valid is None else np.broadcast_to(valid[index].numpy(), len(row))
        steps = row[keep] if keep.any() else np.zeros((1, row.shape[1]))
        rows.append(np.concatenate([steps.mean(0), np.sqrt(steps.var(0) + 1e-8)]))
    return np.stack(rows)


def over(valid):
    return None if valid is None else valid.unsqueeze(2)


def scale_by_hand(x, factor, valid):
    times = x * factor
    if valid is None:
        return times
    return torch.where(valid.unsqueeze(2), times, torch.nan_to_num(x, nan=0.0, posinf=0.0, neginf=0.0))


@MASKS
@ORDERS
@pytest.mark.usefixtures("block")
def test_pooled_values_equal_a_loop(kind, order):
    x, _, valid = example(kind, order)
    np.testing.assert_allclose(pool(x, valid), pool_by_hand(x, valid), rtol=1e-12, atol=1e-12)


@MASKS
@ORDERS
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_scaled_values_equal_the_product_where_valid(kind, order, dtype, block):
    x, factor, valid = example(kind, order, dtype)
    found = scale(x, factor, over(valid))
    assert torch.equal(found, scale_by_hand(x, factor, valid))
    assert found.stride() == x.stride() or block > x.nbytes
    assert torch.equal(scale(x, torch.ones_like(factor), over(valid)), x)


@MASKS
@ORDERS
@pytest.mark.usefixtures("block")
def test_first_and_second_gradients_are_right(kind, order):
    x, factor, valid = example(kind, order, batch=3, length=4, width=2)
    x, factor = x.requires_grad_(), factor.requires_grad_()
    for check in (torch.autograd.gradcheck, torch.autograd.gradgradcheck):
        check(lambda x: pool(x, valid), (x,))
        check(lambda x, factor: scale(x, factor, over(valid)), (x, factor))


@MASKS
@ORDERS
@pytest.mark.usefixtures("block")
def test_gradients_stay_the_same_where_gradients_of_them_are_wanted(kind, order):
    x, _, valid = example(kind, order)
    x = x.requires_grad_()
    scaled = scale(x, pool(x, valid)[:, None, :3].sigmoid(), over(valid)).square().sum()
    kept, plain = (
        torch.autograd.grad(scaled, x, create_graph=further, retain_graph=True)[0] for further in (True, False)
    )
    torch.testing.assert_close(kept, plain)


@MASKS
@pytest.mark.usefixtures("block")
def test_many_gradients_at_once_and_forward_mode_are_those_one_by_one(kind):
    x, _, valid = example(kind)

    def total(x):
        return scale(x, pool(x, valid)[:, None, :3].sigmoid(), over(valid)).square().sum((1, 2))

    expected = torch.autograd.functional.jacobian(total, x)
    for strategy in ("reverse-mode", "forward-mode"):
        found = torch.autograd.functional.jacobian(total, x, vectorize=True, strategy=strategy)
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("garbage", [torch.nan, torch.inf, 3e38])
@pytest.mark.usefixtures("block")
def test_invalid_positions_have_no_influence_whatever_they_hold(garbage):
    results = []
    for filling in (0.5, garbage):
        x, factor, valid = example("mask", dtype=torch.float32)
        x = torch.where(valid.unsqueeze(2), x, filling).requires_grad_()
        factor.requires_grad_()
        summary, scaled = pool(x, valid), scale(x, factor, over(valid))
        kept = torch.nan_to_num(torch.tensor(filling), posinf=0.0)
        assert (scaled[~valid] == kept).all()
        (summary.square().sum() + scaled[valid].sum()).backward()
        results.append((summary.detach(), scaled.detach()[valid], x.grad, factor.grad))
    for one, other in zip(*results, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("garbage", [torch.nan, torch.inf])
@pytest.mark.usefixtures("block")
def test_cleared_positions_have_no_gradient(garbage):
    x, factor, valid = example("mask")
    x = torch.where(valid.unsqueeze(2), x, garbage).requires_grad_()
    scale(x, factor, over(valid)).sum().backward()
    assert (x.grad[~valid] == 0).all()


def test_instances_may_lie_on_another_axis(block):
    x, factor, valid = example("mask")
    found = scale(x.transpose(0, 1), factor.transpose(0, 1), over(valid).transpose(0, 1), axis=1)
    assert torch.equal(found.transpose(0, 1), scale(x, factor, over(valid)))


def test_either_gradient_of_scale_may_be_left_out(block):
    x, factor, valid = example("mask")
    scale(x, factor.requires_grad_(), over(valid)).sum().backward()
    assert x.grad is None
    scale(x.requires_grad_(), factor.detach(), over(valid)).sum().backward()
    assert x.grad is not None


@MASKS
def test_large_offsets_cost_no_digits(kind):
    x, _, valid = example(kind, dtype=torch.float32, length=400)
    x = x + 1e4
    expected, found = pool_by_hand(x, valid), pool(x, valid).double().numpy()
    # Differences of sums of squares would be wrong by as much as the deviation, 1, itself.
    np.testing.assert_allclose(found[:, 3:], expected[:, 3:], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found[:, :3], expected[:, :3], rtol=1e-6)


@MASKS
def test_in_blocks_only_inputs_and_the_summary_are_saved(kind, monkeypatch):
    monkeypatch.setattr(ops, "BLOCK", 64)
    x, factor, valid = example(kind)
    x, factor, saved = x.requires_grad_(), factor.requires_grad_(), {}
    with saved_tensors_hooks(lambda t: saved.setdefault(t.data_ptr(), t), lambda t: t):
        summary, _ = pool(x, valid), scale(x, factor, over(valid))
    inputs = [t.data_ptr() for t in (x, factor, valid, over(valid), summary) if t is not None]
    assert all(pointer in inputs for pointer in saved)


@MASKS
@pytest.mark.usefixtures("block")
def test_transforms_give_the_same(kind):
    x, factor, valid = example(kind)
    both = torch.stack([x, 2 * x])
    pooled = torch.func.vmap(lambda x: pool(x, valid))(both)
    scaled = torch.func.vmap(lambda x: scale(x, factor, over(valid)))(both)
    for index, one in enumerate(both):
        torch.testing.assert_close(pooled[index], pool(one, valid))
        torch.testing.assert_close(scaled[index], scale(one, factor, over(valid)))


def test_blocks_cover_every_instance_once(monkeypatch):
    monkeypatch.setattr(ops, "BLOCK", 100)
    found = [list(range(10)[rows]) for rows in ops._blocks(torch.zeros(10, 2, 4))]
    assert found == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9]]
    assert [rows.stop for rows in ops._blocks(torch.zeros(10, 99, device="meta"))] == [10]


def test_clearing_copies_nothing_that_is_finite():
    x, _, valid = example("mask")
    assert clear(x, over(valid)) is x
    x[~valid] = torch.nan
    assert torch.equal(clear(x, over(valid)), torch.where(valid.unsqueeze(2), x, 0))

import numpy as np
import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks

from concordant.calibration import pooling
from concordant.calibration.pooling import blocks, pooled_in_blocks
from concordant.calibration.summary import pool


@pytest.fixture(params=[1 << 20, 64], ids=["one block", "many blocks"])
def small_blocks(request, monkeypatch):
    monkeypatch.setattr(pooling, "BLOCK", request.param)


def masks(batch, length, kind):
    draws = torch.Generator().manual_seed(1)
    if kind == "none":
        return None
    if kind == "presence":
        return torch.arange(batch).unsqueeze(1) % 3 > 0
    mask = torch.rand(batch, length, generator=draws) < 0.6
    mask[1] = False
    return mask


def by_hand(x, valid):
    """Return mean and standard deviation in double precision, position by position."""
    rows = []
    for index, row in enumerate(x.detach().double().numpy()):
        keep = np.ones(len(row), bool) if valid is None else np.broadcast_to(valid[index].numpy(), len(row))
        steps = row[keep]
        zero = np.zeros(row.shape[1])
        mean, variance = (steps.mean(0), steps.var(0)) if len(steps) else (zero, zero)
        rows.append(np.concatenate([mean, np.sqrt(variance + 1e-8)]))
    return np.stack(rows)


def arranged(x, layout):
    """Return the same (B, L, D) with its numbers in another order in memory."""
    return {"btd": x, "bdt": x.mT.contiguous().mT, "tbd": x.transpose(0, 1).contiguous().transpose(0, 1)}[layout]


KINDS = pytest.mark.parametrize("kind", ["none", "presence", "mask"])


@KINDS
@pytest.mark.parametrize("layout", ["btd", "bdt", "tbd"])
@pytest.mark.usefixtures("small_blocks")
def test_summaries_and_gradients_equal_the_plain_formula(kind, layout):
    draws = torch.Generator().manual_seed(0)
    x = torch.randn(5, 7, 3, generator=draws, dtype=torch.float64)
    valid = masks(5, 7, kind)
    one, two = arranged(x.clone(), layout).requires_grad_(), x.clone().requires_grad_()
    weights = torch.randn(5, 6, generator=draws, dtype=torch.float64)
    found = pooled_in_blocks(one, valid)
    np.testing.assert_allclose(found.detach(), by_hand(x, valid), rtol=1e-12, atol=1e-12)
    (found * weights).sum().backward()
    plain = torch.func.vmap(lambda t: (pool(t, valid, spread=True) * weights).sum())(two.unsqueeze(0))
    plain.sum().backward()
    torch.testing.assert_close(one.grad, two.grad, rtol=1e-10, atol=1e-12)


@KINDS
@pytest.mark.usefixtures("small_blocks")
def test_gradients_of_gradients_are_right(kind):
    x = torch.randn(3, 4, 2, dtype=torch.float64, requires_grad=True)
    valid = masks(3, 4, kind)
    torch.autograd.gradcheck(lambda t: pooled_in_blocks(t, valid), (x,))
    torch.autograd.gradgradcheck(lambda t: pooled_in_blocks(t, valid), (x,))


@KINDS
def test_large_offsets_cost_no_digits(kind):
    draws = torch.Generator().manual_seed(0)
    x = torch.randn(6, 400, 8, generator=draws) + 1e4
    valid = masks(6, 400, kind)
    expected = by_hand(x, valid)
    found = pooled_in_blocks(x, valid).double().numpy()
    # Differences of sums of squares would be wrong by as much as the deviation, 1, itself.
    np.testing.assert_allclose(found[:, 8:], expected[:, 8:], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found[:, :8], expected[:, :8], rtol=1e-6)


@pytest.mark.parametrize("garbage", [torch.nan, torch.inf, 3e38])
@pytest.mark.usefixtures("small_blocks")
def test_invalid_positions_have_no_influence_whatever_they_hold(garbage):
    valid = masks(5, 7, "mask")
    results = []
    for filling in (0.5, garbage):
        x = torch.randn(5, 7, 3, generator=torch.Generator().manual_seed(0))
        x = torch.where(valid.unsqueeze(2), x, filling).requires_grad_()
        found = pooled_in_blocks(x, valid)
        found.square().sum().backward()
        results.append((found.detach(), x.grad))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])
    assert (results[1][1][~valid] == 0).all()


@KINDS
def test_only_input_mask_and_result_are_saved(kind):
    x = torch.randn(8, 50, 16, requires_grad=True)
    valid, saved = masks(8, 50, kind), {}
    with saved_tensors_hooks(lambda t: saved.setdefault(t.data_ptr(), t), lambda t: t):
        pooled_in_blocks(x, valid)
    assert sum(t.nbytes for t in saved.values() if t.data_ptr() != x.data_ptr()) <= 8 * 50 + 3 * 8 * 32 * 4


def test_blocks_cover_every_instance_once(monkeypatch):
    monkeypatch.setattr(pooling, "BLOCK", 100)
    found = [list(range(10)[rows]) for rows in blocks(torch.zeros(10, 2, 4))]
    assert found == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9]]
    assert list(blocks(torch.zeros(0, 3))) == []
    assert [rows.stop for rows in blocks(torch.zeros(3, 0))] == [3]
    assert [rows.stop for rows in blocks(torch.zeros(10, 99, device="meta"))] == [10]

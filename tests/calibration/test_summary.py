import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from concordant.calibration.summary import RunningStandardiser, energy, learn, summarise


def summary_by_hand(x, valid, spread):
    rows = []
    for row, keep in zip(x.double().numpy(), valid.numpy(), strict=True):
        steps = row[keep]
        mean = steps.mean(0) if len(steps) else np.zeros(x.shape[2])
        std = np.sqrt(steps.var(0) + 1e-8) if len(steps) else np.full(x.shape[2], 1e-4)
        rows.append(np.concatenate([mean, std]) if spread else mean)
    return np.stack(rows)


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 4), st.integers(1, 5), st.integers(1, 3), st.booleans(), st.integers(0, 99))
def test_summary_equals_numpy(batch, length, width, spread, seed):
    draws = torch.Generator().manual_seed(seed)
    x = torch.randn(batch, length, width, generator=draws)
    valid = torch.rand(batch, length, generator=draws) < 0.6
    np.testing.assert_allclose(summarise(x, valid, spread=spread), summary_by_hand(x, valid, spread), atol=1e-6)
    throughout = summary_by_hand(x, torch.ones_like(valid), spread)
    np.testing.assert_allclose(summarise(x, spread=spread), throughout, atol=1e-6)
    np.testing.assert_allclose(
        summarise(x, torch.ones(batch, 1, dtype=torch.bool), spread=spread), throughout, atol=1e-6
    )


def test_summary_ignores_what_invalid_positions_hold():
    x, other = torch.randn(2, 3, 2), torch.full((2, 3, 2), float("nan"))
    valid = torch.tensor([[True, True, False], [False, False, False]])
    spoilt = torch.where(valid.unsqueeze(-1), x, other)
    assert torch.equal(summarise(spoilt, valid, spread=True), summarise(x, valid, spread=True))


def test_summary_of_nothing_is_zero_with_finite_gradient():
    x = torch.full((1, 3, 2), float("nan"), requires_grad=True)
    summary = summarise(x, torch.zeros(1, 3, dtype=torch.bool), spread=True)
    summary.sum().backward()
    assert summary.tolist() == [[0, 0, pytest.approx(1e-4), pytest.approx(1e-4)]]
    assert torch.equal(x.grad, torch.zeros_like(x))


def test_constant_sequence_has_a_finite_gradient():
    x = torch.ones(2, 3, 2, requires_grad=True)
    summarise(x, spread=True).sum().backward()
    assert x.grad.isfinite().all()


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [(torch.bfloat16, torch.float32), (torch.float16, torch.float32), (torch.float64, torch.float64)],
)
def test_summary_sums_in_single_precision_or_better(dtype, expected):
    x = torch.full((1, 4096, 1), 0.1, dtype=dtype)
    for valid in (None, torch.ones(1, 4096, dtype=torch.bool)):
        mean = summarise(x, valid, spread=False)
        assert mean.dtype == expected
        assert mean.item() == pytest.approx(x[0, 0, 0].item(), rel=1e-5)


def test_energy_is_the_logarithm_of_the_root_mean_square():
    x = torch.randn(3, 8)
    whole = np.log(np.sqrt((x.numpy() ** 2).mean(1) + 1e-12))
    np.testing.assert_allclose(energy(x, spread=False)[:, 0], whole, rtol=1e-5, atol=1e-6)
    halves = [np.log(np.sqrt((half**2).mean(1) + 1e-12)) for half in (x.numpy()[:, :4], x.numpy()[:, 4:])]
    np.testing.assert_allclose(energy(x, spread=True), np.stack(halves, 1), rtol=1e-5, atol=1e-6)


def test_energy_of_an_emptied_modality_is_low_and_finite():
    empty = energy(torch.zeros(1, 5), spread=False).item()
    assert empty == pytest.approx(0.5 * np.log(1e-12))
    assert empty < energy(0.1 * torch.ones(1, 5), spread=False).item() - 1


def test_standardiser_starts_as_nearly_the_identity():
    x = torch.randn(4, 3).clamp(-4, 4)
    torch.testing.assert_close(RunningStandardiser(3)(x), x / (1 + 1e-4) ** 0.5)


def test_standardiser_follows_a_plain_average_and_then_forgets():
    standardiser = RunningStandardiser(3)
    draws = np.random.default_rng(0)
    mean, variance = np.zeros(3), np.ones(3)
    for n in range(1, 31):
        values = draws.normal(2.0, 3.0, (7, 3)).astype(np.float32)
        rows = draws.random(7) < 0.7
        rows[:2] = True
        learn([standardiser], torch.from_numpy(values), torch.from_numpy(rows))
        step = max(0.05, 1 / n)
        mean += step * (values[rows].mean(0) - mean)
        variance += step * (values[rows].var(0) - variance)
    np.testing.assert_allclose(standardiser.mean, mean, rtol=1e-5)
    np.testing.assert_allclose(standardiser.variance, variance, rtol=1e-5)
    x = draws.normal(2.0, 30.0, (9, 3)).astype(np.float32)
    expected = np.clip((x - mean) / np.sqrt(variance + 1e-4), -5, 5)
    np.testing.assert_allclose(standardiser(torch.from_numpy(x)), expected, rtol=1e-4, atol=1e-5)
    assert np.abs(expected).max() == 5


@pytest.mark.parametrize("count", [0, 1])
def test_standardiser_learns_nothing_from_fewer_than_two_rows(count):
    standardiser = RunningStandardiser(2)
    learn([standardiser], torch.randn(4, 2), torch.arange(4) < count)
    assert standardiser.mean.tolist() == [0, 0]
    assert standardiser.variance.tolist() == [1, 1]
    assert standardiser.updates.item() == 0


def test_standardiser_survives_an_overflow():
    standardiser = RunningStandardiser(2)
    learn([standardiser], torch.randn(8, 2), torch.ones(8, dtype=torch.bool))
    before = standardiser.mean.clone(), standardiser.variance.clone()
    huge = torch.tensor([[1e30, 0.0], [-1e30, 0.0]])
    learn([standardiser], huge, torch.ones(2, dtype=torch.bool))
    assert torch.equal(standardiser.mean, before[0])
    assert torch.equal(standardiser.variance, before[1])
    assert standardiser.updates.item() == 1
    assert standardiser(huge).isfinite().all()


def test_standardiser_takes_nothing_from_left_out_rows():
    values = torch.randn(5, 2)
    rows = torch.tensor([True, True, False, True, False])
    clean, spoilt = RunningStandardiser(2), RunningStandardiser(2)
    learn([clean], values, rows)
    learn([spoilt], torch.where(rows.unsqueeze(1), values, torch.nan), rows)
    assert torch.equal(clean.mean, spoilt.mean)
    assert torch.equal(clean.variance, spoilt.variance)


def test_backward_survives_a_later_update():
    standardiser, x = RunningStandardiser(2), torch.randn(4, 2, requires_grad=True)
    out = standardiser(x)
    learn([standardiser], torch.randn(4, 2), torch.ones(4, dtype=torch.bool))
    out.sum().backward()
    assert x.grad.isfinite().all()


def test_many_standardisers_learn_under_vmap_what_each_learns_alone():
    draws = torch.Generator().manual_seed(7)
    alone = [RunningStandardiser(3) for _ in range(4)]
    for standardiser in alone:
        standardiser.mean.normal_(generator=draws)
        standardiser.updates.fill_(3)
    buffers = torch.func.stack_module_state(alone)[1]
    values, rows = torch.randn(4, 6, 3, generator=draws), torch.rand(4, 6, generator=draws) < 0.7
    rows[0, :2] = True
    rows[1] = torch.arange(6) == 0  # a single row has no variance
    values[2, :, 1] = torch.inf

    class Learn(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = RunningStandardiser(3)

        def forward(self, x, here):
            learn([self.inner], x, here)
            return self.inner(x)

    def one(held, x, here):
        return torch.func.functional_call(Learn(), {f"inner.{name}": value for name, value in held.items()}, (x, here))

    found = torch.vmap(one)(buffers, values, rows)
    for run, standardiser in enumerate(alone):
        learn([standardiser], values[run], rows[run])
        torch.testing.assert_close(found[run], standardiser(values[run]))
        for name, value in standardiser.named_buffers():
            torch.testing.assert_close(buffers[name][run], value)


def test_an_emptied_modality_is_below_features_whose_energy_varies_widely():
    draws = torch.Generator().manual_seed(0)
    x = torch.randn(400, 1, 8, generator=draws) * 0.02 * torch.exp(2 * torch.randn(400, 1, 1, generator=draws))
    usual = energy(summarise(x, spread=False), spread=False)
    emptied = energy(summarise(1e-3 * x, spread=False), spread=False)  # as training empties
    assert ((usual - emptied) > 3 * usual.std()).float().mean() > 0.95

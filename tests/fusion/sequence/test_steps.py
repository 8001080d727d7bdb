import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from concordant.fusion.sequence.steps import align, compact, last_of, last_state


def masks(rows, length):
    return st.lists(st.lists(st.booleans(), min_size=length, max_size=length), min_size=rows, max_size=rows)


@given(masks(3, 5))
def test_compacting_keeps_the_order_of_what_is_valid(rows):
    valid = torch.tensor(rows)
    steps = torch.arange(30.0).view(3, 5, 2)
    moved, lengths = compact(torch.where(valid.unsqueeze(2), steps, torch.nan), valid)
    for row in range(3):
        expected = [steps[row, i].tolist() for i in range(5) if valid[row, i]]
        assert lengths[row] == len(expected)
        assert moved[row, : len(expected)].tolist() == expected
        assert not moved[row, len(expected) :].any()


def test_the_last_state_is_that_of_the_last_valid_step():
    states = torch.randn(3, 4, 2)
    found = last_of(states, torch.tensor([4, 2, 0]))
    assert torch.equal(found, torch.stack([states[0, 3], states[1, 1], torch.zeros(2)]))


def shares_of(row, valid, shares):
    """Return the means over equal shares of the valid duration, written out on a fine clock."""
    kept = row[valid]
    fine = np.repeat(kept, shares, 0)  # each step lasts `shares` ticks, so a share lasts as many as there are steps
    return fine.reshape(shares, len(kept), -1).mean(1)


@given(masks(2, 7))
def test_sequences_of_different_lengths_are_cut_into_equal_shares(rows):
    valid = torch.tensor(rows)
    valid[:, 0] = True
    steps = {"a": torch.randn(2, 7, 3), "b": torch.randn(2, 4, 2)}
    spoilt = torch.where(valid.unsqueeze(2), steps["a"], torch.nan)
    whole = torch.ones(2, 4, dtype=torch.bool)
    aligned, any_valid = align({"a": spoilt, "b": steps["b"]}, {"a": valid, "b": whole}, shares=5)
    assert any_valid.all()
    for row in range(2):
        expected = shares_of(steps["a"][row].numpy(), valid[row].numpy(), 5)
        np.testing.assert_allclose(aligned["a"][row].numpy(), expected, atol=1e-5)
        np.testing.assert_allclose(
            aligned["b"][row].numpy(), shares_of(steps["b"][row].numpy(), whole[row], 5), atol=1e-5
        )


def test_sequences_of_one_length_stay_and_vectors_stand_at_every_step():
    steps = {"a": torch.randn(2, 4, 3), "b": torch.randn(2, 4, 1), "c": torch.randn(2, 1, 2)}
    valid = {name: torch.ones(x.shape[:2], dtype=torch.bool) for name, x in steps.items()}
    valid["a"][0, 2:] = False
    valid["b"][0, 3:] = False
    valid["c"][0] = False
    aligned, any_valid = align(steps, valid, shares=9)
    assert torch.equal(aligned["a"], torch.where(valid["a"].unsqueeze(2), steps["a"], 0))
    assert torch.equal(aligned["c"][1], steps["c"][1].expand(4, -1))
    assert not aligned["c"][0].any()
    assert any_valid.tolist() == [[True, True, True, False], [True] * 4]


@pytest.mark.parametrize("lengths", [(6, 4), (1, 1), (5, 5)])
def test_what_is_absent_is_zero_and_has_no_valid_step(lengths):
    steps = {name: torch.full((2, length, 2), torch.nan) for name, length in zip("ab", lengths, strict=True)}
    valid = {name: torch.zeros(x.shape[:2], dtype=torch.bool) for name, x in steps.items()}
    aligned, any_valid = align(steps, valid, shares=3)
    assert not any_valid.any()
    assert all(torch.equal(x, torch.zeros_like(x)) for x in aligned.values())


@pytest.mark.parametrize("kind", ["all", "padded", "gaps", "absent"])
def test_the_last_state_is_that_of_the_valid_steps_alone(kind):
    torch.manual_seed(0)
    lstm, steps = torch.nn.LSTM(3, 4, batch_first=True), torch.randn(4, 6, 3)
    valid = {
        "all": torch.ones(4, 6, dtype=torch.bool),
        "padded": torch.arange(6) < torch.tensor([[6], [2], [4], [1]]),
        "gaps": torch.tensor([[0, 1, 0, 1, 1, 0], [1, 1, 1, 1, 1, 1], [0, 0, 0, 0, 0, 1], [1, 0, 0, 0, 0, 0]]).bool(),
        "absent": torch.arange(6) < torch.tensor([[3], [0], [6], [0]]),
    }[kind]
    spoilt = torch.where(valid.unsqueeze(2), steps, torch.nan)
    found = last_state(lstm, spoilt, valid)
    for row, keep, state in zip(steps, valid, found, strict=True):
        if keep.any():
            torch.testing.assert_close(state, lstm(row[keep][None])[0][0, -1])
        else:
            assert not state.any()
    found.sum().backward()
    assert all(weight.grad.isfinite().all() for weight in lstm.parameters())

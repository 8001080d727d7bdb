import hashlib
import os
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from concordant import seeding


def test_seed_is_half_of_the_first_eight_bytes_of_a_hash():
    digest = hashlib.sha256(b"3/encoder/audio").digest()
    assert seeding.derive_seed(3, "encoder", "audio") == int.from_bytes(digest[:8], "big") // 2


@settings(deadline=None, max_examples=50)
@given(st.integers(-(2**70), 2**70), st.lists(st.one_of(st.text(max_size=5), st.integers()), max_size=3))
def test_seed_fits_a_generator(seed, names):
    value = seeding.derive_seed(seed, *names)
    assert 0 <= value < 2**63
    assert value == seeding.derive_seed(seed, *names)
    torch.Generator().manual_seed(value)


def test_names_and_seeds_give_different_streams():
    seeds = {seeding.derive_seed(s, *n) for s in (0, 1) for n in ((), ("a",), ("b",), ("a", "b"), ("a", 1))}
    assert len(seeds) == 10


def test_generator_repeats_its_stream():
    draws = [torch.rand(4, generator=seeding.generator(0, name)) for name in ("a", "a", "b")]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_scope_sets_the_stream_and_puts_the_global_one_back():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    with seeding.scope(5, "part"):
        inside = torch.rand(3)
    assert torch.equal(torch.rand(3), expected)
    with seeding.scope(5, "part"):
        assert torch.equal(torch.rand(3), inside)
    assert not torch.equal(inside, expected)


def test_scope_equals_the_generator_of_the_same_name():
    with seeding.scope(5, "part"):
        inside = torch.rand(3)
    assert torch.equal(inside, torch.rand(3, generator=seeding.generator(5, "part")))


def test_scope_puts_the_global_stream_back_after_an_error():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    try:
        with seeding.scope(5, "part"):
            torch.rand(7)
            raise KeyError
    except KeyError:
        pass
    assert torch.equal(torch.rand(3), expected)


def test_a_stream_continues_where_its_last_block_ended_and_puts_the_global_one_back():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    stream = seeding.Stream(5, "dropout", 2)
    found = []
    for _ in range(2):
        with stream:
            found.append(torch.randn(3))
    assert torch.equal(torch.rand(3), expected)
    draws = seeding.generator(5, "dropout", 2)
    assert torch.equal(torch.cat(found), torch.cat([torch.randn(3, generator=draws) for _ in range(2)]))


def test_the_state_of_a_stream_can_be_put_back():
    stream = seeding.Stream(5, "dropout")
    state = stream.state
    with stream:
        before = torch.rand(3)
    stream.state = state
    with stream:
        assert torch.equal(torch.rand(3), before)
    with pytest.raises(RuntimeError, match="Expected a CPUGenerator"):
        stream.state = torch.zeros(3, dtype=torch.uint8)


def test_threads_draw_the_numbers_that_each_draws_alone():
    def draw(seed):
        stream, found = seeding.Stream(seed, "dropout"), []
        for _ in range(50):
            with stream:
                found.append(torch.rand(2))
                time.sleep(0)
                found.append(torch.rand(2))
        return torch.cat(found)

    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(draw, range(4)))
    assert all(torch.equal(found, draw(seed)) for seed, found in enumerate(together))


def test_training_on_cuda_takes_algorithms_that_add_up_in_one_order(monkeypatch):
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)

    def chosen():
        return (
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
            torch.utils.deterministic.fill_uninitialized_memory,
            torch.backends.cudnn.benchmark,
        )

    before = chosen()
    with seeding.in_order("cuda:0"):
        assert chosen() == (True, True, False, False)
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    assert chosen() == before

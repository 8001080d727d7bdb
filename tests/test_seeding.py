import hashlib
import os
from contextlib import nullcontext

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


def test_a_stream_is_that_of_its_name_and_puts_the_global_one_back():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    with seeding.stream(5, "dropout", 2):
        inside = torch.rand(3)
        assert not torch.are_deterministic_algorithms_enabled()
    assert torch.equal(torch.rand(3), expected)
    torch.manual_seed(seeding.derive_seed(5, "dropout", 2))
    assert torch.equal(torch.rand(3), inside)


def test_training_on_cuda_takes_algorithms_that_add_up_in_one_order(monkeypatch):
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    monkeypatch.setattr(torch.random, "fork_rng", lambda devices: nullcontext())  # there may be no CUDA
    state = torch.get_rng_state()

    def chosen():
        return (
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
            torch.utils.deterministic.fill_uninitialized_memory,
            torch.backends.cudnn.benchmark,
        )

    before = chosen()
    stream = seeding.stream(0, "dropout", device="cuda:0")
    with stream:
        assert chosen() == (True, True, False, False)
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    torch.set_rng_state(state)
    assert chosen() == before

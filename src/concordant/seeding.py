"""Seeds by name: every component draws from a stream of its own, so that twins share what they share.

A stream depends on the run's seed and on the component's name alone, never on what was drawn before it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


def derive_seed(seed: int, *names: str | int) -> int:
    """Return a 63-bit seed for the component called `names` of the run with this `seed`.

    >>> derive_seed(0, "encoder", "audio") == derive_seed(0, "encoder", "audio")
    True
    >>> derive_seed(0, "encoder", "audio") == derive_seed(0, "encoder", "video")
    False
    """
    text = "/".join([str(seed), *(str(name) for name in names)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *names: str | int, device: torch.device | str = "cpu") -> torch.Generator:
    """Return a torch generator for the component called `names` of the run with this `seed`."""
    return torch.Generator(device=device).manual_seed(derive_seed(seed, *names))


@contextmanager
def scope(seed: int, *names: str | int) -> Iterator[None]:
    """Run a block (the construction of a module, say) on the stream of the component called `names`.

    The global CPU stream is put back afterwards, so that what follows does not depend on the block.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derive_seed(seed, *names))
        yield


@contextmanager
def stream(seed: int, *names: str | int, device: torch.device | str = "cpu") -> Iterator[None]:
    """Run a block that trains on `device` on the stream called `names`, so that the same seed gives the same numbers.

    The global streams are put back afterwards, that of the device too. On CUDA some of PyTorch's algorithms add up in
    whatever order comes; the block uses those that do not, as far as there are any: PyTorch warns of the others.
    """
    cuda = torch.device(device).type == "cuda"
    with torch.random.fork_rng(devices=[torch.device(device)] if cuda else []), in_order(device):
        torch.manual_seed(derive_seed(seed, *names))
        yield


@contextmanager
def in_order(device: torch.device | str) -> Iterator[None]:
    """Choose CUDA's deterministic algorithms for a block on `device`, and put the choice back."""
    if torch.device(device).type != "cuda":
        yield
        return
    # cuBLAS reads this when it is first used.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    empty: Any = torch.utils.deterministic
    fill, benchmark = empty.fill_uninitialized_memory, torch.backends.cudnn.benchmark
    torch.use_deterministic_algorithms(True, warn_only=True)
    empty.fill_uninitialized_memory = False  # what is read was written; to fill it costs a pass
    torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        empty.fill_uninitialized_memory = fill
        torch.backends.cudnn.benchmark = benchmark

"""Seeds by name: every component draws from a stream of its own, so that twins share what they share.

A stream depends on the run's seed and on the component's name alone, never on what was drawn before it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

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

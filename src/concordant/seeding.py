"""Seeds by name: every component draws from a stream of its own, so that twins share what they share.

A stream depends on the run's seed and on the component's name alone, never on what was drawn before it.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from numbers import Integral
from typing import Any

import torch
from torch import Tensor

from concordant.errors import UsageError, shown

# Held while PyTorch's global generators, which all threads share, are in use by a stream.
_GLOBAL = threading.RLock()


def chosen(seed: object) -> int:
    """Return a seed that a caller chose, or, for None, one drawn from PyTorch's global generator.

    Raises:
        UsageError: it is neither an integer nor None.
    """
    if seed is None:
        return int(torch.randint(2**62, ()).item())
    if isinstance(seed, bool) or not isinstance(seed, Integral):
        raise UsageError(f"seed must be an integer or None; found {shown(seed)}")
    return int(seed)


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


class Stream:
    """Random stream of a component for code that draws from PyTorch's global generators, such as layers and dropout.

    `with stream:` runs a block (the construction of a module, a training step) on the stream, which continues where its
    last block ended. The global generators are put back after each block. Blocks of several threads run one after
    another, so each thread gets the numbers that it gets alone.

    Args:
        seed: of the run.
        names: of the component.
        device: whose global generator belongs to the stream too, beside that of the CPU.
    """

    def __init__(self, seed: int, *names: str | int, device: torch.device | str = "cpu") -> None:
        self._devices = list(dict.fromkeys([torch.device("cpu"), torch.device(device)]))
        self._states = [generator(seed, *names, device=one).get_state() for one in self._devices]
        self._outside: list[Tensor] = []

    @property
    def state(self) -> Tensor:
        """State of the device's generator, for a checkpoint."""
        return self._states[-1]

    @state.setter
    def state(self, value: Tensor) -> None:
        torch.Generator(device=self._devices[-1]).set_state(value)  # refuses what is not a state
        self._states[-1] = value

    def __enter__(self) -> None:
        _GLOBAL.acquire()
        try:
            self._outside = [
                _exchange(device, state) for device, state in zip(self._devices, self._states, strict=True)
            ]
        except BaseException:
            _GLOBAL.release()
            raise

    def __exit__(self, *error: object) -> None:
        try:
            pairs = zip(self._devices, self._outside, strict=True)
            self._states = [_exchange(device, state) for device, state in pairs]
        finally:
            _GLOBAL.release()


def scope(seed: int, *names: str | int) -> Stream:
    """Return a context in which a module is built on the stream of the component called `names`."""
    return Stream(seed, *names)


def _exchange(device: torch.device, state: Tensor) -> Tensor:
    """Set the state of a device's global generator; return the state before."""
    kind: Any = torch if device.type == "cpu" else torch.get_device_module(device)
    which = (device,) if device.type == "cuda" else ()
    before: Tensor = kind.get_rng_state(*which)
    kind.set_rng_state(state, *which)
    return before


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

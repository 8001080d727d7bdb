"""Random numbers of a model that is walked through twice: the second pass must draw what the first drew.

Remembered are the states of Python's, NumPy's (where it is loaded) and PyTorch's global generators. The calibrator
draws on a stream of its own, so that the model draws what it would draw without it.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Draws:
    """States of the global generators.

    Args:
        cpu: PyTorch's, on the CPU.
        devices: CUDA device -> PyTorch's there.
        python: that of `random`.
        numpy: NumPy's, or None where NumPy is not loaded.
    """

    cpu: Tensor
    devices: dict[int, Tensor]
    python: Any
    numpy: Any


def remember(devices: Sequence[int] = ()) -> Draws:
    """Return the states as they are now."""
    numpy = sys.modules.get("numpy")
    return Draws(
        torch.get_rng_state(),
        {device: torch.cuda.get_rng_state(device) for device in devices},
        random.getstate(),
        None if numpy is None else numpy.random.get_state(),
    )


def put_back(draws: Draws) -> None:
    """Make the states what they were."""
    torch.set_rng_state(draws.cpu)
    for device, state in draws.devices.items():
        torch.cuda.set_rng_state(state, device)
    random.setstate(draws.python)
    if draws.numpy is not None:
        sys.modules["numpy"].random.set_state(draws.numpy)


def devices_of(module: nn.Module) -> list[int]:
    """Return the CUDA devices on which a module has parameters or buffers."""
    found = {t.device.index for t in (*module.parameters(), *module.buffers()) if t.device.type == "cuda"}
    return sorted(0 if index is None else index for index in found)


class OwnStream:
    """A stream of random numbers beside the global one.

    Args:
        seed: where it starts.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._state: Draws | None = None

    @contextmanager
    def __call__(self, devices: Sequence[int] = ()) -> Iterator[None]:
        """Let a block draw from this stream; the global one stays where it is."""
        outer = remember(devices)
        if self._state is None:
            torch.default_generator.manual_seed(self.seed)
            for device in devices:
                torch.cuda.default_generators[device].manual_seed(self.seed)
        else:
            put_back(self._state)
        try:
            yield
        finally:
            self._state = remember(devices)
            put_back(outer)

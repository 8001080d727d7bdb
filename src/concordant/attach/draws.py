"""Random numbers of a model that is walked through twice: the second pass must draw what the first drew.

Remembered are the states of Python's, NumPy's (where it is loaded) and PyTorch's global generators. The calibrator
draws on a stream of its own, so that the model draws what it would draw without it.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
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


def devices_of(module: nn.Module, inputs: Iterable[Tensor] = ()) -> list[int]:
    """Return the CUDA devices on which a module has parameters or buffers, and those of its inputs."""
    there = (t.device for t in (*module.parameters(), *module.buffers(), *inputs))
    return sorted({_index(device) for device in there if device.type == "cuda"})


def _index(device: torch.device) -> int:
    return torch.cuda.current_device() if device.index is None else device.index


class OwnStream:
    """A stream of random numbers beside the global one.

    A device that comes in later, because the model was moved there, starts at the seed.

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
        known = {} if self._state is None else self._state.devices
        if self._state is None:
            torch.default_generator.manual_seed(self.seed)
        else:  # of these devices alone: what others hold now would not be put back
            put_back(replace(self._state, devices={d: known[d] for d in devices if d in known}))
        for device in devices:
            if device not in known:
                torch.cuda.default_generators[device].manual_seed(self.seed)
        try:
            yield
        finally:
            now = remember(devices)
            self._state = replace(now, devices={**known, **now.devices})
            put_back(outer)

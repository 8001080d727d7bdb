"""Interception of submodule calls, and snapshots of what a repeated forward pass must restore.

Nothing stays behind on a module: the attributes that make its call are replaced on the instance and restored, also
after an error. PyTorch's forward hooks do not suffice, because they cannot skip a call.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import checkpoint as checkpointing

from concordant.attach.taps import Tap
from concordant.errors import UsageError

Run = Callable[..., Any]
Answer = Callable[[nn.Module, Run, tuple[Any, ...], dict[str, Any]], Any]
_ABSENT = object()
_PLAIN = (bool, int, float, str, type(None))


def interceptable(root: nn.Module) -> list[nn.Module]:
    """Return the submodules whose calls can be intercepted: all but those inside compiled modules."""
    found: dict[int, nn.Module] = {id(root): root}

    def visit(module: nn.Module) -> None:
        for child in module.children():
            if id(child) not in found:
                found[id(child)] = child
                if child._compiled_call_impl is None and "_orig_mod" not in child._modules:
                    visit(child)

    visit(root)
    return list(found.values())[1:]


@contextmanager
def intercepted(modules: Iterable[nn.Module], answer: Answer, *, whole: bool = True) -> Iterator[None]:
    """Replace the calls of modules by `answer(module, run, args, kwargs)` while a block runs.

    `run` is the original callable. It enters the module's own `forward`, and those of submodules, which are intercepted
    too; `answer` must let them through. With whole=False only `forward` is intercepted, and hooks run around it.
    """
    undo: list[tuple[dict[str, Any], str, Any]] = []

    def put(module: nn.Module, key: str, run: Run) -> None:
        undo.append((module.__dict__, key, module.__dict__.get(key, _ABSENT)))
        # A method, which shows `check_checkpointing` its module.
        module.__dict__[key] = MethodType(lambda of, *args, **kwargs: answer(of, run, args, kwargs), module)

    try:
        for module in modules:
            if whole:
                put(module, "_compiled_call_impl", module._compiled_call_impl or module._call_impl)
            if not isinstance(module, torch.jit.ScriptModule):
                put(module, "forward", module.forward)
        yield
    finally:
        for attributes, key, value in reversed(undo):
            if value is _ABSENT:
                attributes.pop(key, None)
            else:
                attributes[key] = value


class ModuleState:
    """Snapshot of plain attributes and buffers; until `restore` the modules work on copies of their buffers."""

    def __init__(self, modules: Sequence[nn.Module]) -> None:
        self._saved = [
            (m, set(m.__dict__), {k: v for k, v in m.__dict__.items() if isinstance(v, _PLAIN)}, dict(m._buffers))
            for m in modules
        ]
        copies: dict[int, Tensor] = {}  # modules may share a buffer
        for module, _, _, buffers in self._saved:
            for name, buffer in buffers.items():
                if buffer is not None:
                    module._buffers[name] = copies.setdefault(id(buffer), buffer.clone())

    def restore(self) -> None:
        """Restore the attributes and buffers, and remove new ones."""
        for module, names, attributes, buffers in self._saved:
            for name in [k for k, v in module.__dict__.items() if k not in names and isinstance(v, _PLAIN)]:
                del module.__dict__[name]
            module.__dict__.update(attributes)
            for name in set(module._buffers) - set(buffers):
                del module._buffers[name]
            module._buffers.update(buffers)


class RandomState:
    """Snapshot of the global random generators of PyTorch (on the CPU and some CUDA devices), Python and NumPy."""

    def __init__(self, devices: Sequence[int] = ()) -> None:
        self._numpy = sys.modules.get("numpy")  # if it is not imported, the model does not draw from it
        self._torch = torch.get_rng_state()
        self._cuda = {device: torch.cuda.get_rng_state(device) for device in devices}
        self._python = random.getstate()
        self._numpy_state = None if self._numpy is None else self._numpy.random.get_state()

    def restore(self) -> None:
        """Restore the generators."""
        torch.set_rng_state(self._torch)
        for device, state in self._cuda.items():
            torch.cuda.set_rng_state(state, device)
        random.setstate(self._python)
        if self._numpy is not None:
            self._numpy.random.set_state(self._numpy_state)


class RandomStream:
    """A stream of PyTorch's random numbers beside the global one; it starts at `seed` on every device."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._states: dict[int | None, Tensor] = {}  # CUDA device (None = CPU) -> state

    @contextmanager
    def __call__(self, devices: Sequence[int] = ()) -> Iterator[None]:
        """Draw from this stream while a block runs, on the CPU and on CUDA devices."""
        with torch.random.fork_rng(devices):
            generators: dict[int | None, torch.Generator] = {None: torch.default_generator}
            generators |= {device: torch.cuda.default_generators[device] for device in devices}
            for device, generator in generators.items():
                if device in self._states:
                    generator.set_state(self._states[device])
                else:
                    generator.manual_seed(self.seed)
            try:
                yield
            finally:
                self._states |= {device: generator.get_state() for device, generator in generators.items()}


def cuda_devices(module: nn.Module, inputs: Iterable[Tensor] = ()) -> list[int]:
    """Return the CUDA devices of a module's parameters and buffers, and of its inputs."""
    devices = [t.device for t in (*module.parameters(), *module.buffers(), *inputs) if t.device.type == "cuda"]
    return sorted({torch.cuda.current_device() if d.index is None else d.index for d in devices})


def check_checkpointing(module: nn.Module, tap: Tap) -> None:
    """Raise UsageError if gradient checkpointing would run a tap again in the backward pass, without the calibrator."""
    frame = sys._getframe(1)
    while frame is not None:
        code = frame.f_code
        if code.co_name == "checkpoint" and code.co_filename == checkpointing.__file__:
            function = frame.f_locals.get("function")
            while isinstance(function, partial):  # models bind keyword arguments with it
                function = function.func
            if frame.f_locals.get("use_reentrant") is not False:
                raise UsageError(
                    f"the tap {tap.written!r} is checkpointed with use_reentrant=True, which hides its gradient; "
                    "use use_reentrant=False"
                )
            if function is not module and getattr(function, "__self__", None) is not module:
                raise UsageError(
                    f"the tap {tap.written!r} lies inside a block that gradient checkpointing runs again; tap the "
                    "block itself"
                )
        frame = frame.f_back  # type: ignore[assignment]

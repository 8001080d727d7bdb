"""Snapshots of what a forward pass may change in a model, and of the random generators that it draws from."""

from __future__ import annotations

import copy
import random
import sys
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextvars import copy_context
from dataclasses import is_dataclass
from functools import partial
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy


class ModelState:
    """Snapshot of what modules hold, to put it back, or to repeat later what has changed since.

    It covers attributes, hooks, parameters, buffers and random generators, and what lies in nested containers, arrays
    and objects of the model's own package. A module that still has to find its sizes (LazyLinear) is left out. Of
    context variables, in which hooks may collect outputs, it covers the containers. With `aside` the copies of tensors
    lie in the memory of the CPU.
    """

    def __init__(self, modules: Iterable[nn.Module], *, aside: bool = False) -> None:
        self._aside = aside
        self._containers: dict[tuple[Any, ...], tuple[Any, Any]] = {}  # path -> container, copy of what it holds
        self._tensors: dict[int, tuple[Tensor, Tensor, bool]] = {}  # copies of the values, and requires_grad
        self._others: dict[int, tuple[Any, Any]] = {}  # random generators and arrays
        self._classes = [(m, type(m)) for m in modules if not _uninitialised(m)]
        self._seen: set[int] = set()
        self._copies: dict[int, Tensor] = {}  # modules may share a buffer
        for module, kind in self._classes:
            self._visit((module,), module.__dict__, kind.__module__.partition(".")[0])
        self._visit((_CONTEXT,), _CONTEXT.__dict__, None)

    def _copy(self, value: Tensor) -> Tensor:
        return value.to("cpu", copy=True) if self._aside else value.clone()

    def _visit(self, path: tuple[Any, ...], value: Any, package: str | None) -> None:  # noqa: ANN401
        """Copy a value if it can change in place, and whatever it holds; without a package, containers alone."""
        if isinstance(value, _FIXED) or id(value) in self._seen:
            return
        if package is None and not isinstance(value, (*_CONTAINERS, tuple)):
            return
        if isinstance(value, Tensor):
            if not value.is_meta and not is_lazy(value) and not _freed(value):
                with torch.no_grad():
                    self._tensors[id(value)] = (value, self._copy(value.detach()), value.requires_grad)
            return
        self._seen.add(id(value))
        if isinstance(value, _CONTAINERS):
            self._containers[path] = (value, _held(value))
            if not value:  # as most registries of hooks
                return
            items: Iterable[tuple[Any, Any]] = value.items() if isinstance(value, dict) else enumerate(value)
            for key, item in items:
                self._visit((*path, key), item, package)
        elif isinstance(value, tuple):
            for key, item in enumerate(value):
                self._visit((*path, key), item, package)
        elif isinstance(value, torch.Generator):
            self._others[id(value)] = (value, value.get_state())
        elif isinstance(value, random.Random):
            self._others[id(value)] = (value, value.getstate())
        elif type(value).__module__.partition(".")[0] == "numpy" and hasattr(value, "__array__"):
            self._others[id(value)] = (value, value.copy())
        elif hasattr(value, "bit_generator"):
            self._others[id(value)] = (value, copy.deepcopy(value.bit_generator.state))
        elif hasattr(value, "__dict__") and not isinstance(value, (nn.Module, ModuleType)):
            module = type(value).__module__
            own = module.partition(".")[0] in (package, "types") or is_dataclass(value)
            own = own and not module.startswith("torch.distributed.")  # a wrapper's own bookkeeping
            if own and isinstance(value.__dict__, dict):
                self._visit((*path, _OBJECT), value.__dict__, package)

    def __enter__(self) -> None:
        """Restore after a block."""

    def __exit__(self, *_: object) -> None:
        self.restore()

    def use_copies(self, module: nn.Module) -> None:
        """Let a module work on copies of its buffers until `restore`, so that no graph misses the originals."""
        for name, buffer in module._buffers.items():
            if buffer is not None and not is_lazy(buffer):
                module._buffers[name] = self._copies.setdefault(id(buffer), buffer.clone())

    def restore(self) -> None:
        """Put back everything, in place."""
        for module, kind in self._classes:
            if type(module) is not kind:
                module.__class__ = kind
        for container, held in self._containers.values():
            _fill(container, held)
        for tensor, value, flag in self._tensors.values():
            if tensor.requires_grad is not flag and tensor.is_leaf:
                tensor.requires_grad_(flag)
            _put(tensor, value)
        for thing, value in self._others.values():
            if isinstance(thing, torch.Generator):
                thing.set_state(value)
            elif isinstance(thing, random.Random):
                thing.setstate(value)
            elif hasattr(thing, "bit_generator"):
                thing.bit_generator.state = value
            elif thing.shape:
                thing[...] = value

    def changes(self) -> Callable[[], None]:
        """Return a function that repeats what has changed in containers and tensors since the snapshot."""
        containers: list[tuple[tuple[Any, ...], Any, Any]] = []
        for path, (container, held) in self._containers.items():
            if _at(path) is container and not _alike(container, held):
                containers.append((path, held, _held(container)))
        tensors = [
            (tensor, tensor.detach().clone())
            for tensor, value, _ in self._tensors.values()
            if not _unchanged(tensor, value)
        ]

        def repeat() -> None:
            for path, before, after in containers:
                container = _at(path)
                if not isinstance(container, _CONTAINERS):
                    continue
                if isinstance(container, dict):
                    for key in [key for key in before if key not in after]:
                        container.pop(key, None)
                    container.update({k: v for k, v in after.items() if k not in before or before[k] is not v})
                elif isinstance(container, list) and _alike(after[: len(before)], before):
                    container.extend(after[len(before) :])
                else:
                    _fill(container, after)
            for tensor, value in tensors:
                _put(tensor, value)

        return repeat


_CONTAINERS = (dict, list, deque, set)
_FIXED = (
    bool,
    int,
    float,
    complex,
    str,
    bytes,
    type(None),
    type,
    FunctionType,
    BuiltinFunctionType,
    MethodType,
    partial,
)
_OBJECT = object()  # in a path: the attributes of the object


class _Context:
    """The start of paths into context variables: their values now, by variable."""

    __slots__ = ()
    __dict__ = property(lambda _: dict(copy_context().items()))


_CONTEXT = _Context()


def _freed(x: Tensor) -> bool:
    """Return whether a tensor has given up its memory, as whole weights between two uses by FSDP."""
    return type(x) in (Tensor, nn.Parameter) and x.numel() > 0 and x.untyped_storage().size() == 0


def _uninitialised(module: nn.Module) -> bool:
    return any(is_lazy(x) for x in (*module._parameters.values(), *module._buffers.values()) if x is not None)


def _at(path: tuple[Any, ...]) -> Any:  # noqa: ANN401
    """Return what lies at a path of `ModelState` now; None if nothing does."""
    value = path[0].__dict__
    for key in path[1:]:
        try:
            value = value.__dict__ if key is _OBJECT else value[key]
        except (LookupError, TypeError, AttributeError):
            return None
    return value


def _held(container: Any) -> Any:  # noqa: ANN401
    """Return a copy of what a container holds, as a dictionary, a set or a list."""
    if isinstance(container, dict):
        return dict(container)
    return set(container) if isinstance(container, set) else list(container)


def _alike(one: Any, two: Any) -> bool:  # noqa: ANN401
    """Return whether two containers of one kind hold the same objects in the same order."""
    if len(one) != len(two) or not one:
        return len(one) == len(two)
    if isinstance(one, dict):
        return all(k is j and v is w for (k, v), (j, w) in zip(one.items(), two.items(), strict=True))
    return one == two if isinstance(one, set) else all(x is y for x, y in zip(one, two, strict=True))


def _fill(container: Any, held: Any) -> None:  # noqa: ANN401
    """Replace what a container holds."""
    if not _alike(container, held):
        container.clear()
        (container.extend if isinstance(container, (list, deque)) else container.update)(held)


def _unchanged(tensor: Tensor, value: Tensor) -> bool:
    alike = tensor.shape == value.shape and tensor.dtype == value.dtype
    return alike and torch.equal(tensor.detach(), value.to(tensor.device))


def _put(tensor: Tensor, value: Tensor) -> None:
    """Set a tensor's values without a trace in the autograd graph."""
    if _unchanged(tensor, value):
        return
    if tensor.shape != value.shape or tensor.dtype != value.dtype:
        tensor.data = value.to(tensor.device, copy=True)
    else:
        with torch.inference_mode(tensor.is_inference()):
            tensor.data.copy_(value)


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

"""Arguments of a call: features among them, and masks, presence and batch size computed from them.

An address is a position (0), a parameter's name ("audio"), or a path into a container: (0, "audio") is the key "audio"
of the first argument. A name is found whether the argument is passed by name, by position, or as a key of the only
argument. A source of masks or presence is a function of the model's inputs, or a tap.
"""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from numbers import Integral
from typing import Any

from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from concordant.attach.containers import Path, at_path, described, replaced, tensors_of
from concordant.attach.hooks import Run, intercepted
from concordant.attach.taps import FOLDED, Tap, find_module
from concordant.errors import UsageError, shown
from concordant.modalities import AUTO, LAYOUTS, as_tensor

Address = int | str | tuple[int | str, ...]
Source = str | Callable[..., Tensor]


@dataclass(frozen=True)
class Arguments:
    """The arguments of one call, and the names of the positional parameters as far as the signature shows them."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    parameters: tuple[str, ...] = ()

    def find(self, address: Address, modality: str, of: str) -> tuple[Tensor, Path]:
        """Return the tensor at an address, and its path in (args, kwargs); raise UsageError without a tensor there."""
        found, path = self.value(address, f"taps[{modality!r}]", of)
        if isinstance(found, PackedSequence):
            found, path = found.data, (*path, 0)
        if not isinstance(found, Tensor):
            raise UsageError(f"taps[{modality!r}] must be a tensor in the call of {of}; found {described(found)}")
        return found, path

    def value(self, address: Address, what: str, of: str) -> tuple[Any, Path]:
        """Return the value at an address, and its path; raise UsageError naming the argument `what` without one."""
        try:
            path = self._path(address if isinstance(address, tuple) else (address,))
            return at_path((self.args, self.kwargs), path), path
        except (LookupError, TypeError):
            there = [*(str(number) for number in range(len(self.args))), *(repr(name) for name in self.kwargs)]
            raise UsageError(
                f"{what} is {address!r}, which the call of {of} does not have; it has "
                f"{', '.join(there) or 'no arguments'}"
            ) from None

    def named(self) -> Iterator[tuple[int | str, Any]]:
        """Yield the arguments by name, or by position without one, and the items of mappings among them by key."""
        names = (*self.parameters, *range(len(self.parameters), len(self.args)))
        for name, value in (*zip(names, self.args, strict=False), *self.kwargs.items()):
            yield from value.items() if isinstance(value, Mapping) else [(name, value)]

    def replace(self, path: Path, value: Tensor) -> Arguments:
        """Return the arguments with another tensor at a path from `find`."""
        args, kwargs = replaced((self.args, self.kwargs), path, value)
        return Arguments(args, kwargs, self.parameters)

    def _path(self, address: Path) -> Path:
        """Return the path in (args, kwargs) of an address; raise LookupError if the argument is missing."""
        first, rest = address[0], address[1:]
        if isinstance(first, int):
            return (0, first, *rest) if first < len(self.args) else (1, self.parameters[first], *rest)
        if first in self.kwargs:
            return (1, first, *rest)
        if first in self.parameters and self.parameters.index(first) < len(self.args):
            return (0, self.parameters.index(first), *rest)
        if len(self.args) == 1 and isinstance(self.args[0], Mapping) and first in self.args[0]:
            return (0, 0, first, *rest)
        raise LookupError(first)


def parameters_of(module: nn.Module, method: str = "forward") -> tuple[str, ...]:
    """Return the names of the positional parameters of a module's method; empty without a signature."""
    try:
        signature = inspect.signature(getattr(module, method))
    except (TypeError, ValueError):
        return ()
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return tuple(name for name, parameter in signature.parameters.items() if parameter.kind in kinds)


def check_addresses(taps: Mapping[str, object]) -> dict[str, Address]:
    """Return modality -> address; raise UsageError if one is neither a position, a name nor a path."""
    checked: dict[str, Address] = {}
    for name, address in taps.items():
        keys = address if isinstance(address, tuple) else (address,)
        path = tuple(int(key) if isinstance(key, Integral) and not isinstance(key, bool) else key for key in keys)
        fine = bool(path) and all(type(key) in (int, str) for key in path)
        if not fine or (isinstance(path[0], int) and path[0] < 0):
            raise UsageError(
                f"taps[{name!r}] must be a position (0), a parameter's name ('audio') or a path ((0, 'audio')) of an "
                f"argument; found {shown(address)}"
            )
        checked[name] = path if isinstance(address, tuple) else path[0]
    return checked


def call_at(core: nn.Module, tap: Tap, change: Callable[[Arguments, str], Arguments], call: Callable[[], Any]) -> Any:  # noqa: ANN401
    """Return the model's output, by `call()`, with `change(arguments, name)` applied to a submodule's arguments.

    Raises:
        UsageError: the submodule is not called, or called twice and the tap does not give the number of the call.
    """
    module, calls, inside = find_module(core, tap.name, "at"), 0, False
    names = parameters_of(module)

    def answer(_: nn.Module, run: Run, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:  # noqa: ANN401
        nonlocal calls, inside
        if inside:
            return run(*args, **kwargs)
        calls += 1
        if tap.call is None and calls > 1:
            raise UsageError(
                f"at={tap.written!r} is called twice in one forward; say which call is meant: "
                f'"{tap.name}#1" or "{tap.name}#2"'
            )
        inside = True
        try:
            if tap.call in (None, calls):
                changed = change(Arguments(args, kwargs, names), repr(tap.written))
                args, kwargs = changed.args, changed.kwargs
            return run(*args, **kwargs)
        finally:
            inside = False

    with intercepted([module], answer):
        out = call()
    if calls < (tap.call or 1):
        times = f" {tap.call} times" if tap.call and tap.call > 1 else ""
        raise UsageError(f"at={tap.written!r} did not fire: forward went through without calling it{times}")
    return out


def check_sources(
    argument: str, sources: Mapping[str, Any] | None, names: tuple[str, ...], *, addresses: bool = False
) -> dict[str, Any]:
    """Return modality -> the function or tap (with `addresses` also argument) of its masks, presence or counts.

    Raises:
        UsageError: the sources are of another modality, or of another type.
    """
    what = "a function of the model's inputs or the name of a submodule"
    if addresses:
        what = "an argument of the model, a tap, or a function of the model's inputs"
    if not isinstance(sources, Mapping | None):
        raise UsageError(f"{argument} must be a dictionary from modality to {what}; found {shown(sources)}")
    for name, source in (sources or {}).items():
        if name not in names:
            raise UsageError(f"{argument} names {name!r}, which taps does not; the modalities are {', '.join(names)}")
        fine = isinstance(source, (str, int, tuple) if addresses else str) or callable(source)
        if isinstance(source, Tensor) or not fine:
            raise UsageError(f"{argument}[{name!r}] must be {what}; found {shown(source)}")
    return dict(sources or {})


def evaluate_sources(
    argument: str, sources: Mapping[str, Source], found: Mapping[str, Tensor], given: Arguments
) -> dict[str, Tensor] | None:
    """Return modality -> mask or presence of one batch; None without sources.

    The value of a tap is `found["masks.audio"]`. Raise UsageError if a function does not return a tensor.
    """
    values = {}
    for name, source in sources.items():
        label = f"{argument}.{name}"
        value = found[label] if isinstance(source, str) else as_tensor(source(*given.args, **given.kwargs))
        if not isinstance(value, Tensor):
            raise UsageError(f"the function {label} must return a bool tensor; found {described(value)}")
        values[name] = value
    return values or None


def batch_size(
    features: Mapping[str, Tensor], layouts: Mapping[str, str], rows: Callable[..., int] | None, given: Arguments
) -> int:
    """Return B from the function `rows`, else from an unfolded feature, else from the model's first tensor.

    Raises:
        UsageError: the function does not return a whole number.
    """
    if rows is not None:
        size = rows(*given.args, **given.kwargs)
        try:
            return operator.index(size)
        except TypeError:
            raise UsageError(f"batch_size must return B, a whole number; found {shown(size)}") from None
    for name, x in features.items():
        if layouts[name] not in FOLDED and x.dim():
            axis = 0 if layouts[name] == AUTO else LAYOUTS[layouts[name]].batch
            return int(x.shape[min(axis, x.dim() - 1)])
    return next((int(x.shape[0]) for x in tensors_of((given.args, given.kwargs)) if x.dim()), 0)

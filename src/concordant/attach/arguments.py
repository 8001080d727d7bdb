"""Features that are the arguments of one module: of a fusion module, or of the whole model.

An address is a position (0), a parameter's name ("audio"), or a path into a container: (0, "audio") is the key "audio"
of the first argument. A name is found whether the caller passes the argument by name, by position, or as a key of
the only argument.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from concordant.attach.interception import Run, intercepted
from concordant.attach.structure import Path, at_path, described, replaced
from concordant.attach.taps import Tap, find_module
from concordant.errors import UsageError

Address = int | str | tuple[int | str, ...]


@dataclass(frozen=True)
class Arguments:
    """One call's arguments.

    Args:
        args: by position.
        kwargs: by name.
        parameters: the names of the parameters by position, as far as the signature tells.
    """

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    parameters: tuple[str, ...]

    def find(self, address: Address, modality: str, of: str) -> tuple[Tensor, Path]:
        """Return an argument, and where in (args, kwargs) it lies.

        Raises:
            UsageError: there is none, or it is no tensor.
        """
        path: Path = address if isinstance(address, tuple) else (address,)
        try:
            full = self._full(path)
            found = at_path((self.args, self.kwargs), full)
        except (LookupError, TypeError):
            there = [*(str(number) for number in range(len(self.args))), *(repr(name) for name in self.kwargs)]
            raise UsageError(
                f"taps[{modality!r}] is {address!r}, which the call of {of} does not have; it has "
                f"{', '.join(there) or 'no arguments'}"
            ) from None
        if not isinstance(found, Tensor):
            raise UsageError(f"taps[{modality!r}] must be a tensor in the call of {of}; found {described(found)}")
        return found, full

    def replace(self, path: Path, value: Tensor) -> Arguments:
        """Return the arguments with another tensor at a path that `find` returned."""
        args, kwargs = replaced((self.args, self.kwargs), path, value)
        return Arguments(args, kwargs, self.parameters)

    def _full(self, path: Path) -> Path:
        """Return a path from (args, kwargs) on.

        Raises:
            LookupError: nothing of this name or number was passed.
        """
        first, rest = path[0], path[1:]
        if isinstance(first, int):
            if first < len(self.args):
                return (0, first, *rest)
            return (1, self.parameters[first], *rest)
        if first in self.kwargs:
            return (1, first, *rest)
        if first in self.parameters and self.parameters.index(first) < len(self.args):
            return (0, self.parameters.index(first), *rest)
        if len(self.args) == 1 and isinstance(self.args[0], Mapping) and first in self.args[0]:
            return (0, 0, first, *rest)
        raise LookupError(first)


def call_at(core: nn.Module, tap: Tap, change: Callable[[Arguments, str], Arguments], call: Callable[[], Any]) -> Any:  # noqa: ANN401
    """Return what a model returns when the arguments of one of its submodules are changed.

    Args:
        core: the model, without wrappers.
        tap: the submodule, and which of its calls.
        change: the arguments -> changed ones; the second argument names the submodule, for errors.
        call: calls the model.

    Raises:
        UsageError: the submodule is not called, or more than once where the tap does not say which call.
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


def parameters_of(module: nn.Module) -> tuple[str, ...]:
    """Return the names of the positional parameters of a module's forward; none where there is no signature."""
    try:
        signature = inspect.signature(module.forward)
    except (TypeError, ValueError):
        return ()
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return tuple(name for name, parameter in signature.parameters.items() if parameter.kind in kinds)


def check_addresses(taps: Mapping[str, object]) -> dict[str, Address]:
    """Return modality -> address.

    Raises:
        UsageError: something is no address.
    """
    checked: dict[str, Address] = {}
    for name, address in taps.items():
        parts = address if isinstance(address, tuple) else (address,)
        fine = bool(parts) and all(isinstance(part, (int, str)) and not isinstance(part, bool) for part in parts)
        if not fine or (isinstance(parts[0], int) and parts[0] < 0):
            raise UsageError(
                f"with `at`, taps[{name!r}] must be a position (0), a parameter's name ('audio') or a path "
                f"((0, 'audio')); found {address!r}"
            )
        checked[name] = address  # type: ignore[assignment]
    return checked

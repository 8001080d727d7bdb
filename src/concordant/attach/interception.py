"""Calls of submodules, answered by somebody else while a block runs.

Nothing stays behind: what a module does when it is called is replaced on the instance and put back, whatever
happens. A call is caught as a whole, hooks included, or where a model calls `forward` itself; a call that is really
run comes by its own `forward`, and those of other modules, which are caught as well: who answers lets them through.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

Run = Callable[..., Any]
Answer = Callable[[nn.Module, Run, tuple[Any, ...], dict[str, Any]], Any]
_ABSENT = object()


def calls_of(root: nn.Module) -> list[nn.Module]:
    """Return the submodules whose calls can be caught: all but those inside compiled ones, which nobody else calls."""
    found: list[nn.Module] = []
    seen = {id(root)}

    def look(module: nn.Module) -> None:
        for child in module.children():
            if id(child) in seen:
                continue
            seen.add(id(child))
            found.append(child)
            if child._compiled_call_impl is None and "_orig_mod" not in child._modules:
                look(child)

    look(root)
    return found


@contextmanager
def intercepted(modules: Iterable[nn.Module], answer: Answer, *, whole: bool = True) -> Iterator[None]:
    """Let `answer(module, run, args, kwargs)` answer the calls of modules; `run` is what would be called.

    Args:
        modules: whose calls.
        answer: gives what the call returns.
        whole: catch the call with its hooks; False = only `forward`, so that hooks run around the answer.
    """
    undo: list[tuple[dict[str, Any], str, Any]] = []

    def put(module: nn.Module, key: str, value: Run) -> None:
        undo.append((module.__dict__, key, module.__dict__.get(key, _ABSENT)))
        module.__dict__[key] = value

    try:
        for module in modules:
            if whole:
                run = module._compiled_call_impl or module._call_impl
                put(module, "_compiled_call_impl", _caught(module, run, answer))
            if not isinstance(module, torch.jit.ScriptModule):
                put(module, "forward", _caught(module, module.forward, answer))
        yield
    finally:
        for where, key, value in reversed(undo):
            if value is _ABSENT:
                where.pop(key, None)
            else:
                where[key] = value


def _caught(module: nn.Module, run: Run, answer: Answer) -> Run:
    """Return a call that asks `answer`."""

    def call(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - as the module has it
        return answer(module, run, args, kwargs)

    return call

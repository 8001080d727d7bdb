"""Interception of submodule calls.

Nothing stays behind on a module: the attributes that make its call are replaced on the instance and restored, also
after an error. PyTorch's forward hooks do not suffice, because they cannot skip a call.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterable, Iterator
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


class Interception:
    """A replacement of a method: `answer(module, run, args, kwargs)`, which looks like the original `run`.

    It is bound to its module by `MethodType`, which shows `check_checkpointing` the module.
    """

    def __init__(self, run: Run, answer: Answer) -> None:
        self.run, self.answer, self.__doc__ = run, answer, getattr(run, "__doc__", None)

    def __call__(self, module: nn.Module, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        """Answer a call of the method."""
        return self.answer(module, self.run, args, kwargs)

    @property
    def __signature__(self) -> inspect.Signature:
        """The signature of `run`, after the module itself."""
        signature = inspect.signature(self.run)
        first = inspect.Parameter("_module", inspect.Parameter.POSITIONAL_ONLY)
        return signature.replace(parameters=[first, *signature.parameters.values()])

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - the original's, such as __name__ and __doc__
        if name == "run":  # not there yet, while a copy is made
            raise AttributeError(name)
        return getattr(self.run, name)


@contextmanager
def intercepted(
    modules: Iterable[nn.Module], answer: Answer, *, whole: bool = True, method: str = "forward"
) -> Iterator[None]:
    """Replace the calls of modules by `answer(module, run, args, kwargs)` while a block runs.

    `run` is the original callable. It enters the module's own `forward`, and those of submodules, which are intercepted
    too; `answer` must let them through. With whole=False only `method` is intercepted, and hooks run around it.
    """
    undo: list[tuple[dict[str, Any], str, Any]] = []

    def put(module: nn.Module, key: str, run: Run) -> None:
        undo.append((module.__dict__, key, module.__dict__.get(key, _ABSENT)))
        module.__dict__[key] = MethodType(Interception(run, answer), module)

    try:
        for module in modules:
            if whole:
                put(module, "_compiled_call_impl", module._compiled_call_impl or module._call_impl)
            if not isinstance(module, torch.jit.ScriptModule):
                put(module, method, getattr(module, method))
        yield
    finally:
        for attributes, key, value in reversed(undo):
            if value is _ABSENT:
                attributes.pop(key, None)
            else:
                attributes[key] = value


def cuda_devices(module: nn.Module, inputs: Iterable[Tensor] = ()) -> list[int]:
    """Return the CUDA devices of a module's parameters and buffers, and of its inputs."""
    devices = [t.device for t in (*module.parameters(), *module.buffers(), *inputs) if t.device.type == "cuda"]
    return sorted({torch.cuda.current_device() if d.index is None else d.index for d in devices})


def check_checkpointing(module: nn.Module, tap: Tap) -> bool:
    """Return whether a tap runs under gradient checkpointing.

    Raises:
        UsageError: the backward pass would run it again without the calibrator.
    """
    frame, found = sys._getframe(1), False
    while frame is not None:
        code = frame.f_code
        if code.co_name == "checkpoint" and code.co_filename == checkpointing.__file__:
            found = True
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
    return found


def failing_module(error: BaseException, root: nn.Module) -> str:
    """Return "in 'NAME' (Class)" of the innermost submodule whose code raised an error, or "in the model"."""
    names, found, step = {id(module): name for name, module in root.named_modules()}, "", error.__traceback__
    while step is not None:
        owner = step.tb_frame.f_locals.get("self")
        if isinstance(owner, nn.Module) and names.get(id(owner)):
            found = f"in {names[id(owner)]!r} ({type(owner).__name__})"
        step = step.tb_next
    return found or "in the model's forward"

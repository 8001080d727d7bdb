"""What running twice must not show: numbers and buffers that modules change on the way, and gradient checkpointing.

Modules that run once more than they would work on copies of their buffers meanwhile. Gradient checkpointing runs a
block again in the backward pass, without the calibrator, so it must not hold a tap.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial

from torch import Tensor, nn
from torch.utils import checkpoint as checkpointing

from concordant.attach.taps import Tap
from concordant.errors import UsageError

_PLAIN = (bool, int, float, str, type(None))


class State:
    """Plain attributes and buffers of modules that run once more than they would; they work on copies meanwhile."""

    def __init__(self, modules: Sequence[nn.Module]) -> None:
        self.attributes = [(m, {k: v for k, v in m.__dict__.items() if isinstance(v, _PLAIN)}) for m in modules]
        self.names = [set(m.__dict__) for m in modules]
        self.buffers = [(m, dict(m._buffers)) for m in modules]
        copies: dict[int, Tensor] = {}
        for module, buffers in self.buffers:
            for name, buffer in buffers.items():
                if buffer is not None:
                    module._buffers[name] = copies.setdefault(id(buffer), buffer.clone())

    def put_back(self) -> None:
        """Make them what they were."""
        for (module, attributes), names in zip(self.attributes, self.names, strict=True):
            for name in [k for k, v in module.__dict__.items() if k not in names and isinstance(v, _PLAIN)]:
                del module.__dict__[name]
            module.__dict__.update(attributes)
        for module, buffers in self.buffers:
            for name in set(module._buffers) - set(buffers):
                del module._buffers[name]
            module._buffers.update(buffers)


def check_checkpointing(module: nn.Module, tap: Tap) -> None:
    """Refuse a tap that gradient checkpointing would run again in the backward pass, without the calibrator.

    Raises:
        UsageError: the tap is inside a checkpointed block, or checkpointing is reentrant.
    """
    frame = sys._getframe(1)
    while frame is not None:
        code = frame.f_code
        if code.co_name == "checkpoint" and code.co_filename == checkpointing.__file__:
            function = frame.f_locals.get("function")
            while isinstance(function, partial):  # models bind keyword arguments so
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

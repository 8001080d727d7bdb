"""A tensor that stains what is computed from it.

In the first pass a tap returns its feature so stained: what is computed from it has yet to be computed from the
calibrated feature, and is told from what may be kept. The graph of autograd tells what a stain missed.
"""

# ruff: noqa: ANN401 - as PyTorch declares __torch_function__

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from concordant.attach.structure import map_tensors, version_of

# What depends on the shape of a tensor alone.
_BLANK = {
    *(torch.zeros_like, torch.ones_like, torch.empty_like, torch.full_like, torch.rand_like, torch.randn_like),
    *(Tensor.new_zeros, Tensor.new_ones, Tensor.new_empty, Tensor.new_full, Tensor.new_tensor),
}


class Tainted(Tensor):
    """A tensor whose descendants are tainted as well."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run `func`, and taint what it returns and what it changes."""
        with torch._C.DisableTorchFunctionSubclass():
            target = args[0] if args and isinstance(args[0], Tensor) else None
            before = None if target is None else version_of(target)
            out = func(*args, **(kwargs or {}))
            if func in _BLANK:
                return map_tensors(out, plain)
            if (
                type(target) is Tensor
                and (out is None or out is target)
                and (before is None or _changed(target, before))
            ):
                target.__class__ = Tainted  # a plain tensor into which a tainted one was written
            return map_tensors(out, taint)


def _changed(tensor: Tensor, before: int) -> bool:
    return version_of(tensor) != before


def taint(tensor: Tensor) -> Tensor:
    """Return the tensor tainted; what is no plain tensor passes as it is."""
    return tensor.as_subclass(Tainted) if type(tensor) is Tensor else tensor


def plain(tensor: Tensor) -> Tensor:
    """Return the tensor without the taint."""
    return tensor.as_subclass(Tensor) if isinstance(tensor, Tainted) else tensor


def is_tainted(values: Iterable[Tensor]) -> bool:
    """Tell whether any of the tensors is tainted."""
    return any(isinstance(tensor, Tainted) for tensor in values)


class Ancestry:
    """Finds in the graph of autograd whether tensors come from others; every node is visited once."""

    def __init__(self) -> None:
        self._sources: set[Any] = set()
        self._clean: set[Any] = set()

    def source(self, tensor: Tensor) -> None:
        """Remember a tensor whose descendants are sought."""
        if tensor.grad_fn is not None:
            self._sources.add(tensor.grad_fn)

    def descends(self, tensors: Iterable[Tensor]) -> bool:
        """Tell whether any of the tensors comes from a source."""
        waiting = [tensor.grad_fn for tensor in tensors if tensor.grad_fn is not None] if self._sources else []
        seen = set()
        while waiting:
            node = waiting.pop()
            if node in self._sources:
                return True
            if node in seen or node in self._clean:
                continue
            seen.add(node)
            waiting += [parent for parent, _ in node.next_functions if parent is not None]
        self._clean |= seen
        return False

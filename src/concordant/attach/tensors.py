"""Tensors that a pass follows: what derives from a feature, what stands in for one, and what was changed in place."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from concordant.attach.containers import items_of, map_tensors, tensors_of

# Functions whose result depends on the shape of a tensor alone.
SHAPE_ONLY = {
    *(torch.zeros_like, torch.ones_like, torch.empty_like, torch.full_like, torch.rand_like, torch.randn_like),
    *(Tensor.new_zeros, Tensor.new_ones, Tensor.new_empty, Tensor.new_full, Tensor.new_tensor),
}


class Tainted(Tensor):
    """A tensor that marks everything computed from it: the first pass returns tapped features in this class."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: ANN401
        """Run `func`, and taint its results and the tensor that it changes in place."""
        with torch._C.DisableTorchFunctionSubclass():
            target = args[0] if args and type(args[0]) is Tensor else None
            before = None if target is None or target.is_inference() else target._version
            out = func(*args, **(kwargs or {}))
            if func in SHAPE_ONLY:
                return out
            if target is not None and (out is None or out is target) and (before is None or target._version != before):
                target.__class__ = Tainted  # a plain tensor that a tainted one was written into
            return map_tensors(out, taint)


def taint(tensor: Tensor) -> Tensor:
    """Return a plain tensor as `Tainted`; parameters and other subclasses are returned unchanged."""
    return tensor.as_subclass(Tainted) if type(tensor) is Tensor else tensor


def reachable(value: Any, depth: int = 5) -> Iterator[Tensor]:  # noqa: ANN401
    """Yield the tensors in nested containers and in attributes of other objects, down to a depth."""
    if isinstance(value, Tensor):
        yield value
    elif depth and not isinstance(value, (nn.Module, type, str)) and not callable(value):
        held, attributes = items_of(value), [*getattr(value, "__dict__", {}).values()]
        if held is None:
            slots = {slot for kind in type(value).__mro__ for slot in getattr(kind, "__slots__", ())}
            attributes += [getattr(value, slot) for slot in slots if hasattr(value, slot)]
        for item in (*(held or {}).values(), *attributes):
            yield from reachable(item, depth - 1)


# What may be read of a placeholder: its calibrated feature has the same.
_getters: Any = Tensor
_OF_KIND = {*(_getters.dtype.__get__, _getters.device.__get__), Tensor.is_floating_point, torch.is_floating_point}
_OF_SHAPE = {
    *SHAPE_ONLY,
    *(_getters.shape.__get__, _getters.ndim.__get__, Tensor.size, Tensor.dim, Tensor.numel, Tensor.__len__),
}


class Placeholder(Tensor):
    """A feature that is not calibrated yet, on the device "meta": nothing can use it unnoticed."""

    pending: tuple[Tensor, bool, Callable[[], None]]  # the feature, whether its shape stays, what to do at a use

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: ANN401
        """Answer a question about size, type or device; report any other use."""
        found = [x for x in tensors_of((args, kwargs or {})) if type(x) is Placeholder]
        with torch._C.DisableTorchFunctionSubclass():
            for x in found:
                _, stays, report = x.pending
                if func not in _OF_KIND and not (stays and func in _OF_SHAPE):
                    report()
            real = {id(x): x.pending[0] for x in found}
            args, kwargs = map_tensors((args, kwargs or {}), lambda x: real.get(id(x), x))
            return func(*args, **kwargs)

    def fill(self, calibrated: Tensor) -> bool:
        """Become a calibrated feature, wherever the model holds this; return False if that is impossible."""
        try:
            torch.utils.swap_tensors(self, calibrated)  # type: ignore[no-untyped-call]
        except RuntimeError:  # something else refers to it
            return False
        return True


class Ancestry:
    """Search of the autograd graph for descendants of tensors, where custom functions lose the taint."""

    def __init__(self) -> None:
        self._sources: set[Any] = set()
        self._unrelated: set[Any] = set()  # nodes visited before

    def add(self, tensor: Tensor) -> None:
        """Add a tensor whose descendants are sought."""
        if tensor.grad_fn is not None:
            self._sources.add(tensor.grad_fn)

    def has_descendant(self, tensors: Iterable[Tensor]) -> bool:
        """Return whether any of the tensors derives from an added one."""
        stack = [tensor.grad_fn for tensor in tensors if tensor.grad_fn is not None] if self._sources else []
        visited = set()
        while stack:
            node = stack.pop()
            if node in self._sources:
                return True
            if node not in visited and node not in self._unrelated:
                visited.add(node)
                stack += [parent for parent, _ in node.next_functions if parent is not None]
        self._unrelated |= visited
        return False


def version_of(tensor: Tensor) -> int | Tensor:
    """Return a mark that shows later in-place changes: the version counter, or a copy in inference mode.

    Inference mode keeps no counter; sparse and nested tensors, which do not compare, then count as unchanged.
    """
    if not tensor.is_inference():
        return tensor._version
    return tensor.clone() if tensor.layout is torch.strided and not tensor.is_nested else 0


def changed_since(tensor: Tensor, version: int | Tensor) -> bool:
    """Return whether a tensor was changed in place since `version_of`; NaN equals NaN."""
    if isinstance(version, int):
        return not tensor.is_inference() and tensor._version != version
    if torch.equal(tensor, version):
        return False
    return tensor.shape != version.shape or not bool(((tensor == version) | (tensor.isnan() & version.isnan())).all())

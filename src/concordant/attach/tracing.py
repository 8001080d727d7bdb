"""Provenance of tensors in a forward pass: from which inputs each one comes, and through which submodule outputs.

A pass runs on a copy of the model, in evaluation mode: the model stays as it was. Functions
of tensors are observed through PyTorch's function mode, so views, in-place changes and containers are followed, and
what depends on a shape alone is not. Comparisons and masks carry the name of their input without being a way to it.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from types import FunctionType
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from concordant.attach.containers import Path, elements_of, replaced, tensors_of
from concordant.attach.hooks import Run, cuda_devices, interceptable, intercepted
from concordant.attach.state import ModelState, RandomState
from concordant.attach.tensors import SHAPE_ONLY

Inputs = tuple[tuple[Any, ...], dict[str, Any]]  # positional and keyword arguments of forward
Key = tuple[str, int, Path]  # a submodule's name, the number of its call, the path of an element of its output

Model = TypeVar("Model", bound=nn.Module)

# Functions whose first argument alone gives values to the result.
_FIRST_ONLY = {"expand_as", "view_as", "reshape_as", "type_as", "to", "resize_as_"}
# Functions after which a positive factor of an instance is lost.
_NORMALISING = {"normalize", "norm", "vector_norm", "layer_norm", "rms_norm", "group_norm", "instance_norm", "softmax"}
_FEATURES_LAST = {
    *("linear", "bilinear", "embedding", "embedding_bag", "layer_norm", "rms_norm", "multi_head_attention_forward"),
    *("scaled_dot_product_attention", "matmul", "bmm", "mm", "addmm", "baddbmm", "lstm", "gru", "rnn_tanh", "rnn_relu"),
    *("lstm_cell", "gru_cell", "__matmul__"),
}
_FEATURES_SECOND = {
    *(f"conv{dims}d" for dims in "123"),
    *(f"conv_transpose{dims}d" for dims in "123"),
    *("batch_norm", "group_norm", "instance_norm"),
}


@dataclass(frozen=True)
class Origin:
    """Where a tensor comes from.

    Args:
        names: the inputs that it depends on.
        through: the numbers of the points that every way from them passes; None = a mask, which is no way.
        passed: the points that some way passes.
        normed: the points behind which something is normalised.
    """

    names: frozenset[str]
    through: frozenset[int] | None = None
    passed: frozenset[int] = frozenset()
    normed: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Point:
    """A tensor in the output of a submodule call that depends on one modality alone.

    Args:
        key: which call and element it is.
        name: the modality.
        value: the tensor.
        feature: the axis of its features; None = unknown.
    """

    key: Key
    name: str
    value: Tensor
    feature: int | None


@dataclass
class Trace:
    """Points in the order of their calls, and where modalities meet: what each brings there, and a description."""

    points: list[Point] = field(default_factory=list)
    calls: dict[str, int] = field(default_factory=dict)  # submodule -> the number of its calls
    meetings: dict[str, list[tuple[Origin, str]]] = field(default_factory=dict)
    output: Any = None
    inputs: set[str] = field(default_factory=set)  # modalities that some function has read


class _Tracer(TorchFunctionMode):
    """Follows what functions return, and what they change in place; `answer` follows submodule calls."""

    def __init__(self, core: nn.Module, sources: Sequence[tuple[Tensor, str, bool]]) -> None:
        super().__init__()
        self.trace = Trace()
        self.names = {id(module): name for name, module in core.named_modules()}
        self.stack: list[nn.Module] = [core]
        self.kept: dict[int, tuple[Tensor, Origin | None, int | None]] = {}  # tensors stay alive, as ids are their keys
        self.written: dict[int, Origin] = {}  # by memory: what was written in place, which other views show as well
        for tensor, name, mask in sources:
            self._keep(tensor, Origin(frozenset({name}), None if mask else frozenset()))

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: ANN401
        given = tensors_of((args, kwargs or {}))
        before = [None if x.is_inference() else x._version for x in given]
        out = func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", "")
        results = [] if func in SHAPE_ONLY else tensors_of(out)
        changed = [x for x, version in zip(given, before, strict=True) if version is not None and x._version != version]
        if not results and not changed:
            return out
        origins = [(x, origin) for x in given[: 1 if name in _FIRST_ONLY else None] if (origin := self.origin(x))]
        if not origins:
            return out
        joined = _joined([origin for _, origin in origins])
        self._note_meeting(joined, origins, f"{name.strip('_')} in {self.names[id(self.stack[-1])] or 'forward'}")
        if name in _NORMALISING and joined.through:
            joined = replace(joined, normed=joined.normed | joined.through)
        for x in changed:
            self.written[_memory(x)] = joined
            self._keep(x, joined, self.feature(x))
        for x in results:
            mask = x.dtype == torch.bool
            of = replace(joined, through=None) if mask else joined
            self._keep(x, of, self._feature_of(name, x, [x for x, _ in origins]))
        return out

    def origin(self, x: Tensor) -> Origin | None:
        """Return where a tensor comes from; None = from no modality."""
        known = [self.kept[id(x)][1]] if id(x) in self.kept else []
        if self.written:
            known.append(self.written.get(_memory(x)))
        present = [origin for origin in known if origin is not None]
        return _joined(present) if present else None

    def feature(self, x: Tensor) -> int | None:
        """Return the axis of a tensor's features; None = unknown."""
        return self.kept[id(x)][2] if id(x) in self.kept else None

    def answer(self, module: nn.Module, run: Run, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:  # noqa: ANN401
        """Run a submodule's call, and note the tensors of its output that depend on one modality."""
        if self.stack[-1] is module:
            return run(*args, **kwargs)
        name = self.names[id(module)]
        number = self.trace.calls[name] = self.trace.calls.get(name, 0) + 1
        self.stack.append(module)
        try:
            out = run(*args, **kwargs)
        finally:
            self.stack.pop()
        given = tensors_of((args, kwargs))
        opaque = [origin for x in given if (origin := self.origin(x))]
        for path, x in elements_of(out):
            origin = self.origin(x)
            if origin is None and opaque and isinstance(module, torch.jit.ScriptModule):  # which shows no functions
                origin = _joined(opaque)
            if origin is None or len(origin.names) != 1 or origin.through is None or not x.is_floating_point():
                continue
            feature = self.feature(x)
            if any(x is other for other in given):  # another object, or who reads the input would seem to read this
                with torch._C.DisableTorchFunction():
                    x = x.view_as(x)
                out = replaced(out, path, x)
            this = {len(self.trace.points)}
            self.trace.points.append(Point((name, number, path), next(iter(origin.names)), x, feature))
            self._keep(x, replace(origin, through=origin.through | this, passed=origin.passed | this), feature)
        return out

    def finish(self, out: Any) -> Trace:  # noqa: ANN401
        """Return the trace, where what reaches the output without meeting another modality counts as a meeting."""
        for x in tensors_of(out):
            origin = self.origin(x)
            if origin is not None and len(origin.names) == 1 and origin.through is not None:
                self.trace.meetings.setdefault(next(iter(origin.names)), []).append((origin, "the output"))
        self.trace.output = out
        return self.trace

    def _note_meeting(self, joined: Origin, origins: Sequence[tuple[Tensor, Origin]], where: str) -> None:
        """Note what each modality brings to a function that joins it with another one."""
        self.trace.inputs |= joined.names
        if len(joined.names) < 2:
            return
        for x, origin in origins:
            if len(origin.names) == 1 and origin.through is not None and x.is_floating_point():
                self.trace.meetings.setdefault(next(iter(origin.names)), []).append((origin, where))

    def _keep(self, x: Tensor, origin: Origin | None, feature: int | None = None) -> None:
        self.kept[id(x)] = (x, origin, feature)

    def _feature_of(self, name: str, out: Tensor, given: Sequence[Tensor]) -> int | None:
        """Return the axis of the features of a function's result, from the function, else from its arguments."""
        if name in _FEATURES_LAST and out.dim():
            return out.dim() - 1
        if name in _FEATURES_SECOND and out.dim() > 1:
            return 1
        for x in given:
            axis = self.feature(x)
            if axis is not None:
                found = _moved_axis(name, x, out, axis)
                if found is not None:
                    return found
        return None


def _moved_axis(name: str, x: Tensor, out: Tensor, axis: int) -> int | None:
    """Return where an axis of `x` is in `out`, which a function of views or values made of it; None = unknown."""
    if out.dim() == x.dim() and name in (
        "transpose",
        "permute",
        "swapaxes",
        "movedim",
        "moveaxis",
        "t",
        "__get__",
        "mT",
    ):
        same = [a for a in range(out.dim()) if out.shape[a] == x.shape[axis] and out.stride(a) == x.stride(axis)]
        return same[0] if len(same) == 1 else None
    if out.dim() == x.dim():
        return axis if out.shape[axis] == x.shape[axis] or name in ("cat", "concat", "concatenate") else None
    behind, size = x.shape[axis + 1 :].numel(), x.shape[axis]
    if out.numel() == x.numel():  # a view with other axes: those behind the features have the same product
        same = [a for a in range(out.dim()) if out.shape[a] == size and out.shape[a + 1 :].numel() == behind]
        if same:
            return same[0]
        merged = [a for a in range(out.dim()) if out.shape[a] > size and out.shape[a] % size == 0]
        return out.dim() - 1 if merged == [out.dim() - 1] else None
    if axis == x.dim() - 1 and out.dim() and out.shape[-1] == size:
        return out.dim() - 1
    same = [a for a in range(out.dim()) if out.shape[a] == size]
    return same[0] if len(same) == 1 else None


def _joined(origins: Sequence[Origin]) -> Origin:
    """Return the origin of what is computed from several tensors."""
    names: frozenset[str] = frozenset().union(*(origin.names for origin in origins))
    ways = [origin.through for origin in origins if origin.through is not None]
    through = frozenset.intersection(*ways) if ways else None
    passed, normed = (frozenset().union(*sets) for sets in zip(*((o.passed, o.normed) for o in origins), strict=True))
    return Origin(names, through, passed, normed)


def _memory(x: Tensor) -> int:
    """Return a number of the memory of a tensor; 0 for those without memory of one block, as inside torch.vmap."""
    with torch._C.DisableTorchFunction():
        if x.layout != torch.strided or x.is_nested or torch._C._functorch.is_functorch_wrapped_tensor(x):
            return 0
        return int(x.untyped_storage()._cdata)


@contextmanager
def untouched(model: Model) -> Iterator[Model]:
    """Give a copy of a model, in evaluation mode, whose runs leave the model and the random generators as they were.

    A model that cannot be copied is used itself, and what it holds is put back.
    """
    held = [t for m in model.modules() for t in (*m._parameters.values(), *m._buffers.values()) if t is not None]
    random, used, state = RandomState(cuda_devices(nn.Identity(), held)), model, None
    # A function in place of a forward method reads the model that it was made in.
    if not any(isinstance(module.__dict__.get("forward"), FunctionType) for module in model.modules()):
        with suppress(Exception):  # whatever a part of the model raises that cannot be copied
            used = copy.deepcopy(model)
    if used is model:
        state = ModelState(model.modules())
    modes = [(module, module.training) for module in used.modules()]
    try:
        yield used.eval()
    finally:
        for module, mode in modes:
            module.training = mode
        if state is not None:
            state.restore()
        random.restore()


def trace(
    model: nn.Module, inputs: Inputs, sources: Sequence[tuple[Tensor, str, bool]], method: str = "forward"
) -> Trace:
    """Run one forward pass and return what it shows; `sources` are tensor, modality, whether it is a mask."""
    tracer = _Tracer(model, sources)
    with torch.enable_grad(), intercepted(interceptable(model), tracer.answer), tracer:
        out = (model if method == "forward" else getattr(model, method))(*inputs[0], **inputs[1])
    return tracer.finish(out)

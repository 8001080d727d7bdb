"""Trace a deployed model: a graph for any number of instances, and of steps where the fusion allows it.

Masks and presence are inputs, and reliability is an output. A graph cannot raise errors: a modality that holds NaN
or infinity counts as absent in that instance. Fusions without variable length (docs/deploy.md) take the longest length.
Shapes: inputs in their layouts, masks (B, T), present (B,) -> logits (B, C), reliability (B, M).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from concordant.deploy.deployed import DeployedModel, Description
from concordant.errors import UsageError

KINDS = ("inputs", "masks", "present")
LENGTHS = (0.0, 0.2, 0.6, 1.4)  # of sequences, as shares of the longest, on which a graph is tried
INSTANCES = 3  # of the example; sizes of 1 are special to the exporter
Inputs = tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Tensor]]


@dataclass(frozen=True)
class Entry:
    """One input of a graph.

    Args:
        name: "inputs_<modality>", "masks_<modality>" or "present_<modality>".
        dtype: "float32" or "bool".
        shape: sizes; a variable axis by name: "batch" or "<modality>_steps".
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]


class Graph(nn.Module):
    """A model whose inputs are all required and whose outputs are plain tensors."""

    def __init__(self, model: DeployedModel) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, inputs: Mapping[str, Tensor], masks: Mapping[str, Tensor], present: Mapping[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Return logits and reliability."""
        out = self.model(inputs, masks, present)
        return out.logits, out.calibration.reliability


def entries(about: Description, *, fixed_time: bool) -> list[Entry]:
    """Return the inputs of a model's graph, in their order."""
    inputs, masks, present = [], [], []
    for name in about.names:
        time, sizes = about.time(name), about.shapes[name]
        shape: list[int | str] = ["batch", *sizes]
        if time is not None:
            shape[time] = sizes[time - 1] if fixed_time else f"{name}_steps"
            masks.append(Entry(f"masks_{name}", "bool", ("batch", shape[time])))
        inputs.append(Entry(f"inputs_{name}", "float32", tuple(shape)))
        present.append(Entry(f"present_{name}", "bool", ("batch",)))
    return [*inputs, *masks, *present]


def example(about: Description) -> Inputs:
    """Return inputs for tracing: complete instances, with sequences of the longest length."""
    generator = torch.Generator().manual_seed(0)
    inputs = {name: torch.randn((INSTANCES, *about.shapes[name]), generator=generator) for name in about.names}
    return complete(about, inputs, {}, {})


def complete(
    about: Description, inputs: Mapping[str, Tensor], masks: Mapping[str, Tensor], present: Mapping[str, Tensor]
) -> Inputs:
    """Return the inputs of a graph: masks and presence of every modality, True where not given."""
    taken = {name: inputs[name] for name in about.names}
    count = next(iter(taken.values())).shape[0]
    everywhere = {
        name: torch.ones(count, x.shape[time], dtype=torch.bool)
        for name, x in taken.items()
        if (time := about.time(name)) is not None
    }
    return (
        taken,
        {name: masks.get(name, mask) for name, mask in everywhere.items()},
        {name: present.get(name, torch.ones(count, dtype=torch.bool)) for name in about.names},
    )


def trace(model: DeployedModel, *, fixed_time: bool = False) -> torch.export.ExportedProgram:
    """Return the graph of a model; it takes `(inputs, masks, present)`, dictionaries by modality.

    Args:
        model: in evaluation mode.
        fixed_time: sequences have the longest number of steps there is in training, padded and masked; False = any.

    Raises:
        UsageError: the model cannot be traced; the text has the reason and a remedy.
    """
    about = model.description
    given = example(about)
    free = torch.export.Dim.DYNAMIC
    shapes = tuple(
        {
            name: {0: free} if fixed_time or (axis := time(about, kind, name)) is None else {0: free, axis: free}
            for name in tensors
        }
        for kind, tensors in zip(KINDS, given, strict=True)
    )
    graph = Graph(model).eval()
    with tracing(), torch.no_grad():
        try:
            program = torch.export.export(graph, given, dynamic_shapes=shapes, strict=False)
        except Exception as error:
            raise UsageError(_refusal(model, error, fixed_time)) from error
        faults = broken(program, graph, given, fixed_time)
    if faults:
        raise UsageError(_refusal(model, ValueError(faults), fixed_time))
    return program


def time(about: Description, kind: str, name: str) -> int | None:
    """Return the index of the time axis of an input, or None."""
    return {"inputs": about.time(name), "masks": 1}.get(kind)  # only sequences have masks


def broken(program: torch.export.ExportedProgram, graph: Graph, given: Inputs, fixed_time: bool) -> str:
    """Run a graph on a single instance and on shorter and longer sequences; return the first fault, or "".

    Tracing records guards on sizes. Most concern memory layout and change no number, but would refuse single instances,
    so they are removed; other lengths are tested by running them.
    """
    program._guards_code = []
    module = program.module()
    tried = [changed(given, lambda kind, name, x: x[:1])]
    if not fixed_time and given[1]:
        tried += [of_length(graph.model.description, given, share) for share in LENGTHS]
    for one in tried:
        try:
            found = module(*one)
        except Exception as error:  # what a graph raises is of many classes
            return str(error)
        if not all(torch.allclose(a, b, rtol=1e-4, atol=1e-4) for a, b in zip(found, graph(*one), strict=True)):
            return "what was traced holds for the number of steps of the example alone"
    return ""


def of_length(about: Description, given: Inputs, share: float) -> Inputs:
    """Return inputs with a share of their steps, at least one; a share above 1 adds steps."""

    def cut(kind: str, name: str, x: Tensor) -> Tensor:
        axis = time(about, kind, name)
        if axis is None:
            return x
        places = torch.arange(max(1, math.ceil(share * x.shape[axis]))) % x.shape[axis]
        return x.index_select(axis, places)

    return changed(given, cut)


def changed(given: Inputs, change: Callable[[str, str, Tensor], Tensor]) -> Inputs:
    """Return inputs mapped by a function of kind ("inputs", "masks", "present"), modality and tensor."""
    inputs, masks, present = (
        {name: change(kind, name, x).contiguous() for name, x in tensors.items()}
        for kind, tensors in zip(KINDS, given, strict=True)
    )
    return inputs, masks, present


@contextmanager
def tracing() -> Iterator[None]:
    """Configure the exporter: no fused kernels that other runtimes lack, no specialisation on size 1, no warnings."""
    from torch.fx.experimental import _config

    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with _config.patch(backed_size_oblivious=True), warnings.catch_warnings():  # type: ignore[attr-defined]
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


def _refusal(model: DeployedModel, error: Exception, fixed_time: bool) -> str:
    about = model.description
    timed = any(about.time(name) is not None for name in about.names)
    what = f"{about.label} before {about.config.fusion}"
    why = " ".join(str(error).split())[:200]
    if timed and not fixed_time:
        return f"{what} cannot be exported for any number of steps; give --fixed-time, for the longest ({why})"
    return f"{what} cannot be exported: PyTorch cannot trace it; use it with PyTorch by `concordant share` ({why})"

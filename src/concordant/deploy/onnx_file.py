"""ONNX: write a traced graph as a file with named axes, and run it by ONNX Runtime.

The optimiser of PyTorch's ONNX exporter is left out: it drops additions of small constants, and with them the floor
under a standard deviation; ONNX Runtime optimises by itself when it loads a file.
Shapes: as for a graph.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from concordant.deploy.graph import KINDS, Entry, Inputs, tracing
from concordant.errors import ConcordantError, UsageError, needs_extra

OUTPUTS = ("logits", "reliability")
Runner = Callable[[Inputs], tuple[Tensor, Tensor]]


def to_onnx(program: torch.export.ExportedProgram, inputs: Sequence[Entry], about: dict[str, str]) -> Any:  # noqa: ANN401
    """Return the ONNX model of a graph.

    Args:
        program: the graph.
        inputs: its inputs, in order.
        about: key -> text, kept in the file.

    Raises:
        ConcordantError: onnx or onnxscript is not installed.
        UsageError: ONNX has no operator for something in the graph.
    """
    with needs_extra("export", "ONNX needs"):
        import onnx
        import onnxscript  # noqa: F401 - PyTorch's exporter needs it
    with tracing():
        try:
            converted = torch.onnx.export(
                program,
                dynamo=True,
                verbose=False,
                optimize=False,
                input_names=[entry.name for entry in inputs],
                output_names=list(OUTPUTS),
            )
        except Exception as error:
            raise UsageError(f"ONNX cannot express this model ({_last(error)}); use --format torch-export") from error
    if converted is None:  # pragma: no cover - only of the old exporter
        raise ConcordantError("PyTorch's ONNX exporter returned nothing; use --format torch-export")
    model = converted.model_proto
    _name_axes(model, inputs)
    onnx.helper.set_model_props(model, about)
    onnx.checker.check_model(model)
    return model


def write_onnx(model: Any, path: Path) -> None:  # noqa: ANN401 - onnx has no types here
    """Write an ONNX model with its weights in one file."""
    import onnx

    onnx.save_model(model, str(path))


def runtime(path: Path, *, threads: int | None = None) -> Runner:
    """Return a function that runs a file by ONNX Runtime.

    Args:
        path: of the file.
        threads: per operator; None = the default of ONNX Runtime.

    Raises:
        ConcordantError: onnxruntime is not installed, or cannot load the file.
    """
    with needs_extra("export", "the check needs"):
        import onnxruntime  # type: ignore[import-untyped, unused-ignore]
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors alone
    if threads is not None:
        options.intra_op_num_threads = threads
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its classes share no base of their own
        raise ConcordantError(
            f"onnxruntime {onnxruntime.__version__} cannot load the ONNX file ({_last(error)}); if the file is whole, "
            "a newer onnxruntime may"
        ) from error
    taken = {entry.name for entry in session.get_inputs()}

    def run(given: Inputs) -> tuple[Tensor, Tensor]:
        logits, reliability = session.run(list(OUTPUTS), {k: v for k, v in named(given).items() if k in taken})
        return torch.from_numpy(logits), torch.from_numpy(reliability)

    return run


def named(given: Inputs) -> dict[str, Any]:
    """Return the inputs of a graph as arrays, by name."""
    return {
        f"{kind}_{name}": x.numpy() for kind, tensors in zip(KINDS, given, strict=True) for name, x in tensors.items()
    }


def _name_axes(model: Any, inputs: Sequence[Entry]) -> None:  # noqa: ANN401
    """Name the variable axes of inputs and outputs, and drop the shapes of intermediate values."""
    shapes = {entry.name: entry.shape for entry in inputs}
    known: dict[str, str] = {}
    for value in model.graph.input:
        for axis, wanted in zip(value.type.tensor_type.shape.dim, shapes[value.name], strict=True):
            if isinstance(wanted, str):
                known[axis.dim_param] = wanted
                axis.dim_param = wanted
    for value in model.graph.output:
        for axis in value.type.tensor_type.shape.dim:
            if axis.dim_param:
                axis.dim_param = known.get(axis.dim_param, "batch")
    del model.graph.value_info[:]


def _last(error: BaseException) -> str:
    """Return the text of the first exception of a chain, in one line."""
    while error.__cause__ is not None:
        error = error.__cause__
    return " ".join(str(error).split())[:200] or type(error).__name__

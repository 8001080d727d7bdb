"""`concordant export`: write one trained run as an ONNX or .pt2 file whose outputs equal those of PyTorch.

The file takes unscaled inputs in batches of any size. Before it replaces an older file it is compared with PyTorch on
real test samples: all at once, one alone, and with shortened sequences.
Shapes: as for a graph.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from concordant.data.split import AnySplit
from concordant.deploy.deployed import DeployedModel
from concordant.deploy.graph import Inputs, changed, complete, entries, of_length, time, trace
from concordant.deploy.onnx_file import OUTPUTS, Runner, runtime, to_onnx, write_onnx
from concordant.deploy.opening import open_deployed
from concordant.errors import ConcordantError, UsageError
from concordant.files import write_atomically, writing
from concordant.training.batches import to_tensors
from concordant.training.provenance import versions
from concordant.training.runs import RunFolder

SCHEMA = "concordant.export/1"
FORMATS = {"onnx": ".onnx", "torch-export": ".pt2"}
TOLERANCE = 1e-5  # absolute, and relative where a value is larger than 1
SAMPLES = 64


def export_run(
    runs: RunFolder,
    *,
    format: str = "onnx",  # noqa: A002 - what the command calls it
    out: Path | None = None,
    label: str | None = None,
    seed: int = 0,
    data: Path | str | None = None,
    fixed_time: bool = False,
    samples: int = SAMPLES,
) -> dict[str, Any]:
    """Write one trained run as a file that needs no Concordant; return its description and its agreement.

    The file is `out`, or model.onnx or model.pt2 in the run's folder. With `fixed_time` sequences have the longest
    number of steps there is in training, otherwise any number. `samples` test samples are compared. Other arguments
    are those of `open_deployed`.

    Raises:
        UsageError: an argument is wrong, or the model cannot be expressed in this format.
        ConcordantError: the file does not answer as PyTorch does, and was not written; or a package is missing.
        DataError: the data or the weights cannot be used.
    """
    if format not in FORMATS:
        raise UsageError(f"--format must be one of {', '.join(FORMATS)}; found {format!r}")
    if samples < 1:
        raise UsageError(f"samples must be 1 or more; found {samples}")
    path = out if out is not None else runs.path / f"model{FORMATS[format]}"
    if path.suffix != FORMATS[format]:
        raise UsageError(f"--out must end in {FORMATS[format]} for {format}; found {path}")
    model, parts = open_deployed(runs, label=label, seed=seed, data=data)
    about = model.description
    asked = cases(model, parts.test, samples, fixed_time=fixed_time)
    difference, size = write_checked(model, path, asked, fixed_time=fixed_time)
    return {
        "schema": SCHEMA,
        "file": str(path),
        "format": format,
        "bytes": size,
        "benchmark": about.config.title,
        "fusion": about.config.fusion,
        "label": about.label,
        "seed": seed,
        "classes": list(about.classes),
        "modalities": list(about.names),
        "inputs": [asdict(entry) | {"shape": list(entry.shape)} for entry in entries(about, fixed_time=fixed_time)],
        "outputs": [
            {"name": OUTPUTS[0], "shape": ["batch", len(about.classes) if about.kind == "class" else 1]},
            {"name": OUTPUTS[1], "shape": ["batch", len(about.names)]},
        ],
        "check": {
            "samples": len(asked[0][0][about.names[0]]),
            "batches": len(asked),
            "largest_difference": difference,
            "tolerance": TOLERANCE,
        },
        "versions": versions(),
    }


def write_checked(
    model: DeployedModel, path: Path, asked: list[Inputs], *, fixed_time: bool = False
) -> tuple[float, int]:
    """Write a model in the format of the file's suffix, if its outputs equal those of PyTorch for the batches asked.

    Return the largest difference, and the bytes of the file; errors are those of `export_run`.
    """
    about = model.description
    program = trace(model, fixed_time=fixed_time)
    told = {"concordant": json.dumps({key: value for key, value in about.values().items() if key != "table"})}
    converted = to_onnx(program, entries(about, fixed_time=fixed_time), told) if path.suffix == ".onnx" else None
    difference, size = 0.0, 0

    def write(temporary: Path) -> None:
        nonlocal difference, size
        if converted is not None:
            write_onnx(converted, temporary)
            run = runtime(temporary)
        else:
            torch.export.save(program, temporary, extra_files={"concordant.json": told["concordant"]})
            run = reload(temporary)
        difference = largest_difference(model, run, asked)
        size = temporary.stat().st_size

    with writing(path):
        write_atomically(path, write)
    return difference, size


def reload(path: Path) -> Runner:
    """Return a .pt2 file as a function."""
    module = torch.export.load(path).module()

    def run(given: Inputs) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            logits, reliability = module(*given)
        return logits, reliability

    return run


def largest_difference(model: DeployedModel, run: Runner, asked: list[Inputs]) -> float:
    """Return the largest difference between a file and PyTorch, over logits and reliability.

    Raises:
        ConcordantError: it is above the tolerance, or the file refuses what PyTorch takes.
    """
    worst = 0.0
    for given in asked:
        with torch.no_grad():
            out = model(*given)
        try:
            found = run(given)
        except Exception as error:
            raise ConcordantError(
                f"the exported file refuses a batch that PyTorch takes, and was not written: {error}"
            ) from error
        for name, ours, theirs in zip(OUTPUTS, (out.logits, out.calibration.reliability), found, strict=True):
            gap = (ours.double() - theirs.double()).abs()
            far = gap > TOLERANCE * ours.double().abs().clamp(min=1)
            if bool(far.any()) or not bool(gap.isfinite().all()):
                raise ConcordantError(
                    f"the exported file differs from PyTorch by {float(gap.max()):.1e} in {name}, more than "
                    f"{TOLERANCE:.0e}, and was not written; use `concordant share`, which keeps PyTorch"
                )
            worst = max(worst, float(gap.max()))
    return worst


def cases(model: DeployedModel, split: AnySplit, samples: int, *, fixed_time: bool) -> list[Inputs]:
    """Return real batches: several samples, the first alone and, unless time is fixed, sequences of half the length."""
    about = model.description
    rows = np.unique(np.linspace(0, len(split) - 1, min(samples, len(split))).astype(np.int64))
    some = to_tensors(split.take(rows))
    all_ = complete(about, some.inputs, some.masks, some.present)
    if fixed_time:
        all_ = _padded(model, all_)
    alone = changed(all_, lambda kind, name, x: x[:1])
    if fixed_time or all(about.time(name) is None for name in about.names):
        return [all_, alone]
    return [all_, alone, of_length(about, all_, 0.5)]


def _padded(model: DeployedModel, given: Inputs) -> Inputs:
    """Return sequences padded or cut to the longest length in training."""
    about = model.description

    def longest(kind: str, name: str, x: Tensor) -> Tensor:
        axis, own = time(about, kind, name), about.time(name)
        if axis is None or own is None:
            return x
        missing = about.shapes[name][own - 1] - x.shape[axis]  # negative padding cuts
        return F.pad(x, (*[0, 0] * (x.dim() - 1 - axis), 0, missing))

    return changed(given, longest)

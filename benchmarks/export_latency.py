"""What an exported model saves: the time of one instance by ONNX Runtime and by PyTorch, and their ratio.

`python -m benchmarks.export_latency [RUN...] [--repetitions R] [--out FILE]` exports each folder of `concordant run`
(by default short runs on the embedded digits and, where the data folder is there, on UTD-MHAD), then runs both on
single test instances in turn, on one thread each. Printed as JSON: medians and quartiles in milliseconds, and those of
the ratio, PyTorch's over ONNX Runtime's. PyTorch runs the model eagerly, in evaluation mode without gradients, as
`PretrainedModel` does; both take unscaled inputs.
"""

from __future__ import annotations

import tempfile
import time
from itertools import cycle
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer

from benchmarks import put, run
from concordant.deploy.export import cases, write_checked
from concordant.deploy.graph import changed
from concordant.deploy.onnx_file import named, runtime
from concordant.deploy.opening import open_deployed
from concordant.errors import ConcordantError
from concordant.files import write_json
from concordant.study.experiment import study
from concordant.timing import interleaved
from concordant.training.config import make_config
from concordant.training.runs import RunFolder, open_runs

WARM = 20
INSTANCES = 16
ROUTES = ("pytorch", "onnxruntime")


def default_runs(folder: Path) -> list[Path]:
    """Train a short run of each benchmark whose data are there; its quality does not change its speed."""
    found = []
    for benchmark, fusion in (("digits", "concat"), ("utd-mhad", "transformer"), ("utd-mhad", "lf-dnn")):
        config = make_config(benchmark, fusion=fusion, calibrators=("context",), seeds=1, recipe={"steps": 20})
        try:
            study(config, folder / f"{benchmark}-{fusion}", jobs=1)
        except ConcordantError:  # without its data
            continue
        found.append(folder / f"{benchmark}-{fusion}")
    return found


def clocks() -> Any:  # noqa: ANN401 - an array, which `interleaved` subtracts and divides like a number
    """Return wall-clock and processor seconds."""
    return np.array([time.perf_counter(), time.process_time()])


def quartiles(values: Any, unit: str = "") -> dict[str, float]:  # noqa: ANN401
    """Return median and quartiles."""
    low, median, high = (float(value) for value in np.quantile(values, (0.25, 0.5, 0.75), method="weibull"))
    return {f"median{unit}": median, f"quarter{unit}": low, f"three_quarters{unit}": high}


def measure(runs: RunFolder, folder: Path, repetitions: int) -> dict[str, Any]:
    """Export one run and time both routes of single instances, in turn."""
    model, parts = open_deployed(runs)
    about = model.description
    path, fixed = folder / "model.onnx", False
    given = cases(model, parts.test, INSTANCES, fixed_time=fixed)
    try:
        difference, size = write_checked(model, path, given)
    except ConcordantError:
        fixed = True
        given = cases(model, parts.test, INSTANCES, fixed_time=fixed)
        difference, size = write_checked(model, path, given, fixed_time=fixed)
    ones = [
        changed(given[0], lambda kind, name, x, row=row: x[row : row + 1])  # type: ignore[misc]
        for row in range(len(given[0][0][about.names[0]]))
    ]
    by_onnx, torch_ones, onnx_ones = runtime(path, threads=1), cycle(ones), cycle(ones)
    actions = {
        "pytorch": torch.inference_mode()(lambda: model(*next(torch_ones))),
        "onnxruntime": lambda: by_onnx(next(onnx_ones)),
    }
    seconds = interleaved(actions, repetitions=repetitions, warm=WARM, clock=clocks)
    times = {name: np.stack(seconds[name]).T for name in ROUTES}  # (2, R)
    return {
        "benchmark": about.config.benchmark,
        "fusion": about.config.fusion,
        "label": about.label,
        "parameters": sum(p.numel() for p in model.parameters()),
        "inputs": {name: list(x.shape) for name, x in named(ones[0]).items()},
        "fixed_time": fixed,
        "bytes": size,
        "largest_difference": difference,
        "repetitions": repetitions,
        **{
            what: {
                **{name: quartiles(1e3 * times[name][which], "_ms") for name in ROUTES},
                "ratio": quartiles(times["pytorch"][which] / times["onnxruntime"][which]),
            }
            for which, what in enumerate(("clock", "processor"))
        },
    }


def main(
    runs: Annotated[list[Path] | None, typer.Argument(metavar="RUN...")] = None,
    repetitions: int = 300,
    out: Annotated[Path | None, typer.Option(help="Write the JSON here as well.")] = None,
) -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        measured = [measure(open_runs(one), folder, repetitions) for one in runs or default_runs(folder)]
    found = put({"schema": "concordant.export-latency/2", "batch": 1, "threads": 1, "runs": measured})
    if out is not None:
        write_json(out, found)


if __name__ == "__main__":
    run(main, __doc__)

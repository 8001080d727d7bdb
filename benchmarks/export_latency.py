"""What an exported model saves: the time of one instance by ONNX Runtime and by PyTorch, and their ratio.

`python -m benchmarks.export_latency [RUN...] [--repetitions R] [--out FILE]` exports each folder of `concordant run`
(by default one short run on the embedded digits and, where the data folder is there, one on UTD-MHAD), then runs both
on single test instances in turn, on one thread each. Printed as JSON: medians and
quartiles in milliseconds, and the ratio of the medians, PyTorch's over ONNX Runtime's. PyTorch runs the model eagerly,
in evaluation mode without gradients, as `PretrainedModel` does; both take unscaled inputs.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from concordant.deploy.export import cases, write_checked
from concordant.deploy.graph import Inputs, changed
from concordant.deploy.onnx_file import named, runtime
from concordant.deploy.opening import open_deployed
from concordant.errors import ConcordantError
from concordant.files import write_json
from concordant.study.experiment import study
from concordant.training.config import make_config
from concordant.training.provenance import hardware, versions
from concordant.training.runs import RunFolder, open_runs

WARM = 20
INSTANCES = 16


def default_runs(folder: Path) -> list[Path]:
    """Train a short run of each benchmark that is at hand; its quality does not change its speed."""
    found = []
    for benchmark, fusion in (("digits", "concat"), ("utd-mhad", "transformer"), ("utd-mhad", "lf-dnn")):
        config = make_config(benchmark, fusion=fusion, calibrators=("context",), seeds=1, recipe={"steps": 20})
        try:
            study(config, folder / f"{benchmark}-{fusion}", jobs=1)
        except ConcordantError:  # without its data
            continue
        found.append(folder / f"{benchmark}-{fusion}")
    return found


def seconds(call: Callable[[Inputs], Any], given: Inputs) -> tuple[float, float]:
    """Return the wall-clock and processor seconds of one call."""
    start, start_of_work = time.perf_counter(), time.process_time()
    call(given)
    return time.perf_counter() - start, time.process_time() - start_of_work


def spread(values: list[float], unit: str = "", scale: float = 1.0) -> dict[str, float]:
    """Return median and quartiles."""
    low, median, high = statistics.quantiles([scale * value for value in values], n=4)
    return {f"median{unit}": median, f"quarter{unit}": low, f"three_quarters{unit}": high}


def measure(runs: RunFolder, folder: Path, repetitions: int) -> dict[str, Any]:
    """Export one run and time both of single instances, in turn."""
    found = open_deployed(runs)
    model, about = found.model, found.model.description
    path = folder / "model.onnx"
    asked = cases(model, found.parts.test, INSTANCES, fixed_time=False)
    fixed = False
    try:
        difference, size = write_checked(model, path, asked)
    except ConcordantError:
        fixed = True
        asked = cases(model, found.parts.test, INSTANCES, fixed_time=True)
        difference, size = write_checked(model, path, asked, fixed_time=True)
    ones = [
        changed(asked[0], lambda kind, name, x, row=row: x[row : row + 1])  # type: ignore[misc]
        for row in range(len(asked[0][0][about.names[0]]))
    ]
    by_onnx = runtime(path, threads=1)

    def by_torch(given: Inputs) -> None:
        with torch.inference_mode():
            model(*given)

    times: dict[str, list[tuple[float, float]]] = {"pytorch": [], "onnxruntime": []}
    for turn in range(WARM + repetitions):
        given = ones[turn % len(ones)]
        for name, call in (("pytorch", by_torch), ("onnxruntime", by_onnx)):
            took = seconds(call, given)
            if turn >= WARM:
                times[name].append(took)
    return {
        "benchmark": about.config.benchmark,
        "fusion": about.config.fusion,
        "label": found.label,
        "parameters": sum(p.numel() for p in model.parameters()),
        "inputs": {name: list(x.shape) for name, x in named(ones[0]).items()},
        "fixed_time": fixed,
        "bytes": size,
        "largest_difference": difference,
        "repetitions": repetitions,
        **{
            what: {
                **{name: spread([pair[which] for pair in pairs], "_ms", 1e3) for name, pairs in times.items()},
                "ratio": spread([a[which] / b[which] for a, b in zip(*times.values(), strict=True)]),
            }
            for which, what in enumerate(("clock", "processor"))
        },
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="*", type=Path, metavar="RUN")
    parser.add_argument("--repetitions", type=int, default=300)
    parser.add_argument("--out", type=Path, help="write the JSON here as well")
    given = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        runs = given.runs or default_runs(folder)
        found = {
            "schema": "concordant.export-latency/2",
            "batch": 1,
            "threads": 1,
            "runs": [measure(open_runs(run), folder, given.repetitions) for run in runs],
            "versions": versions(),
            "hardware": hardware(),
        }
    print(json.dumps(found, indent=2))
    if given.out is not None:
        write_json(given.out, found)


if __name__ == "__main__":
    main()

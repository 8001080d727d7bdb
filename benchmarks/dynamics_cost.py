"""What observing costs: training with the dynamics recorder against the same training without.

`python -m benchmarks.dynamics_cost [--repetitions R] [--steps S] [--calibrator NAME]` trains on the embedded digits
(concat) and, where the data folder is there, on UTD-MHAD (transformer), without the recorder and with it at every
step, every 10th and every 25th, files, events and sharpness included. Printed as JSON: seconds and their ratio to the
run without, median and spread over repetitions, and the recorder's own share of the time as it counts it; the settings
take turns, so that all meet the same noise.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from concordant.benchmarks.catalogue import folder_of
from concordant.data.split import Task
from concordant.dynamics.runs import SUMMARY, train_observed
from concordant.errors import ConcordantError
from concordant.files import read_json
from concordant.training.config import Config, Variant, make_config
from concordant.training.paired import Job
from concordant.training.provenance import hardware, versions
from concordant.training.runs import prepare_of
from concordant.training.train import train

EVERY = (1, 10, 25)


def settings(steps: int) -> dict[str, tuple[Config, Task]]:
    """Return what can be measured here, by name; nobody stops early."""
    found = {}
    for benchmark, fusion in (("digits", "concat"), ("utd-mhad", "transformer")):
        # As many evaluations as a whole run has, in proportion.
        recipe = {"steps": steps, "evaluations": max(1, round(10 * steps / 700)), "patience": 1000}
        config = make_config(benchmark, fusion=fusion, recipe=recipe)
        try:
            found[f"{benchmark}, {fusion}"] = config, prepare_of(config, folder_of(benchmark, None), seed=0)
        except ConcordantError:  # its data are not here
            continue
    return found


def once(config: Config, task: Task, variant: Variant, every: int | None) -> tuple[float, float]:
    """Train; return the seconds, and the share of them that the recorder says it took."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        if every is None:
            train(task, config, variant, 0)
            return time.perf_counter() - start, 0.0
        train_observed(task, Job(config, variant, 0, Path(folder), None, every))
        seconds = time.perf_counter() - start
        return seconds, read_json(Path(folder) / SUMMARY)["observing_seconds"] / seconds


def spread(values: list[float]) -> dict[str, float]:
    """Return median and range, rounded."""
    found = {"median": statistics.median(values), "from": min(values), "to": max(values)}
    return {name: round(value, 4) for name, value in found.items()}


def measure(config: Config, task: Task, variant: Variant, repetitions: int) -> dict[str, Any]:
    """Return what each distance costs, and the time without."""
    seconds: dict[int | None, list[float]] = {every: [] for every in (None, *EVERY)}
    shares: dict[int | None, list[float]] = {every: [] for every in seconds}
    for number in range(repetitions + 1):
        for every in seconds:
            took, share = once(config, task, variant, every)
            if number:  # the first warms up
                seconds[every].append(took)
                shares[every].append(share)
    base = seconds[None]
    return {
        "seconds_without": spread(base),
        "every": {
            str(every): {
                "ratio": spread([mine / plain for mine, plain in zip(seconds[every], base, strict=True)]),
                "own_share": spread(shares[every]),
            }
            for every in EVERY
        },
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--steps", type=int, default=210)
    parser.add_argument("--calibrator", default="context")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    variant = Variant(arguments.calibrator, arguments.calibrator != "none")
    found = {
        name: measure(config, task, variant, arguments.repetitions)
        for name, (config, task) in settings(arguments.steps).items()
    }
    print(
        json.dumps(
            {
                "steps": arguments.steps,
                "variant": variant.label,
                "cost": found,
                "versions": versions(),
                "hardware": hardware(),
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()

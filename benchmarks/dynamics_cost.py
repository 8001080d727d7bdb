"""The cost of observing: training with the dynamics recorder relative to training without it.

`python -m benchmarks.dynamics_cost [--repetitions R] [--steps S] [--calibrator NAME]` trains on the embedded digits
(concat) and, where the data folder is there, on UTD-MHAD (transformer), without the recorder and with it at every step,
every 10th and every 25th, files, events and sharpness included. Printed as JSON: ratios to the run without, over
repetitions that take turns, and the recorder's own share of the time.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from concordant.benchmarks.catalogue import folder_of
from concordant.data.split import Task
from concordant.dynamics.runs import SUMMARY, train_observed
from concordant.errors import ConcordantError
from concordant.files import read_json
from concordant.speed import interleaved, ratios, spread
from concordant.training.config import Config, Variant, make_config
from concordant.training.processes import Job
from concordant.training.provenance import hardware, versions
from concordant.training.runs import prepare_of
from concordant.training.train import train

EVERY = (1, 10, 25)


def settings(steps: int) -> dict[str, tuple[Config, Task]]:
    """Return the available benchmarks, by name; training never stops early."""
    found = {}
    for benchmark, fusion in (("digits", "concat"), ("utd-mhad", "transformer")):
        # As many evaluations as a whole run has, in proportion.
        recipe = {"steps": steps, "evaluations": max(1, round(10 * steps / 700)), "patience": 1000}
        config = make_config(benchmark, fusion=fusion, recipe=recipe)
        try:
            found[f"{benchmark}, {fusion}"] = config, prepare_of(config, folder_of(benchmark, None), seed=0)
        except ConcordantError:  # without its data
            continue
    return found


def measure(config: Config, task: Task, variant: Variant, repetitions: int) -> dict[str, Any]:
    """Return ratio and own share per distance between observed steps, and the seconds without the recorder."""
    observing: dict[str, list[float]] = {str(every): [] for every in EVERY}

    def observed(every: int) -> None:
        with tempfile.TemporaryDirectory() as folder:
            train_observed(task, Job(config, variant, 0, Path(folder), None, every))
            observing[str(every)].append(read_json(Path(folder) / SUMMARY)["observing_seconds"])

    actions: dict[str, Callable[[], object]] = {"without": lambda: train(task, config, variant, 0)}
    for every in EVERY:
        actions[str(every)] = lambda every=every: observed(every)  # type: ignore[misc]
    seconds = interleaved(actions, repetitions=repetitions, warm=1)
    found = {}
    for name, own in observing.items():
        shares = [one / whole for one, whole in zip(own[1:], seconds[name], strict=True)]
        ratio = ratios(seconds[name], seconds["without"])
        found[name] = {**ratio.record("ratio"), **spread(shares).record("own_share")}
    return {"every": found, **spread(seconds["without"]).record("seconds_without")}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--steps", type=int, default=210)
    parser.add_argument("--calibrator", default="context")
    given = parser.parse_args()
    torch.set_num_threads(1)
    variant = Variant(given.calibrator, given.calibrator != "none")
    cost = {name: measure(*one, variant, given.repetitions) for name, one in settings(given.steps).items()}
    about = {"steps": given.steps, "variant": variant.label, "versions": versions(), "hardware": hardware()}
    print(json.dumps({"cost": cost, **about}, indent=2))


if __name__ == "__main__":
    main()

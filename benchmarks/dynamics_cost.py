"""The cost of observing: training with the dynamics recorder relative to training without it.

`python -m benchmarks.dynamics_cost [--repetitions R] [--steps S] [--calibrator NAME]` trains on the embedded digits
(concat) and, where the data folder is there, on UTD-MHAD (transformer), without the recorder and with it at every step,
every 10th and every 25th, files, events and sharpness included. Printed as JSON: ratios to the run without, over
repetitions that take turns, and the recorder's own share of the time.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import put, run
from concordant.benchmarks.catalogue import folder_of
from concordant.data.split import Task
from concordant.dynamics.runs import SUMMARY, train_observed
from concordant.errors import ConcordantError
from concordant.files import read_json
from concordant.timing import interleaved, ratios, spread
from concordant.training.config import Config, Variant, make_config
from concordant.training.processes import Job
from concordant.training.runs import prepare_of
from concordant.training.train import train

EVERY = (1, 10, 25)


def measure(config: Config, task: Task, variant: Variant, repetitions: int) -> dict[str, Any]:
    """Return ratio and own share per distance between observed steps, and the seconds without the recorder."""
    observing: dict[str, list[float]] = {str(every): [] for every in EVERY}

    def observed(every: str) -> None:
        with tempfile.TemporaryDirectory() as folder:
            train_observed(task, Job(config, variant, 0, Path(folder), None, int(every)))
            observing[every].append(read_json(Path(folder) / SUMMARY)["observing_seconds"])

    actions: dict[str, Callable[[], object]] = {"without": partial(train, task, config, variant, 0)}
    actions |= {every: partial(observed, every) for every in observing}
    seconds = interleaved(actions, repetitions=repetitions, warm=1)
    found = {
        every: {
            **spread("ratio", ratios(seconds[every], seconds["without"])),
            **spread("own_share", ratios(own[1:], seconds[every])),
        }
        for every, own in observing.items()
    }
    return {"every": found, **spread("seconds_without", seconds["without"])}


def main(repetitions: int = 5, steps: int = 210, calibrator: str = "context") -> None:
    """Measure and print; training never stops early."""
    variant, cost = Variant(calibrator, calibrator != "none"), {}
    for benchmark, fusion in (("digits", "concat"), ("utd-mhad", "transformer")):
        # As many evaluations as a whole run has, in proportion.
        recipe = {"steps": steps, "evaluations": max(1, round(10 * steps / 700)), "patience": 1000}
        config = make_config(benchmark, fusion=fusion, recipe=recipe)
        try:
            task = prepare_of(config, folder_of(benchmark, None), seed=0)
        except ConcordantError:  # without its data
            continue
        cost[f"{benchmark}, {fusion}"] = measure(config, task, variant, repetitions)
    put({"cost": cost, "steps": steps, "variant": variant.label})


if __name__ == "__main__":
    run(main, __doc__)

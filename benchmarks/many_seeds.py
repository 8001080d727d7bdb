"""Many seeds in one vectorised pass against the same seeds one after another: whole training, one thread each.

`python -m benchmarks.many_seeds [--steps N] [--repetitions N] [--data DIR]` prints JSON with a record each for ten
seeds of `digits`, `cmu-mosi-utterance` and `cremad-features`. Both ways train the same splits by the same recipe,
validation, early stop and preparation included. They take turns, and each turn gives a ratio. Seconds are processor
time, on an accelerator wall-clock time.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks import run
from concordant.benchmarks.catalogue import prepare
from concordant.data.split import Split, Task
from concordant.timing import clock_of, interleaved, one_thread, ratios
from concordant.training.config import Variant, make_config
from concordant.training.devices import Devices
from concordant.training.execution_plan import plan
from concordant.training.many_seeds import train_together
from concordant.training.processes import Job
from concordant.training.train import Trained, train


def measure_seeds(
    benchmark: str,
    *,
    fusion: str | None = None,
    calibrator: str = "context",
    seeds: int = 10,
    steps: int | None = None,
    modalities: tuple[str, ...] | None = None,
    repetitions: int = 3,
    device: str = "cpu",
    data: Path | str | None = None,
) -> dict[str, Any]:
    """Time vectorised against sequential training of some seeds of a calibrator.

    Args:
        benchmark: its name.
        fusion: None = the benchmark's own.
        calibrator: trained with perturbations.
        seeds: how many.
        steps: of the optimiser; None = the benchmark's.
        modalities: None = all.
        repetitions: turns, 1 or more.
        device: where both train.
        data: the data folder.

    Returns:
        "speedup", the median over turns, with "speedup_low" and "speedup_high", the least and the most; the median
        seconds of both; "chosen", whether `concordant run` vectorises by itself, and "reason", why not; "loss_apart",
        the largest difference of a mean training loss, and "score_apart", of a validation score, over seeds and
        evaluations; "data_bytes", of all splits.
    """
    how: dict[str, Any] = {"modalities": modalities, "recipe": None if steps is None else {"steps": steps}}
    config = make_config(benchmark, fusion=fusion, calibrators=(calibrator,), seeds=seeds, **how)
    short = config.model_copy(update={"recipe": config.recipe.model_copy(update={"steps": 2, "evaluations": 1})})
    variant, devices = Variant(calibrator, True), Devices(accelerator=device)
    tasks = [prepare(benchmark, seed=seed, data=data, modalities=modalities) for seed in range(seeds)]
    trained: dict[str, Mapping[int, Trained]] = {}

    def together() -> None:
        trained["together"] = train_together(tasks, config, variant, range(seeds), device=device)

    def alone() -> None:
        trained["alone"] = {
            seed: train(task, config, variant, seed, devices=devices) for seed, task in enumerate(tasks)
        }

    actions: dict[str, Callable[[], object]] = {"together": together, "alone": alone}
    with one_thread():
        train_together(tasks[:2], short, variant, range(2), device=device)  # warm up
        train(tasks[0], short, variant, 0, devices=devices)
        seconds = interleaved(actions, repetitions=repetitions, warm=0, clock=clock_of(device))
    speedups = ratios(seconds["alone"], seconds["together"])
    loss_apart, score_apart = distance(trained["together"], trained["alone"])
    jobs = [Job(config, variant, seed, Path(), None, devices=devices) for seed in range(seeds)]
    _, (line,) = plan(jobs, lambda _: tasks[0], vectorise="auto", processes=1)
    return {
        "benchmark": benchmark,
        "fusion": config.fusion,
        "modalities": list(config.modalities),
        "calibrator": calibrator,
        "device": device,
        "seeds": seeds,
        "steps": config.recipe.steps,
        "speedup": round(statistics.median(speedups), 3),
        "speedup_low": round(min(speedups), 3),
        "speedup_high": round(max(speedups), 3),
        "vectorised_seconds": round(statistics.median(seconds["together"]), 2),
        "sequential_seconds": round(statistics.median(seconds["alone"]), 2),
        "repetitions": repetitions,
        "loss_apart": loss_apart,
        "score_apart": score_apart,
        "chosen": line.endswith("in one vectorised pass"),
        "reason": line.partition("one after another: ")[2],
        "data_bytes": sum(bytes_of(task) for task in tasks),
    }


def distance(one: Mapping[int, Trained], other: Mapping[int, Trained]) -> tuple[float, float]:
    """Return the largest difference of a mean loss and of a validation score, over the evaluations of all seeds."""
    pairs = [pair for seed in one for pair in zip(one[seed].history, other[seed].history, strict=False)]
    loss, score = (max((abs(a[name] - b[name]) for a, b in pairs), default=0.0) for name in ("loss", "validation"))
    return loss, score


def bytes_of(task: Task) -> int:
    """Return the bytes of the inputs of the splits that are in memory."""
    splits = (task.train, task.valid, task.test)
    return sum(x.nbytes for split in splits if isinstance(split, Split) for x in split.inputs.values())


def main(steps: int | None = None, repetitions: int = 3, data: Path | None = None) -> None:
    """Measure, and print one record per benchmark; steps are by default the benchmark's."""
    names = ("digits", "cmu-mosi-utterance", "cremad-features")
    found = [measure_seeds(name, steps=steps, repetitions=repetitions, data=data) for name in names]
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    run(main, __doc__)

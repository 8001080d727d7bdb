"""Many seeds in one vectorised pass against the same seeds one after another: whole training, one thread each.

`python -m benchmarks.many_seeds [--steps N] [--repetitions N] [--data DIR]` prints a JSON record each for ten seeds of
`digits` and of `cmu-mosi-utterance`. Both ways train the same splits by the same recipe, validation, early stop and
preparation included. They take turns, so that both meet the same noise, and each turn gives a ratio. Seconds are
processor time, on an accelerator wall-clock time.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from concordant.benchmarks.catalogue import prepare
from concordant.data.split import Split, Task
from concordant.speed import device_clock
from concordant.training.config import Config, Variant, make_config
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
        seconds of both; "chosen", whether `concordant run` vectorises by itself, and "reason", why not;
        "loss_apart", the largest difference of a mean training loss, and
        "score_apart", of a validation score, over seeds and evaluations; "data_bytes", of all splits.
    """
    recipe = None if steps is None else {"steps": steps}
    config = make_config(
        benchmark,
        fusion=fusion,
        calibrators=(calibrator,),
        seeds=seeds,
        modalities=modalities,
        recipe=recipe,
    )
    variant = Variant(calibrator, True)
    tasks = [prepare(benchmark, seed=seed, data=data, modalities=modalities) for seed in range(seeds)]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        found = _timed(tasks, config, variant, repetitions, device)
    finally:
        torch.set_num_threads(threads)
    where = Devices(accelerator=device)
    jobs = [Job(config, variant, seed, Path(), None, devices=where) for seed in range(seeds)]
    _, (line,) = plan(jobs, lambda _: tasks[0], vectorise="auto", processes=1)
    return {
        "benchmark": benchmark,
        "fusion": config.fusion,
        "modalities": list(config.modalities),
        "calibrator": calibrator,
        "device": device,
        "seeds": seeds,
        "steps": config.recipe.steps,
        **found,
        "chosen": line.endswith("in one vectorised pass"),
        "reason": line.partition("one after another: ")[2],
        "data_bytes": sum(bytes_of(task) for task in tasks),
    }


def _timed(tasks: Sequence[Task], config: Config, variant: Variant, repetitions: int, device: str) -> dict[str, Any]:
    """Train both ways in turns, once before to warm up."""
    seeds, devices = range(len(tasks)), Devices(accelerator=device)
    clock = time.process_time if device == "cpu" else device_clock
    short = config.model_copy(update={"recipe": config.recipe.model_copy(update={"steps": 2, "evaluations": 1})})
    train_together(tasks[:2], short, variant, seeds[:2], device=device)
    train(tasks[0], short, variant, 0, devices=devices)
    together, alone, apart = [], [], (0.0, 0.0)
    for turn in range(repetitions):
        for vectorised in (True, False) if turn % 2 == 0 else (False, True):
            start = clock()
            if vectorised:
                ours = train_together(tasks, config, variant, seeds, device=device)
                together.append(clock() - start)
            else:
                single = {seed: train(tasks[seed], config, variant, seed, devices=devices) for seed in seeds}
                alone.append(clock() - start)
        apart = distance(ours, single)
    speedups = [one / other for one, other in zip(alone, together, strict=True)]
    return {
        "speedup": round(statistics.median(speedups), 3),
        "speedup_low": round(min(speedups), 3),
        "speedup_high": round(max(speedups), 3),
        "vectorised_seconds": round(statistics.median(together), 2),
        "sequential_seconds": round(statistics.median(alone), 2),
        "repetitions": repetitions,
        "loss_apart": apart[0],
        "score_apart": apart[1],
    }


def distance(one: Mapping[int, Trained], other: Mapping[int, Trained]) -> tuple[float, float]:
    """Return the largest difference of a mean loss and of a validation score, over the evaluations of all seeds."""
    losses, scores = [0.0], [0.0]
    for seed, ours in one.items():
        for entry, expected in zip(ours.history, other[seed].history, strict=False):
            losses.append(abs(entry["loss"] - expected["loss"]))
            scores.append(abs(entry["validation"] - expected["validation"]))
    return max(losses), max(scores)


def bytes_of(task: Task) -> int:
    """Return the bytes of the inputs of a split that is in memory."""
    parts = (task.train, task.valid, task.test)
    return sum(x.nbytes for part in parts if isinstance(part, Split) for x in part.inputs.values())


def main() -> None:
    """Measure, and print one record per benchmark."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.many_seeds", description=__doc__)
    parser.add_argument("--steps", type=int, help="default: the benchmark's")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--data", type=Path)
    given = vars(parser.parse_args())
    found = [measure_seeds(benchmark, **given) for benchmark in ("digits", "cmu-mosi-utterance")]
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()

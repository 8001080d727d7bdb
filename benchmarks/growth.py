"""How a calibrator's cost grows with modalities, steps, features and instances, each by itself.

What grows linearly has an exponent of 1: twice as much takes twice as long. Below that fixed costs dominate.
Shapes: features (B, T, D) of each of M modalities.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from benchmarks.counts import peak_bytes
from concordant import seeding
from concordant.calibration import Calibrator
from concordant.rivals import CALIBRATORS
from concordant.speed import VECTORS, actions_of, calls_for, configure, example, interleaved, ratios
from concordant.training.batches import AnyTensors, open_tensors

PHASES = ("train", "inference")


@dataclass(frozen=True)
class Axis:
    """What is varied, and what stays as it is meanwhile.

    Args:
        name: "modalities", "steps", "features" or "instances".
        values: from small to large.
        fixed: the other three.
    """

    name: str
    values: tuple[int, ...]
    fixed: Mapping[str, int]

    def shape(self, value: int) -> dict[str, int]:
        """Return all four sizes where this one is `value`."""
        return {**self.fixed, self.name: value}


AXES = (
    Axis("modalities", (2, 3, 4, 6, 8, 12), {"steps": 20, "features": 64, "instances": 32}),
    Axis("steps", (10, 100, 1_000, 10_000), {"modalities": 3, "features": 64, "instances": 8}),
    Axis("features", (16, 64, 256, 1_024, 4_096), {"modalities": 3, "steps": 20, "instances": 16}),
    Axis("instances", (8, 32, 128, 512), {"modalities": 3, "steps": 20, "features": 64}),
)


def work_of(calibrator: str, phase: str, sizes: Mapping[str, int]) -> Callable[[], object]:
    """Return what is timed: the calibrator alone, forward and backward in training, or forward in evaluation.

    Args:
        calibrator: name.
        phase: "train" or "inference".
        sizes: "modalities", "steps", "features" and "instances".
    """
    draws = seeding.generator(0, "growth")
    shape = (sizes["instances"], sizes["steps"], sizes["features"])
    names = [f"m{number}" for number in range(sizes["modalities"])]
    features = {name: torch.randn(shape, generator=draws) for name in names}
    module: Calibrator = CALIBRATORS[calibrator].build(dict.fromkeys(names, shape[2]), layouts="btd")
    if phase == "inference":
        module.eval()

        def infer() -> None:
            with torch.inference_mode():
                module(features)

        return infer
    labels = torch.randint(5, (shape[0],), generator=draws)
    leaves = {name: x.requires_grad_() for name, x in features.items()}

    def train() -> None:
        out = module.train()(leaves, labels=labels, generator=draws)
        loss = out.auxiliary_loss + torch.stack([x.sum() for x in out.features.values()]).sum()
        for leaf in (*leaves.values(), *module.parameters()):
            leaf.grad = None
        loss.backward()

    return train


def measure(
    axis: Axis,
    *,
    calibrators: Sequence[str] = ("context", "joint"),
    repetitions: int = 7,
    seconds: float = 0.05,
    clock: Callable[[], float] = time.perf_counter,
) -> list[dict[str, Any]]:
    """Time calibrators at each value of an axis, in turns; return a record a calibrator and phase.

    A record has `ratio`, the time at each value over that at the smallest; `exponent`, the slope of the logarithms
    between the two largest values; and `peak_over_features`, the peak of memory over the bytes of the features.

    Args:
        axis: what is varied.
        calibrators: names.
        repetitions: turns.
        seconds: how long each is timed in a turn, about.
        clock: see `interleaved`.
    """
    found = []
    for calibrator in calibrators:
        for phase in PHASES:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                work = {str(value): work_of(calibrator, phase, axis.shape(value)) for value in axis.values}
            calls = {name: calls_for(action, seconds=seconds) for name, action in work.items()}
            times = interleaved(work, repetitions=repetitions, calls=calls, clock=clock)
            growth = [ratios(times[str(value)], times[str(axis.values[0])]).median for value in axis.values]
            last, before = axis.values[-1], axis.values[-2]
            step = ratios(times[str(last)], times[str(before)]).median
            bytes_of = [4 * math.prod(axis.shape(value).values()) for value in axis.values]
            peaks = [peak_bytes(action) / size for action, size in zip(work.values(), bytes_of, strict=True)]
            found.append(
                {
                    "axis": axis.name,
                    "values": list(axis.values),
                    "fixed": dict(axis.fixed),
                    "calibrator": calibrator,
                    "phase": phase,
                    "ratio": [round(value, 3) for value in growth],
                    "exponent": round(math.log(step) / math.log(last / before), 3),
                    "peak_over_features": [round(value, 3) for value in peaks],
                }
            )
    return found


ROWS = (1_000, 10_000, 100_000)


def measure_rows(
    *,
    rows: Sequence[int] = ROWS,
    repetitions: int = 9,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Any]:
    """Time a training step on vectors (lf-dnn, context) as the dataset grows: taking a batch should not show.

    Args:
        rows: instances of the datasets, from small to large.
        repetitions: turns.
        clock: see `interleaved`.
    """
    config = configure(VECTORS, "lf-dnn", "small")
    work = {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        step = actions_of(VECTORS, config, ["context"], "train")["context"]
        for count in rows:
            data = open_tensors(example(VECTORS, instances=count).train)
            work[str(count)] = _taking(data, config.recipe.batch, step)
        calls = calls_for(step, seconds=0.1)
        times = interleaved(work, repetitions=repetitions, calls=calls, clock=clock)
    growth = [ratios(times[str(count)], times[str(rows[0])]).median for count in rows]
    return {"rows": list(rows), "setting": VECTORS.name, "ratio": [round(value, 3) for value in growth]}


def _taking(data: AnyTensors, batch: int, step: Callable[[], object]) -> Callable[[], object]:
    draws = seeding.generator(0, "growth", "rows")

    def work() -> None:
        data.take(torch.randint(len(data), (batch,), generator=draws))
        step()

    return work

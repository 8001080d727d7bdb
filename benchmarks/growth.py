"""How the cost of a calibrator grows with modalities, steps, features and instances, each varied alone.

Linear growth has an exponent of 1: twice as much takes twice as long. Below that fixed costs dominate.
Shapes: features (B, T, D) of each of M modalities.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

import torch

from benchmarks.counts import peak_bytes
from concordant import seeding
from concordant.calibration import Calibrator
from concordant.rivals import CALIBRATORS
from concordant.speed import PHASES, VECTORS, actions_of, example_split
from concordant.timing import Clock, calls_for, interleaved, ratios
from concordant.training.batches import Tensors, to_tensors

ROWS = (1_000, 10_000, 100_000)


@dataclass(frozen=True)
class Axis:
    """The varied size, its values from small to large, and the other three sizes."""

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
    """Return the timed action: the calibrator alone, forward and backward in training, or forward in evaluation."""
    draws = seeding.generator(0, "growth")
    shape = (sizes["instances"], sizes["steps"], sizes["features"])
    names = [f"m{number}" for number in range(sizes["modalities"])]
    features = {name: torch.randn(shape, generator=draws) for name in names}
    module: Calibrator = CALIBRATORS[calibrator].build(dict.fromkeys(names, shape[2]), layouts="btd")
    if phase == "inference":
        return torch.inference_mode()(lambda: module.eval()(features))
    labels = torch.randint(5, (shape[0],), generator=draws)
    leaves = {name: x.requires_grad_() for name, x in features.items()}

    def train() -> None:
        out = module.train()(leaves, labels=labels, generator=draws)
        loss = out.auxiliary_loss + torch.stack([x.sum() for x in out.features.values()]).sum()
        for leaf in (*leaves.values(), *module.parameters()):
            leaf.grad = None
        torch.autograd.backward(loss)

    return train


def measure(
    axis: Axis,
    *,
    calibrators: Sequence[str] = ("context", "joint"),
    repetitions: int = 7,
    seconds: float = 0.05,
    clock: Clock = time.perf_counter,
) -> list[dict[str, Any]]:
    """Time calibrators at each value of an axis, in turns; return a record per calibrator and phase.

    A record has `ratio`, the time at each value over that at the smallest; `exponent`, the slope of the logarithms
    between the two largest values; and `peak_over_features`, the peak of memory over the bytes of the features.
    """
    found = []
    *_, before, last = axis.values
    for calibrator, phase in product(calibrators, PHASES):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            work = {str(value): work_of(calibrator, phase, axis.shape(value)) for value in axis.values}
        calls = {name: calls_for(action, seconds=seconds) for name, action in work.items()}
        times = interleaved(work, repetitions=repetitions, calls=calls, clock=clock)
        step = statistics.median(ratios(times[str(last)], times[str(before)]))
        sizes = [4 * math.prod(axis.shape(value).values()) for value in axis.values]  # bytes of the features
        found.append(
            {
                "axis": axis.name,
                "values": list(axis.values),
                "fixed": dict(axis.fixed),
                "calibrator": calibrator,
                "phase": phase,
                "ratio": _over_smallest(times),
                "exponent": round(math.log(step) / math.log(last / before), 3),
                "peak_over_features": [
                    round(peak_bytes(action) / size, 3) for action, size in zip(work.values(), sizes, strict=True)
                ],
            }
        )
    return found


def measure_rows(
    *, rows: Sequence[int] = ROWS, repetitions: int = 9, clock: Clock = time.perf_counter
) -> dict[str, Any]:
    """Time a training step on vectors (lf-dnn, context) with a batch taken from datasets of growing size."""
    draws = seeding.generator(0, "growth", "rows")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        step = actions_of(VECTORS, "lf-dnn", ["context"], "train")["context"]

        def work_on(data: Tensors) -> None:
            data.take(torch.randint(len(data), (VECTORS.batch,), generator=draws))
            step()

        work = {str(count): partial(work_on, to_tensors(example_split(VECTORS, instances=count))) for count in rows}
        times = interleaved(work, repetitions=repetitions, calls=calls_for(step, seconds=0.1), clock=clock)
    return {"rows": list(rows), "setting": VECTORS.name, "ratio": _over_smallest(times)}


def _over_smallest(times: Mapping[str, Sequence[float]]) -> list[float]:
    smallest, *_ = times.values()
    return [round(statistics.median(ratios(values, smallest)), 3) for values in times.values()]

"""What loading costs an epoch of training: read on demand, read ahead, held in memory, and a plain PyTorch loop.

All four train the same model on the same batches, which come from a store of random sequences with the sizes of
CMU-MOSI's features and different lengths. They take turns, epoch by epoch, so that all meet the same noise.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, RandomSampler, TensorDataset

from benchmarks import put, run
from benchmarks.store import CLASSES, MOSI, write
from concordant.data.split import Split, Task
from concordant.data.store import Store
from concordant.data.stored import StoredSplit, everything
from concordant.speed import training_step
from concordant.timing import interleaved, ratios, spread
from concordant.training.batches import Clock, LazyTensors, Tensors, to_tensors
from concordant.training.config import Recipe, Variant, make_config
from concordant.training.model import build_model

BATCH = 64
SCHEMA = "concordant.data_path/1"

Batches = Callable[[torch.Generator, Clock], Iterator[Tensors]]


def measure(*, instances: int = 512, epochs: int = 5, fusion: str = "transformer", seed: int = 0) -> dict[str, Any]:
    """Return seconds of an epoch by route as ratios to that of data in memory, and each one's share of waiting.

    Args:
        instances: of the dataset; padded, 512 are 104 MB.
        epochs: that are counted, after one that is not.
        fusion: of the model, at its small preset; the calibrator is `context`.
        seed: of data, order and weights.

    Returns:
        {"schema", "instances", "epochs", "fusion", "routes": [{"route", "ratio", "ratio_low", "ratio_high",
        "loading_share", "seconds"}]}: the ratio is the median over epochs, with quartiles.
    """
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), MOSI, instances, seed=seed)
        stored = everything(Store(Path(folder)))
        held = stored.take(np.arange(len(stored)))
        routes = routes_of(stored, held)
        waiting: dict[str, list[float]] = {name: [] for name in routes}
        actions = {name: _epoch(batches, _step(held, fusion, seed), waiting[name]) for name, batches in routes.items()}
        seconds = interleaved(actions, repetitions=epochs, warm=1)  # the first epoch warms caches
    rows = [
        {
            "route": name,
            **spread("ratio", ratios(own, seconds["in memory"])),
            "loading_share": round(statistics.median(ratios(waiting[name][1:], own)), 4),
            "seconds": round(statistics.median(own), 3),
        }
        for name, own in seconds.items()
    ]
    return {"schema": SCHEMA, "instances": instances, "epochs": epochs, "fusion": fusion, "routes": rows}


def routes_of(stored: StoredSplit, held: Split) -> dict[str, Batches]:
    """Return route -> an epoch of batches, in the order that a generator gives; all yield the same instances."""
    read, memory = LazyTensors(stored), to_tensors(held)

    def on_demand(generator: torch.Generator, clock: Clock) -> Iterator[Tensors]:
        for rows in order(len(read), generator):
            with clock.running():
                batch = read.take(rows)
            yield batch

    def of(data: LazyTensors | Tensors, generator: torch.Generator, clock: Clock) -> Iterator[Tensors]:
        return data.batches(order(len(data), generator), clock)

    names = list(memory.inputs)
    plain = TensorDataset(*memory.inputs.values(), *(memory.masks[name] for name in names), memory.labels)

    def loader(generator: torch.Generator, clock: Clock) -> Iterator[Tensors]:
        sampler = RandomSampler(plain, generator=generator)
        batches = iter(DataLoader(plain, BATCH, sampler=sampler, drop_last=True, num_workers=0))
        while True:
            with clock.running():
                found = next(batches, None)
            if found is None:
                return
            inputs, masks = found[: len(names)], found[len(names) : -1]
            yield Tensors(dict(zip(names, inputs, strict=True)), found[-1], dict(zip(names, masks, strict=True)), {})

    return {
        "in memory": partial(of, memory),
        "read ahead": partial(of, read),
        "read on demand": on_demand,
        "plain loop": loader,
    }


def order(rows: int, generator: torch.Generator) -> list[torch.Tensor]:
    """Return the rows of an epoch's batches, the short rest left out, as training does."""
    return [part for part in torch.split(torch.randperm(rows, generator=generator), BATCH) if len(part) == BATCH]


def _epoch(batches: Batches, step: Callable[[Tensors], object], waiting: list[float]) -> Callable[[], None]:
    """Return a function that trains the next epoch, and adds the seconds of waiting for its data to a list."""
    numbers = count()

    def epoch() -> None:
        clock = Clock()
        for batch in batches(torch.Generator().manual_seed(next(numbers)), clock):
            step(batch)
        waiting.append(clock.seconds)

    return epoch


def _step(split: Split, fusion: str, seed: int) -> Callable[[Tensors], object]:
    config = make_config("cmu-mosi", fusion=fusion, calibrators=("context",), recipe=Recipe().model_dump())
    task = Task(CLASSES, dict.fromkeys(MOSI, "btd"), split, split, split)
    return training_step(build_model(task, config, Variant("context", True), seed), config.recipe, perturbed=False)


def main(instances: int = 512, epochs: int = 7, fusion: str = "transformer", seed: int = 0) -> None:
    """Measure and print."""
    put(measure(instances=instances, epochs=epochs, fusion=fusion, seed=seed))


if __name__ == "__main__":
    run(main, __doc__)

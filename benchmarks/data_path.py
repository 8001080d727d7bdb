"""What loading costs an epoch of training: read on demand, read ahead, held in memory, and a plain PyTorch loop.

All four train the same model on the same batches, which come from a store of made-up sequences of the sizes of
CMU-MOSI's features, at lengths of their own. They take turns, epoch by epoch, so that all meet the same noise.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, RandomSampler, TensorDataset

from concordant.data.card import Card, LabelCard, ModalityCard
from concordant.data.split import Split, Task
from concordant.data.store import Instance, Store
from concordant.data.stored import StoredSplit, everything
from concordant.data.writing import write_store
from concordant.speed import ratios, training_step
from concordant.training.batches import Clock, LazyTensors, Tensors, to_tensors
from concordant.training.config import Recipe, Variant, make_config
from concordant.training.model import build_model
from concordant.training.provenance import hardware, versions

SIZES = {"text": (50, 768), "audio": (375, 5), "vision": (500, 20)}  # modality -> (longest T, D)
CLASSES = ("negative", "neutral", "positive")
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
        write_dataset(Path(folder), instances, seed)
        stored = everything(Store(Path(folder)))
        held = stored.take(np.arange(len(stored)))
        routes = routes_of(stored, held)
        steps = {name: _step(held, fusion, seed) for name in routes}
        seconds: dict[str, list[float]] = {name: [] for name in routes}
        shares: dict[str, list[float]] = {name: [] for name in routes}
        for number in range(epochs + 1):
            for name, batches in routes.items():
                clock, start = Clock(), time.perf_counter()
                for batch in batches(torch.Generator().manual_seed(number), clock):
                    steps[name](batch)
                spent = time.perf_counter() - start
                if number:  # the first one warms caches
                    seconds[name].append(spent)
                    shares[name].append(clock.seconds / spent)
    return {
        "schema": SCHEMA,
        "instances": instances,
        "epochs": epochs,
        "fusion": fusion,
        "routes": [_row(name, seconds, shares[name]) for name in routes],
    }


def write_dataset(folder: Path, instances: int, seed: int) -> None:
    """Write a dataset of the three modalities, each sequence at a length of its own."""
    draws = np.random.default_rng(seed)
    card = Card(
        name="own",
        modalities={name: ModalityCard(layout="btd", shape=(None, size)) for name, (_, size) in SIZES.items()},
        label=LabelCard(kind="class", classes=CLASSES),
        splits=("train",),
    )

    def rows() -> Iterator[Instance]:
        for row in range(instances):
            features = {
                name: draws.standard_normal((int(draws.integers(most // 10, most + 1)), size), dtype=np.float32)
                for name, (most, size) in SIZES.items()
            }
            yield Instance(f"i{row}", "train", row % len(CLASSES), features)

    write_store(folder, card, rows())


def routes_of(stored: StoredSplit, held: Split) -> dict[str, Batches]:
    """Return route -> an epoch of batches, in the order that a generator gives; all yield the same instances."""
    read, memory = LazyTensors(stored), to_tensors(held)

    def on_demand(generator: torch.Generator, clock: Clock) -> Iterator[Tensors]:
        for rows in order(len(read), generator):
            with clock.running():
                batch = read.take(rows)
            yield batch

    def ahead(generator: torch.Generator, clock: Clock) -> Iterator[Tensors]:
        return read.batches(order(len(read), generator), clock)

    def in_memory(generator: torch.Generator, clock: Clock) -> Iterator[Tensors]:
        return memory.batches(order(len(memory), generator), clock)

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

    return {"in memory": in_memory, "read ahead": ahead, "read on demand": on_demand, "plain loop": loader}


def order(count: int, generator: torch.Generator) -> list[torch.Tensor]:
    """Return the rows of an epoch's batches, the short rest left out, as training does."""
    return [rows for rows in torch.split(torch.randperm(count, generator=generator), BATCH) if len(rows) == BATCH]


def _step(split: Split, fusion: str, seed: int) -> Callable[[Tensors], object]:
    config = make_config("cmu-mosi", fusion=fusion, calibrators=("context",), recipe=Recipe().model_dump())
    task = Task(CLASSES, dict.fromkeys(SIZES, "btd"), split, split, split)
    return training_step(build_model(task, config, Variant("context", True), seed), config.recipe, perturbed=False)


def _row(name: str, seconds: Mapping[str, list[float]], shares: list[float]) -> dict[str, Any]:
    return {
        "route": name,
        **ratios(seconds[name], seconds["in memory"]).record("ratio"),
        "loading_share": round(statistics.median(shares), 4),
        "seconds": round(statistics.median(seconds[name]), 3),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--instances", type=int, default=512)
    parser.add_argument("--epochs", type=int, default=7)
    parser.add_argument("--fusion", default="transformer")
    parser.add_argument("--seed", type=int, default=0)
    given = vars(parser.parse_args())
    torch.set_num_threads(1)
    print(json.dumps({**measure(**given), "versions": versions(), "hardware": hardware()}, indent=2))


if __name__ == "__main__":
    main()

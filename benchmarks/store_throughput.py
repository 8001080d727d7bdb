"""Epochs of padded batches: the store against tensors in memory and against the plain pickle route.

`python -m benchmarks.store_throughput [--instances N] [--epochs E] [--seed S]` makes a dataset of CMU-MOSI's published
sizes (text 50 x 768, audio 375 x 5, vision 500 x 20) at lengths of their own and goes through it in batches of 64 in
random order: from the store, memory-mapped; from tensors padded to the longest of all, in memory; from a pickle of
padded arrays, opened anew and held in memory, instance by instance through a DataLoader, as published loaders do.
Printed as JSON: instances a second of each, as a ratio to the tensors in memory, median and spread over epochs, with
the time to open; the routes take turns, so that all meet the same noise.
"""

from __future__ import annotations

import argparse
import json
import pickle
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, RandomSampler, TensorDataset

from concordant.data.card import Card, LabelCard, ModalityCard
from concordant.data.store import Instance, Store
from concordant.data.stored import Collate
from concordant.data.writing import write_store
from concordant.training.provenance import hardware, versions

SIZES = {"text": (50, 768), "audio": (375, 5), "vision": (500, 20)}
BATCH = 64
Epoch = Callable[[torch.Generator], float]


def make(folder: Path, count: int, seed: int) -> None:
    """Write the dataset as a store, and as a pickle of padded arrays."""
    draws = np.random.default_rng(seed)
    padded = {name: np.zeros((count, most, size), np.float32) for name, (most, size) in SIZES.items()}
    card = Card(
        name="mosi-sized",
        modalities={name: ModalityCard(layout="btd", shape=(None, size)) for name, (_, size) in SIZES.items()},
        label=LabelCard(kind="real"),
        splits=("train",),
    )

    def instances() -> Iterator[Instance]:
        for row in range(count):
            features = {}
            for name, (most, size) in SIZES.items():
                steps = int(draws.integers(most // 10, most + 1))
                features[name] = draws.standard_normal((steps, size), dtype=np.float32)
                padded[name][row, :steps] = features[name]
            yield Instance(f"i{row}", "train", 0.0, features)

    write_store(folder / "store", card, instances())
    with (folder / "plain.pkl").open("wb") as file:
        pickle.dump(padded, file, protocol=4)


class Plain(Dataset[dict[str, Tensor]]):
    """Instances of padded arrays, one by one."""

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            self.arrays = pickle.load(file)  # noqa: S301 - written above

    def __len__(self) -> int:
        return len(self.arrays["text"])

    def __getitem__(self, row: int) -> dict[str, Tensor]:
        return {name: torch.tensor(values[row]) for name, values in self.arrays.items()}


def open_store(folder: Path) -> Epoch:
    """The store."""
    store = Store(folder / "store")

    def epoch(generator: torch.Generator) -> float:
        loader: DataLoader[Instance] = DataLoader(
            cast("Dataset[Instance]", store),
            BATCH,
            sampler=RandomSampler(store, generator=generator),
            collate_fn=Collate(store.card),
        )
        return sum(float(batch.inputs["text"][0, 0, 0]) for batch in loader)

    return epoch


def open_tensors(folder: Path) -> Epoch:
    """Tensors in memory, gathered a batch at a time: the fastest way there is without a model."""
    arrays = Plain(folder / "plain.pkl").arrays
    data = TensorDataset(*(torch.from_numpy(arrays[name]) for name in SIZES))

    def epoch(generator: torch.Generator) -> float:
        order = torch.randperm(len(data), generator=generator)
        return sum(float(data[rows][0][0, 0, 0]) for rows in torch.split(order, BATCH))

    return epoch


def open_pickle(folder: Path) -> Epoch:
    """The pickle, as published loaders read it."""
    data = Plain(folder / "plain.pkl")

    def epoch(generator: torch.Generator) -> float:
        loader = DataLoader(data, BATCH, sampler=RandomSampler(data, generator=generator))
        return sum(float(batch["text"][0, 0, 0]) for batch in loader)

    return epoch


ROUTES = {"tensors in memory": open_tensors, "store": open_store, "pickle": open_pickle}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--instances", type=int, default=2199)
    parser.add_argument("--epochs", type=int, default=7)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder), arguments.instances, arguments.seed)
        epochs, opening = {}, {}
        for name, route in ROUTES.items():
            start = time.perf_counter()
            epochs[name] = route(Path(folder))
            opening[name] = time.perf_counter() - start
        seconds: dict[str, list[float]] = {name: [] for name in ROUTES}
        for number in range(arguments.epochs + 1):
            for name, epoch in epochs.items():
                start = time.perf_counter()
                epoch(torch.Generator().manual_seed(number))
                if number:  # the first warms the system's cache
                    seconds[name].append(time.perf_counter() - start)
    base = seconds["tensors in memory"]
    ratios = {name: [b / own for b, own in zip(base, found, strict=True)] for name, found in seconds.items()}
    print(
        json.dumps(
            {
                "instances": arguments.instances,
                "throughput_to_tensors_in_memory": {
                    name: {
                        "median": round(statistics.median(found), 3),
                        "from": round(min(found), 3),
                        "to": round(max(found), 3),
                    }
                    for name, found in ratios.items()
                },
                "opening_to_pickle": {
                    name: round(value / opening["pickle"], 4) for name, value in opening.items() if name != "pickle"
                },
                "versions": versions(),
                "hardware": hardware(),
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()

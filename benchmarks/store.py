"""The store on disk: memory that it takes, and the throughput of padded batches.

`python -m benchmarks.store memory [--instances N] [--folder DIR]` prepares a dataset of CMU-MOSEI's published number
(22,856), sizes (768, 74, 35) and lengths (text up to 50 steps, audio and vision up to 500; drawn evenly from half of
that up), and reads every instance in batches of 64 in random order. Printed as JSON: the highest resident memory of
each process, that of a process that only imports, and the limit of 1.5 GiB. Resident memory counts pages of
memory-mapped files, which the system can take back at any time.

`python -m benchmarks.store throughput [--instances N] [--epochs E]` goes through a dataset of CMU-MOSI's published
sizes (text 50 x 768, audio 375 x 5, vision 500 x 20) in batches of 64 in random order: from the store; from padded
tensors in memory; from a pickle of padded arrays, instance by instance through a DataLoader, as published loaders do.
Printed as JSON: instances per second as a ratio to the tensors in memory, over epochs that take turns, and the time to
open.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import pickle
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset, RandomSampler, TensorDataset

from concordant.data.card import Card, LabelCard, ModalityCard
from concordant.data.store import Instance, Store
from concordant.data.stored import Collate
from concordant.data.writing import write_store
from concordant.speed import interleaved, ratios
from concordant.training.provenance import hardware, versions

Sizes = Mapping[str, tuple[int, int]]  # modality -> longest T, D
MOSEI: Sizes = {"text": (50, 768), "audio": (500, 74), "vision": (500, 35)}
MOSI: Sizes = {"text": (50, 768), "audio": (375, 5), "vision": (500, 20)}
LIMIT = 1.5 * 2**30
BATCH = 64
Arrays = dict[str, NDArray[np.float32]]
Epoch = Callable[[torch.Generator], float]


def write(folder: Path, sizes: Sizes, count: int, seed: int, *, shortest: int) -> None:
    """Write random sequences as a store, each with its own length: a `shortest`-th of the longest, or more."""
    draws = np.random.default_rng(seed)

    def instances() -> Iterator[Instance]:
        for row in range(count):
            features = {
                name: draws.standard_normal((int(draws.integers(most // shortest, most + 1)), size), dtype=np.float32)
                for name, (most, size) in sizes.items()
            }
            split = "train" if row < 0.72 * count else "valid" if row < 0.8 * count else "test"
            yield Instance(f"i{row}", split, float(draws.uniform(-3, 3)), features, f"v{row // 7}")

    modalities = {name: ModalityCard(layout="btd", shape=(None, size)) for name, (_, size) in sizes.items()}
    write_store(
        folder, Card(name="random", modalities=modalities, label=LabelCard(kind="real"), groups="video"), instances()
    )


def store_epoch(store: Store) -> Epoch:
    """Return a function that reads all instances of a store once, in batches."""

    def epoch(generator: torch.Generator) -> float:
        data = cast("Dataset[Instance]", store)
        order = RandomSampler(store, generator=generator)
        loader: DataLoader[Any] = DataLoader(data, BATCH, sampler=order, collate_fn=Collate(store.card))
        return sum(float(batch.inputs["text"][0, 0, 0]) for batch in loader)

    return epoch


def _prepare(folder: Path, count: int) -> dict[str, float]:
    write(folder, MOSEI, count, 0, shortest=2)
    return {}


def _read(folder: Path, count: int) -> dict[str, float]:
    store = Store(folder)
    if len(store) != count:
        raise SystemExit(f"the store has {len(store)} of {count} instances")
    store_epoch(store)(torch.Generator().manual_seed(0))
    return {"bytes": float(store.nbytes)}


def _import_alone(folder: Path, count: int) -> dict[str, float]:
    import datasets  # noqa: F401 - imported by writing

    return {}


def peak_of(work: Callable[[Path, int], dict[str, float]], *arguments: object) -> dict[str, float]:
    """Return the result of `work` in a process of its own, with that process's highest resident memory in bytes."""
    context = multiprocessing.get_context("spawn")
    queue: Any = context.Queue()
    process = context.Process(target=_report, args=(queue, work, *arguments))
    process.start()
    found: dict[str, float] = queue.get()
    process.join()
    return found


def _report(queue: Any, work: Callable[..., dict[str, float]], *arguments: object) -> None:  # noqa: ANN401
    torch.set_num_threads(1)
    found = work(*arguments)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    queue.put({**found, "peak_bytes": float(peak)})


def memory(instances: int, folder: Path | None) -> dict[str, Any]:
    """Return the peaks of resident memory, in GiB."""
    base = Path(tempfile.mkdtemp(dir=folder))
    try:
        works = (_import_alone, _prepare, _read)
        idle, written, read = (peak_of(work, base / "store", instances) for work in works)
    finally:
        shutil.rmtree(base)
    peaks = {"imports alone": idle, "prepare": written, "read": read}
    return {
        "instances": instances,
        "dataset_gib": round(read["bytes"] / 2**30, 2),
        "peak_gib": {name: round(one["peak_bytes"] / 2**30, 3) for name, one in peaks.items()},
        "limit_gib": LIMIT / 2**30,
        "below_limit": max(written["peak_bytes"], read["peak_bytes"]) < LIMIT,
    }


def padded(store: Store) -> Arrays:
    """Return all sequences of a store as arrays, padded to the longest possible."""
    arrays = {name: np.zeros((len(store), *shape), np.float32) for name, shape in MOSI.items()}
    for row in range(len(store)):
        for name, x in store[row].features.items():
            if x is not None:
                arrays[name][row, : len(x)] = x
    return arrays


class Plain(Dataset[dict[str, torch.Tensor]]):
    """Instances of padded arrays, one by one."""

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            self.arrays: Arrays = pickle.load(file)  # noqa: S301 - written below

    def __len__(self) -> int:
        return len(self.arrays["text"])

    def __getitem__(self, row: int) -> dict[str, torch.Tensor]:
        return {name: torch.tensor(values[row]) for name, values in self.arrays.items()}


def _tensors(path: Path) -> Epoch:
    data = TensorDataset(*(torch.from_numpy(x) for x in Plain(path).arrays.values()))

    def epoch(generator: torch.Generator) -> float:
        order = torch.randperm(len(data), generator=generator)
        return sum(float(data[rows][0][0, 0, 0]) for rows in torch.split(order, BATCH))

    return epoch


def _pickle(path: Path) -> Epoch:
    data = Plain(path)

    def epoch(generator: torch.Generator) -> float:
        loader = DataLoader(data, BATCH, sampler=RandomSampler(data, generator=generator))
        return sum(float(batch["text"][0, 0, 0]) for batch in loader)

    return epoch


def throughput(instances: int, epochs: int) -> dict[str, Any]:
    """Return instances per second relative to tensors in memory, and the time to open relative to the pickle."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name)
        write(path / "store", MOSI, instances, 0, shortest=10)
        (path / "plain.pkl").write_bytes(pickle.dumps(padded(Store(path / "store")), protocol=4))
        routes: dict[str, Callable[[], Epoch]] = {
            "tensors in memory": partial(_tensors, path / "plain.pkl"),
            "store": lambda: store_epoch(Store(path / "store")),
            "pickle": partial(_pickle, path / "plain.pkl"),
        }
        actions: dict[str, Callable[[], object]] = {}
        opening = {}
        for route, opened in routes.items():
            start = time.perf_counter()
            actions[route] = partial(opened(), torch.Generator().manual_seed(0))
            opening[route] = time.perf_counter() - start
        seconds = interleaved(actions, repetitions=epochs, warm=1)
    base = seconds["tensors in memory"]
    return {
        "instances": instances,
        "throughput_to_tensors_in_memory": {name: ratios(base, own).record("ratio") for name, own in seconds.items()},
        "opening_to_pickle": {name: round(opening[name] / opening["pickle"], 4) for name in list(routes)[:2]},
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("memory", "throughput"))
    parser.add_argument("--instances", type=int, help="default: 22856 for memory, 2199 for throughput")
    parser.add_argument("--epochs", type=int, default=7)
    parser.add_argument("--folder", type=Path, help="where some 6 GB may be written; default: a temporary folder")
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.what == "memory":
        found = memory(given.instances or 22_856, given.folder)
    else:
        found = throughput(given.instances or 2_199, given.epochs)
    print(json.dumps({**found, "versions": versions(), "hardware": hardware()}, indent=2))


if __name__ == "__main__":
    main()

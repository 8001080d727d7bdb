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

import multiprocessing
import pickle
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset, RandomSampler, TensorDataset

from benchmarks import put, run
from concordant.data.card import Card, LabelCard, ModalityCard
from concordant.data.store import Instance, Store
from concordant.data.stored import everything
from concordant.data.writing import write_store
from concordant.timing import interleaved, ratios, spread

Sizes = Mapping[str, tuple[int, int]]  # modality -> longest T, D
MOSEI: Sizes = {"text": (50, 768), "audio": (500, 74), "vision": (500, 35)}
MOSI: Sizes = {"text": (50, 768), "audio": (375, 5), "vision": (500, 20)}
CLASSES = ("negative", "neutral", "positive")
LIMIT = 1.5 * 2**30
BATCH = 64
Epoch = Callable[[torch.Generator], object]


def write(folder: Path, sizes: Sizes, count: int, *, shortest: int = 10, seed: int = 0) -> None:
    """Write random sequences as a store, each with its own length: a `shortest`-th of the longest, or more."""
    draws = np.random.default_rng(seed)

    def instances() -> Iterator[Instance]:
        for row in range(count):
            features = {
                name: draws.standard_normal((int(draws.integers(most // shortest, most + 1)), size), dtype=np.float32)
                for name, (most, size) in sizes.items()
            }
            yield Instance(f"i{row}", "train", row % len(CLASSES), features)

    modalities = {name: ModalityCard(layout="btd", shape=(None, size)) for name, (_, size) in sizes.items()}
    label = LabelCard(kind="class", classes=CLASSES)
    write_store(folder, Card(name="own", modalities=modalities, label=label, splits=("train",)), instances())


def store_epoch(folder: Path) -> Epoch:
    """Return a function that reads all instances of a store once, in batches."""
    whole = everything(Store(folder))

    def epoch(generator: torch.Generator) -> float:
        order = torch.randperm(len(whole), generator=generator).numpy()
        batches = (order[start : start + BATCH] for start in range(0, len(order), BATCH))
        return sum(float(whole.take(rows).inputs["text"][0, 0, 0]) for rows in batches)

    return epoch


def _prepare(folder: Path, count: int) -> None:
    write(folder, MOSEI, count, shortest=2)


def _read(folder: Path, count: int) -> None:
    found = len(Store(folder))
    if found != count:
        raise SystemExit(f"the store has {found} of {count} instances")
    store_epoch(folder)(torch.Generator().manual_seed(0))


def _import_alone(folder: Path, count: int) -> None:
    import datasets  # noqa: F401 - imported by writing


def peak_of(work: Callable[[Path, int], None], folder: Path, count: int) -> int:
    """Return the highest resident memory, in bytes, of a process that does `work`."""
    context = multiprocessing.get_context("spawn")
    queue: Any = context.Queue()
    process = context.Process(target=_report, args=(queue, work, folder, count))
    process.start()
    peak: int = queue.get()
    process.join()
    return peak


def _report(queue: Any, work: Callable[[Path, int], None], folder: Path, count: int) -> None:  # noqa: ANN401
    torch.set_num_threads(1)
    work(folder, count)
    queue.put(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024))


def memory(instances: int, folder: Path | None) -> dict[str, Any]:
    """Return the peaks of resident memory, in GiB."""
    works = {"imports alone": _import_alone, "prepare": _prepare, "read": _read}
    with tempfile.TemporaryDirectory(dir=folder) as base:
        peaks = {name: peak_of(work, Path(base) / "store", instances) for name, work in works.items()}
        size = Store(Path(base) / "store").nbytes
    return {
        "instances": instances,
        "dataset_gib": round(size / 2**30, 2),
        "peak_gib": {name: round(peak / 2**30, 3) for name, peak in peaks.items()},
        "limit_gib": LIMIT / 2**30,
        "below_limit": max(peaks["prepare"], peaks["read"]) < LIMIT,
    }


def padded(folder: Path) -> dict[str, NDArray[np.float32]]:
    """Return all sequences of a store of MOSI's sizes as arrays, padded to the longest possible."""
    store = Store(folder)
    arrays = {name: np.zeros((len(store), *shape), np.float32) for name, shape in MOSI.items()}
    for row in range(len(store)):
        for name, x in store[row].features.items():
            if x is not None:
                arrays[name][row, : len(x)] = x
    return arrays


class Plain(Dataset[dict[str, torch.Tensor]]):
    """Instances of padded arrays, one by one."""

    def __init__(self, path: Path) -> None:
        self.arrays: dict[str, NDArray[np.float32]] = pickle.loads(path.read_bytes())  # noqa: S301 - written below

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
        store, plain = Path(name) / "store", Path(name) / "plain.pkl"
        write(store, MOSI, instances)
        plain.write_bytes(pickle.dumps(padded(store), protocol=4))
        routes = {"tensors in memory": (_tensors, plain), "store": (store_epoch, store), "pickle": (_pickle, plain)}
        actions: dict[str, Callable[[], object]] = {}
        opening = {}
        for route, (opened, path) in routes.items():
            start = time.perf_counter()
            actions[route] = partial(opened(path), torch.Generator().manual_seed(0))
            opening[route] = time.perf_counter() - start
        seconds = interleaved(actions, repetitions=epochs, warm=1)
    base = seconds["tensors in memory"]
    return {
        "instances": instances,
        "throughput_to_tensors_in_memory": {name: spread("ratio", ratios(base, own)) for name, own in seconds.items()},
        "opening_to_pickle": {name: round(opening[name] / opening["pickle"], 4) for name in list(routes)[:2]},
    }


def main(
    what: Literal["memory", "throughput"],
    instances: Annotated[int | None, typer.Option(help="Default: 22856 for memory, 2199 for throughput.")] = None,
    epochs: int = 7,
    folder: Annotated[Path | None, typer.Option(help="Where some 6 GB may be written; default: temporary.")] = None,
) -> None:
    """Measure and print."""
    put(memory(instances or 22_856, folder) if what == "memory" else throughput(instances or 2_199, epochs))


if __name__ == "__main__":
    run(main, __doc__)

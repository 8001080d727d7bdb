"""Memory of a dataset as large as CMU-MOSEI: prepared and gone through once, in processes of their own.

`python -m benchmarks.store_memory [--instances N] [--seed S] [--folder DIR]` generates instances of the published
number (22,856), sizes (768, 74, 35) and lengths (text up to 50 steps, audio and vision up to 500; drawn evenly from
half of that up), writes them as a store, and reads every one in padded batches of 64 in random order. Printed as JSON:
the highest resident memory of each process, that of a process that does nothing but import, and the limit of 1.5 GiB.
Resident memory counts pages of memory-mapped files, which the system could take back at any time.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import numpy as np
import torch

from concordant.data.card import Card, LabelCard, ModalityCard
from concordant.data.store import Instance, Store
from concordant.data.stored import Collate
from concordant.data.writing import write_store
from concordant.training.provenance import hardware, versions

INSTANCES = 22_856
SIZES = {"text": (50, 768), "audio": (500, 74), "vision": (500, 35)}  # steps at the most, features
LIMIT = 1.5 * 2**30
BATCH = 64


def instances(count: int, seed: int) -> Iterator[Instance]:
    """Yield random instances at lengths of their own."""
    draws = np.random.default_rng(seed)
    for row in range(count):
        features = {}
        for name, (most, size) in SIZES.items():
            steps = int(draws.integers(most // 2, most + 1))
            features[name] = draws.standard_normal((steps, size), dtype=np.float32)
        split = "train" if row < 0.72 * count else "valid" if row < 0.8 * count else "test"
        yield Instance(f"i{row}", split, float(draws.uniform(-3, 3)), features, f"v{row // 7}")


def write(folder: Path, count: int, seed: int) -> dict[str, float]:
    """Prepare the dataset."""
    card = Card(
        name="mosei-sized",
        modalities={name: ModalityCard(layout="btd", shape=(None, size)) for name, (_, size) in SIZES.items()},
        label=LabelCard(kind="real"),
        groups="video",
    )
    write_store(folder, card, instances(count, seed))
    return {}


def read(folder: Path, count: int, seed: int) -> dict[str, float]:
    """Go through all instances once."""
    store = Store(folder)
    order = torch.utils.data.RandomSampler(store, generator=torch.Generator().manual_seed(seed))
    loader: torch.utils.data.DataLoader[Instance] = torch.utils.data.DataLoader(
        cast("torch.utils.data.Dataset[Instance]", store), BATCH, sampler=order, collate_fn=Collate(store.card)
    )
    seen, total = 0, 0.0
    for batch in loader:
        seen += len(batch)
        total += float(batch.inputs["text"][:, 0, 0].sum())
    if seen != count:
        raise SystemExit(f"read {seen} of {count} instances")
    return {"bytes": float(store.nbytes), "sum": total}


def nothing(folder: Path, count: int, seed: int) -> dict[str, float]:
    """Import, and no more."""
    import datasets  # noqa: F401 - what writing imports

    return {}


def measured(work: Callable[[Path, int, int], dict[str, float]], *arguments: object) -> dict[str, float]:
    """Return what `work` says in a process of its own, with that process's highest resident memory in bytes."""
    queue = multiprocessing.get_context("spawn").Queue()
    process = multiprocessing.get_context("spawn").Process(target=_report, args=(queue, work, *arguments))
    process.start()
    found: dict[str, float] = queue.get()
    process.join()
    return found


def _report(
    queue: multiprocessing.Queue[dict[str, float]], work: Callable[..., dict[str, float]], *arguments: object
) -> None:
    torch.set_num_threads(1)
    found = work(*arguments)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    queue.put({**found, "peak_bytes": float(peak)})


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--instances", type=int, default=INSTANCES)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="where some 6 GB may be written; default: a temporary folder")
    arguments = parser.parse_args()
    base = Path(tempfile.mkdtemp(dir=arguments.folder))
    try:
        common = (base / "store", arguments.instances, arguments.seed)
        idle, written, gone_through = (measured(work, *common) for work in (nothing, write, read))
    finally:
        shutil.rmtree(base)
    found = {
        "instances": arguments.instances,
        "dataset_gib": round(gone_through["bytes"] / 2**30, 2),
        "peak_gib": {
            "imports alone": round(idle["peak_bytes"] / 2**30, 3),
            "prepare": round(written["peak_bytes"] / 2**30, 3),
            "read": round(gone_through["peak_bytes"] / 2**30, 3),
        },
        "limit_gib": LIMIT / 2**30,
        "below_limit": max(written["peak_bytes"], gone_through["peak_bytes"]) < LIMIT,
        "versions": versions(),
        "hardware": hardware(),
    }
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()

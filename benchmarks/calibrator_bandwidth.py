"""The calibrator alone against memory: its forward pass over the time of two reads and one write of the features.

`python benchmarks/calibrator_bandwidth.py [--repetitions R] [--calibrators NAME,...] [--compiled] [--cpu-time] [--out
FILE]` takes float32 features of three modalities, (64, 500, 512) each, in evaluation mode, with and without masks, and
then other lengths and sizes, to show growth. Printed as JSON: `ratio` over the bound, in which every result is new
memory, as a calibrator's is, and `warm_ratio`, over the bound with memory that was written before; medians and
quartiles over turns.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch

from concordant.files import write_json
from concordant.speed import bandwidth
from concordant.training.provenance import hardware, versions

WHOLE = (64, 500, 512)
LENGTHS = [(8, length, 64) for length in (10, 100, 1000, 10_000)]
SIZES = [(8, 200, size) for size in (16, 128, 1024, 4096)]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=15)
    parser.add_argument("--calibrators", default="context,joint,self,none")
    parser.add_argument("--compiled", action="store_true", help="torch.compile as well, which takes a minute")
    parser.add_argument("--cpu-time", action="store_true", help="the process's time, where others use the machine too")
    parser.add_argument("--out", type=Path, help="write the JSON here as well")
    given = parser.parse_args()
    torch.set_num_threads(1)
    how = {"repetitions": given.repetitions, "clock": time.process_time if given.cpu_time else time.perf_counter}
    bound = [
        bandwidth.measure(name, shape=WHOLE, masked=masked, **how)
        for name in given.calibrators.split(",")
        for masked in (False, True)
    ]
    if given.compiled:
        bound += [
            bandwidth.measure("context", shape=WHOLE, masked=masked, compiled=True, **how) for masked in (False, True)
        ]
    found = {
        "schema": "concordant.speed/1",
        "threads": 1,
        "clock": "process" if given.cpu_time else "wall",
        "repetitions": given.repetitions,
        "bandwidth_bound": [one.record() for one in bound],
        "growth": {
            "length": [bandwidth.measure(shape=shape, **how).record() for shape in LENGTHS],
            "size": [bandwidth.measure(shape=shape, **how).record() for shape in SIZES],
        },
        "versions": versions(),
        "hardware": hardware(),
    }
    print(json.dumps(found, indent=2))
    if given.out is not None:
        write_json(given.out, found)


if __name__ == "__main__":
    main()

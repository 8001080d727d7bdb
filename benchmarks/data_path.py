"""An epoch of training by how its data come: in memory, read ahead, read on demand, and from a plain PyTorch loop.

`python benchmarks/data_path.py [--instances N] [--epochs E] [--fusion NAME] [--seed S]` prints JSON: seconds of an
epoch as a ratio to that of data in memory, and the share of it that was spent waiting for data, medians over epochs
in which the routes take turns. One thread computes; reading ahead has a core to itself where there are two.
"""

from __future__ import annotations

import argparse
import json

import torch

from concordant.speed.data_path import measure
from concordant.training.provenance import hardware, versions


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--instances", type=int, default=512)
    parser.add_argument("--epochs", type=int, default=7)
    parser.add_argument("--fusion", default="transformer")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(json.dumps({**measure(**vars(arguments)), "versions": versions(), "hardware": hardware()}, indent=2))


if __name__ == "__main__":
    main()

"""Ten seeds in one vectorised pass against ten one after another, whole training, one thread each.

`python benchmarks/vectorised_seeds.py [--quick] [--seeds S] [--repetitions R] [--data DIR]` trains `lf-dnn` on
`cmu-mosi-utterance` and the small transformer on `utd-mhad`, all modalities and without depth. `--quick` takes the
embedded digits and few steps. Printed as JSON: the speed-up, median and range over turns that alternate, what
`concordant run` chooses by itself and why, how far results are apart, versions and hardware.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from concordant.speed.vectorised import measure_seeds
from concordant.training.provenance import hardware, versions

FULL = (
    {"benchmark": "cmu-mosi-utterance", "fusion": "lf-dnn", "calibrator": "none"},
    {"benchmark": "cmu-mosi-utterance", "fusion": "lf-dnn", "calibrator": "joint"},
    {"benchmark": "cmu-mosi-utterance", "fusion": "lf-dnn", "calibrator": "context"},
    {"benchmark": "utd-mhad", "fusion": "transformer", "steps": 40},
    {"benchmark": "utd-mhad", "fusion": "transformer", "steps": 40, "modalities": ("skeleton", "inertial")},
)
QUICK = ({"benchmark": "digits", "fusion": "lf-dnn", "steps": 60},)


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--data", type=Path, default=None)
    given = parser.parse_args()
    found = [
        measure_seeds(**one, seeds=given.seeds, repetitions=given.repetitions, data=given.data)
        for one in (QUICK if given.quick else FULL)
    ]
    print(json.dumps({"vectorised_seeds": found, "versions": versions(), "hardware": hardware()}, indent=2))


if __name__ == "__main__":
    main()

"""What calibrators add to a training step and to inference, as ratios over the same model without one.

`python benchmarks/calibrator_overhead.py [--all] [--repetitions R] [--calibrators NAME,...] [--cpu-time] [--out FILE]`
times `lf-dnn` on vectors, `mult` at the lengths of CMU-MOSI, aligned (50, 50, 50) and not (50, 375, 500), and the
audio-visual fusions behind ResNet-18 at 112 pixels; with `--all` every fusion in both presets. The base is "none" with
the same perturbations, on the same rows; "none, clean" is the twin without them, on half as many. Printed as JSON:
medians and quartiles over turns.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import torch

from concordant.files import write_json
from concordant.fusion import FUSIONS
from concordant.speed import overhead
from concordant.training.provenance import hardware, versions

CHOSEN = [
    (overhead.VECTORS, "lf-dnn", "small"),
    (overhead.VECTORS, "lf-dnn", "paper"),
    (overhead.ALIGNED, "mult", "small"),
    (overhead.ALIGNED, "mult", "paper"),
    (overhead.UNALIGNED, "mult", "small"),
    *((overhead.AUDIO_VISUAL, name, "paper") for name in FUSIONS if FUSIONS[name].setting == "convolutional"),
]
ALL = [
    *((overhead.BY_FUSION[FUSIONS[name].setting], name, preset) for name in FUSIONS for preset in ("small", "paper")),
    (overhead.UNALIGNED, "mult", "small"),
    (overhead.UNALIGNED, "mult", "paper"),
]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--all", action="store_true", help="every fusion in both presets, with every calibrator")
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--calibrators", help="default: joint, context; with --all, every one")
    parser.add_argument("--cpu-time", action="store_true", help="the process's time, where others use the machine too")
    parser.add_argument("--out", type=Path, help="write the JSON here as well")
    given = parser.parse_args()
    torch.set_num_threads(1)
    calibrators = None if given.all and given.calibrators is None else (given.calibrators or "joint,context").split(",")
    records = []
    for setting, fusion, preset in ALL if given.all else CHOSEN:
        for phase in overhead.PHASES:
            for one in overhead.measure(
                setting,
                fusion,
                preset=preset,
                calibrators=calibrators,
                phase=phase,
                repetitions=given.repetitions,
                clock=time.process_time if given.cpu_time else time.perf_counter,
            ):
                records.append(one.record())
                print(f"{fusion}, {setting.name}, {preset}, {phase}, {one.calibrator}: {one.ratio}", file=sys.stderr)
    found = {
        "schema": "concordant.speed/1",
        "threads": 1,
        "clock": "process" if given.cpu_time else "wall",
        "repetitions": given.repetitions,
        "settings": {name: describe(setting) for name, setting in overhead.SETTINGS.items()},
        "overhead": records,
        "versions": versions(),
        "hardware": hardware(),
    }
    print(json.dumps(found, indent=2))
    if given.out is not None:
        write_json(given.out, found)


def describe(setting: overhead.Setting) -> dict[str, object]:
    """Return what a setting's inputs are."""
    return {
        "source": setting.source,
        "shapes": {name: list(shape) for name, shape in setting.shapes.items()},
        "batch": setting.batch,
        "encoders": setting.encoders,
        "masked": setting.masked,
    }


if __name__ == "__main__":
    main()

"""All measurements of cost in one run: `python -m benchmarks.speed [--quick] [--device cuda] [--only SECTION,...]`.

`--json` writes the document, `--page` a page of Markdown made of it. All numbers are ratios of things that took turns,
since machines are shared. On a CPU one thread computes, timed in processor seconds, which exclude other programs. On an
accelerator the start of an operator costs the host more than the device; there calibrators are also compiled with mode
"reduce-overhead", as one CUDA graph.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks import bandwidth, compiled, counts, data_path, growth, many_seeds
from benchmarks.page import page
from concordant import speed
from concordant.errors import ConcordantError, DataError, UsageError
from concordant.files import write_json, write_text
from concordant.training.provenance import hardware, versions

COMPILED = "lf-dnn"  # bound by the start of operators, which compiling spares
GRAPH = "reduce-overhead"
SHAPES = ((64, 500, 512), (64, 50, 512), (64, 500, 64), (512, 1, 512))
SHAPES_OF_ACCELERATOR = ((64, 500, 512), (256, 500, 512), (64, 50, 512), (64, 500, 64))
SEEDS: tuple[Mapping[str, Any], ...] = (
    {"benchmark": "cmu-mosi-utterance", "fusion": "lf-dnn", "repetitions": 2},
    {"benchmark": "cmu-mosi-utterance", "fusion": "lf-dnn", "calibrator": "none", "repetitions": 1},
    # A step of these takes long enough for the ratio to show in twenty.
    {"benchmark": "utd-mhad", "fusion": "transformer", "steps": 20, "repetitions": 1},
    {
        "benchmark": "utd-mhad",
        "fusion": "transformer",
        "steps": 20,
        "modalities": ("skeleton", "inertial"),
        "repetitions": 1,
    },
)
# Hundreds of sequential steps take minutes; the fewer there are, the more the preparation of a pass weighs.
SEEDS_OF_ACCELERATOR: tuple[Mapping[str, Any], ...] = (
    {"benchmark": "cmu-mosi-utterance", "fusion": "lf-dnn", "steps": 300, "repetitions": 1},
    {"benchmark": "utd-mhad", "fusion": "transformer", "steps": 100, "repetitions": 1},
    {"benchmark": "utd-mhad", "fusion": "mult", "steps": 60, "repetitions": 1},
    {"benchmark": "av-digits", "fusion": "concat", "steps": 60, "repetitions": 1},
)
SEEDS_QUICK = ({"benchmark": "digits", "fusion": "lf-dnn", "steps": 60, "repetitions": 1},)  # part of scikit-learn
Section = dict[str, Callable[[], Any]]  # description -> function that returns a record, or a list of records


def measure_all(
    *,
    quick: bool = False,
    only: Sequence[str] = (),
    device: str = "cpu",
    data: Path | str | None = None,
    progress: speed.Progress | None = None,
) -> dict[str, Any]:
    """Measure every section; return the document.

    Args:
        quick: fewer fusions, calibrators, sizes and repetitions: two minutes instead of most of an hour.
        only: names of sections; empty = all.
        device: "cpu", or an accelerator such as "cuda", where fewer sections exist.
        data: data folder of the benchmarks that are trained; "skipped" lists those whose data are absent.
        progress: called with the number of finished measurements, their total, and the next one.

    Raises:
        UsageError: a section is unknown, or the device is not available.
    """
    speed.check_device(device)
    sections = sections_of(device, quick=quick, data=data)
    unknown = [name for name in only if name not in sections]
    if unknown:
        raise UsageError(f"unknown section {unknown[0]!r}; choose from: {', '.join(sections)}")
    chosen = {name: section for name, section in sections.items() if not only or name in only}
    found, skipped = _measured(chosen, progress)
    if "overhead" in chosen and not quick and device == "cpu":
        skipped += speed.too_large()
    words = [*([] if device == "cpu" else ["--device", device]), *(["--quick"] if quick else [])]
    words += ["--only", ",".join(only)] if only else []
    return {
        "schema": speed.SCHEMA,
        "quick": quick,
        "device": device,
        "threads": 1,
        **found,
        "skipped": skipped,
        "versions": versions(),
        "hardware": hardware(),
        "command": " ".join(["python -m benchmarks.speed", *words]),
    }


def sections_of(device: str, *, quick: bool, data: Path | str | None = None) -> dict[str, Section]:
    """Return section -> description -> function that measures."""
    cpu = device == "cpu"
    seeds: Sequence[Mapping[str, Any]] = SEEDS_QUICK if quick else SEEDS if cpu else SEEDS_OF_ACCELERATOR
    common: dict[str, Section] = {
        "overhead": _overhead(quick, device),
        "bandwidth_bound": _bandwidth(quick, device),
        "vectorised_seeds": {
            ", ".join(
                filter(None, [one["benchmark"], one["fusion"], *one.get("modalities", ()), one.get("calibrator")])
            ): (partial(many_seeds.measure_seeds, **one, device=device, data=data))
            for one in seeds
        },
    }
    if not cpu:
        return {name: common[name] for name in ("bandwidth_bound", "vectorised_seeds", "overhead")}
    return {
        **common,
        "epoch": {"by route of the data": partial(_epoch, quick)},
        "operators": _of_brief(counts.measure_operators),
        "memory": _of_brief(counts.measure_memory),
        "growth": {
            axis.name: partial(
                growth.measure,
                axis,
                calibrators=("context",) if quick else ("context", "joint"),
                repetitions=3 if quick else 5,
                seconds=0.02 if quick else 0.05,
                clock=time.process_time,
            )
            for axis in growth.AXES
        },
        "rows": {"by the size of the dataset": partial(growth.measure_rows, repetitions=5 if quick else 15)},
    }


def _measured(sections: Mapping[str, Section], progress: speed.Progress | None) -> tuple[dict[str, Any], list[str]]:
    """Return section -> records, and a line per measurement whose data are absent."""
    total, done = sum(len(section) for section in sections.values()), 0
    found: dict[str, Any] = {}
    skipped: list[str] = []
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for name, section in sections.items():
            found[name] = []
            for what, measure in section.items():
                if progress is not None:
                    progress(done, total, f"{name}: {what}")
                try:
                    records = measure()
                except DataError as error:
                    skipped.append(f"{name}, {what} ({error})")
                    records = []
                found[name] += records if isinstance(records, list) else [records]
                done += 1
    finally:
        torch.set_num_threads(threads)
    return found, skipped


def _overhead(quick: bool, device: str) -> Section:
    section: Section = dict(speed.overhead(quick=quick, device=device))
    setting = speed.BRIEF[COMPILED]
    what = f"{COMPILED}, small, {setting.name}, inference"
    eager = section[what]

    def beside() -> list[dict[str, Any]]:
        clock = time.process_time if device == "cpu" else speed.device_clock
        found = compiled.measure(setting, COMPILED, calibrators=speed.NEAREST, device=device, clock=clock)
        return [{**record, **found.get(record["calibrator"], {})} for record in eager()]

    return section if quick else {**section, what: beside}


def _bandwidth(quick: bool, device: str) -> Section:
    cpu, section = device == "cpu", Section()
    shapes = SHAPES if cpu else SHAPES_OF_ACCELERATOR
    # The first shape also masked, and compiled in every mode; on an accelerator all shapes as a graph.
    modes: tuple[str | None, ...] = (None,) if cpu else (None, GRAPH)
    for shape in shapes[:1] if quick else shapes:
        first = shape == shapes[0]
        for masked in (False, True) if first or cpu else (False,):
            how: list[tuple[bool, str | None]] = [(False, None)]
            if not quick:
                how += [(True, mode) for mode in modes if (first and not masked) or mode == GRAPH]
            for by_compiler, mode in how:
                words = [str(shape), *(["masked"] if masked else []), *(["compiled"] if by_compiler else [])]
                section[", ".join([*words, *([mode] if mode else [])])] = partial(
                    bandwidth.measure,
                    shape=shape,
                    masked=masked,
                    compiled=by_compiler,
                    mode=mode,
                    device=device,
                    repetitions=15 if not cpu else 5 if quick else 9,
                    calls=1 if cpu else 20,
                    clock=time.process_time if cpu else speed.device_clock,
                )
    return section


def _epoch(quick: bool) -> list[dict[str, Any]]:
    """Return one record per route."""
    found = data_path.measure(instances=128 if quick else 512, epochs=2 if quick else 7, fusion="lf-dnn")
    return [{"fusion": found["fusion"], "instances": found["instances"], **route} for route in found["routes"]]


def _of_brief(measure: Callable[..., list[dict[str, Any]]]) -> Section:
    return {
        f"{fusion}, {setting.name}": partial(measure, setting, fusion, calibrators=speed.BRIEF_CALIBRATORS)
        for fusion, setting in speed.BRIEF.items()
    }


def main() -> int:
    """Measure, print, and write what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer fusions and repetitions: about two minutes")
    parser.add_argument(
        "--only", default="", metavar="SECTION,...", help=f"some of {', '.join(sections_of('cpu', quick=True))}"
    )
    parser.add_argument(
        "--device", default="cpu", help="cpu, or cuda: it has bandwidth_bound, vectorised_seeds, overhead"
    )
    parser.add_argument("--page", type=Path, help="write a page of Markdown here")
    parser.add_argument("--json", type=Path, help="write the document here")
    parser.add_argument("--data", help="the data folder; default: CONCORDANT_DATA, or ../shared/data")
    given = parser.parse_args()

    def progress(done: int, total: int, what: str) -> None:
        print(f"{done}/{total}  {what}", file=sys.stderr, flush=True)

    only = tuple(filter(None, given.only.split(",")))
    document = measure_all(quick=given.quick, only=only, device=given.device, data=given.data, progress=progress)
    print(page(document))
    if given.page is not None:
        write_text(given.page, page(document))
    if given.json is not None:
        write_json(given.json, document)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ConcordantError as error:
        sys.exit(f"benchmarks.speed: {error}")

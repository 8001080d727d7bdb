"""All measurements of cost in one run: `python -m benchmarks.speed [--quick] [--device cuda] [--only SECTION,...]`.

`--json` writes the document, `--page` a page of Markdown made of it. All numbers are ratios of things that took turns,
since machines are shared. On a CPU one thread computes, timed in processor seconds, which exclude other programs. On an
accelerator the start of an operator costs the host more than the device; there calibrators are also compiled with mode
"reduce-overhead", as one CUDA graph. Sections: whole_step, overhead, bandwidth_bound, vectorised_seeds, epoch,
operators, memory, growth, rows; on an accelerator bandwidth_bound, vectorised_seeds and overhead.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks import bandwidth, compiled, counts, data_path, growth, many_seeds, run
from benchmarks.page import OVERHEADS, page
from concordant import speed
from concordant.errors import UsageError
from concordant.files import write_json, write_text
from concordant.timing import clock_of
from concordant.training.progress import Progress

COMPILED = "lf-dnn"  # bound by the start of operators, which compiling spares
GRAPH = "reduce-overhead"
SHAPES = ((64, 500, 512), (64, 50, 512), (64, 500, 64), (512, 1, 512))
SHAPES_OF_ACCELERATOR = ((64, 500, 512), (256, 500, 512), (64, 50, 512), (64, 500, 64))
# Benchmark, fusion and the other arguments of `measure_seeds`. A step of the transformer takes long enough for the
# ratio to show in twenty; on an accelerator, the fewer steps there are, the more the preparation of a pass weighs.
Seeds = tuple[tuple[str, str, Mapping[str, Any]], ...]
SEEDS: Seeds = (
    ("cmu-mosi-utterance", "lf-dnn", {"repetitions": 2}),
    ("cmu-mosi-utterance", "lf-dnn", {"calibrator": "none"}),
    ("utd-mhad", "transformer", {"steps": 20}),
    ("utd-mhad", "transformer", {"steps": 20, "modalities": ("skeleton", "inertial")}),
)
SEEDS_OF_ACCELERATOR: Seeds = (
    ("cmu-mosi-utterance", "lf-dnn", {"steps": 300}),
    ("utd-mhad", "transformer", {"steps": 100}),
    ("utd-mhad", "mult", {"steps": 60}),
    ("av-digits", "concat", {"steps": 60}),
)
SEEDS_QUICK: Seeds = (("digits", "lf-dnn", {"steps": 60}),)  # part of scikit-learn


def measure_all(
    *,
    quick: bool = False,
    only: Sequence[str] = (),
    device: str = "cpu",
    data: Path | str | None = None,
    progress: Progress | None = None,
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
    sections = sections_of(device, quick=quick, data=data)
    unknown = [name for name in only if name not in sections]
    if unknown:
        raise UsageError(f"unknown section {unknown[0]!r}; choose from: {', '.join(sections)}")
    chosen = {name: section for name, section in sections.items() if not only or name in only}
    how: dict[str, Any] = {"quick": quick, "device": device, "progress": progress}
    document = speed.measure_sections(chosen, "python -m benchmarks.speed", **how)
    document["command"] += f" --only {','.join(only)}" if only else ""
    return document


def sections_of(device: str, *, quick: bool, data: Path | str | None = None) -> dict[str, speed.Section]:
    """Return section -> description -> function that measures."""
    common: dict[str, speed.Section] = {
        "bandwidth_bound": dict(_bandwidth(quick, device)),
        "vectorised_seeds": dict(_seeds(quick, device, data)),
        "overhead": _overhead(quick, device),
    }
    if device != "cpu":
        return common
    return {
        "whole_step": dict(_steps(quick)),
        "overhead": common.pop("overhead"),
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


def _steps(quick: bool) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Yield every whole training step that has a bound; that on vectors also with the calibrator compiled."""
    for _, fusion, setting, limit, _ in OVERHEADS:
        if not quick or fusion in speed.BRIEF:
            how: dict[str, Any] = {"limit": limit, "compiled": fusion == COMPILED, "repetitions": 7 if quick else 15}
            yield f"{fusion}, {setting}", partial(compiled.measure_step, speed.SETTINGS[setting], fusion, **how)


def _overhead(quick: bool, device: str) -> speed.Section:
    section = dict(speed.overhead(quick=quick, device=device))
    setting = speed.BRIEF[COMPILED]
    what = f"{COMPILED}, small, {setting.name}, inference"
    eager = section[what]

    def beside() -> list[dict[str, Any]]:
        how: dict[str, Any] = {"device": device, "clock": clock_of(device)}
        found = compiled.measure(setting, COMPILED, calibrators=speed.NEAREST, **how)
        return [{**record, **found.get(record["calibrator"], {})} for record in eager()]

    return section if quick else {**section, what: beside}


def _bandwidth(quick: bool, device: str) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Yield every shape; the first one also compiled, and on an accelerator all of them as a graph."""
    cpu = device == "cpu"
    shapes = SHAPES if cpu else SHAPES_OF_ACCELERATOR
    repetitions = 15 if not cpu else 5 if quick else 9
    common = {"device": device, "repetitions": repetitions, "calls": 1 if cpu else 20, "clock": clock_of(device)}
    for place, (shape, masked) in enumerate(product(shapes[:1] if quick else shapes, (False, True))):
        if masked and place > 1 and not cpu:
            continue
        ways: list[dict[str, Any]] = [{}]
        ways += [{"compiled": True}] if place == 0 and not quick else []
        ways += [{"compiled": True, "mode": GRAPH}] if not cpu and not quick else []
        for way in ways:
            words = [str(shape), "masked" if masked else "", "compiled" if way else "", way.get("mode", "")]
            how = {"shape": shape, "masked": masked, **way, **common}
            yield ", ".join(filter(None, words)), partial(bandwidth.measure, **how)


def _seeds(quick: bool, device: str, data: Path | str | None) -> Iterator[tuple[str, Callable[[], Any]]]:
    for benchmark, fusion, more in SEEDS_QUICK if quick else SEEDS if device == "cpu" else SEEDS_OF_ACCELERATOR:
        words = (benchmark, fusion, *more.get("modalities", ()), more.get("calibrator"))
        how = {"fusion": fusion, "repetitions": 1, **more, "device": device, "data": data}
        yield ", ".join(filter(None, words)), partial(many_seeds.measure_seeds, benchmark, **how)


def _epoch(quick: bool) -> list[dict[str, Any]]:
    """Return one record per route."""
    found = data_path.measure(instances=128 if quick else 512, epochs=2 if quick else 7, fusion="lf-dnn")
    return [{"fusion": found["fusion"], "instances": found["instances"], **route} for route in found["routes"]]


def _of_brief(measure: Callable[..., list[dict[str, Any]]]) -> speed.Section:
    return {
        f"{fusion}, {setting.name}": partial(measure, setting, fusion, calibrators=speed.BRIEF_CALIBRATORS)
        for fusion, setting in speed.BRIEF.items()
    }


def main(
    quick: Annotated[bool, typer.Option("--quick", help="Fewer fusions and repetitions: about two minutes.")] = False,
    only: Annotated[str, typer.Option(metavar="SECTION,...", help="Some of the sections.")] = "",
    device: Annotated[str, typer.Option(help="cpu, or an accelerator such as cuda.")] = "cpu",
    page_to: Annotated[Path | None, typer.Option("--page", help="Write a page of Markdown here.")] = None,
    json_to: Annotated[Path | None, typer.Option("--json", help="Write the document here.")] = None,
    data: Annotated[str | None, typer.Option(help="Data folder; default: as for `concordant run`.")] = None,
) -> None:
    """Measure, print, and write what is asked for."""

    def progress(done: int, total: int, what: str) -> None:
        print(f"{done}/{total}  {what}", file=sys.stderr, flush=True)

    names = tuple(filter(None, only.split(",")))
    document = measure_all(quick=quick, only=names, device=device, data=data, progress=progress)
    print(page(document))
    if page_to is not None:
        write_text(page_to, page(document))
    if json_to is not None:
        write_json(json_to, document)


if __name__ == "__main__":
    run(main, __doc__)

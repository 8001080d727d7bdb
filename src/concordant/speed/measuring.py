"""The whole of `concordant speed`: every question of cost, measured in one run, as one document.

All numbers are ratios of things that took turns; no single time is worth much, since machines are shared. What one
thread computes is timed in the processor's seconds, which leave out what other programs take meanwhile.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from concordant.errors import DataError, UsageError
from concordant.fusion import FUSIONS
from concordant.speed import accelerator, bandwidth, data_path, growth, memory, operators, overhead, vectorised
from concordant.speed import compiled as compiling
from concordant.training.provenance import hardware, versions

SCHEMA = "concordant.speed/1"
BRIEF_CALIBRATORS = ("none", "self", "joint", "context")
NEAREST = ("none", "joint", "context")
LARGEST = 30_000_000  # parameters; several models of one size are held at once
# Fusion -> the inputs of the quick run, one fusion of each kind; memory and operators are counted on these alone.
BRIEF = {"lf-dnn": overhead.VECTORS, "mult": overhead.UNALIGNED, "concat": overhead.AUDIO_VISUAL}
# Inference of this is timed compiled too: it is bound by the start of operators, which compiling spares.
COMPILED = {"lf-dnn": overhead.VECTORS}
SHAPES = ((64, 500, 512), (64, 50, 512), (64, 500, 64), (512, 1, 512))
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
Progress = Callable[[int, int, str], None]
Section = dict[str, Callable[[], Any]]  # what is measured, in words -> how


def measure_all(
    *,
    quick: bool = False,
    only: Sequence[str] = (),
    device: str = "cpu",
    data: Path | str | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Measure on one thread; return the document.

    Args:
        quick: fewer fusions, calibrators, sizes and repetitions: some two minutes instead of most of an hour.
        only: the sections wanted; empty = all.
        device: "cpu", on one thread, or an accelerator that is there, "cuda" say, where fewer things are measured.
        data: the data folder of the benchmarks that are trained; where they are absent, "skipped" says so.
        progress: called with the finished pieces, all pieces, and what comes next.

    Raises:
        UsageError: a section is unknown; the choices are listed. Or the device is not there.
    """
    if device != "cpu":
        accelerator.check(device)
    sections = _on_cpu(quick, data) if device == "cpu" else accelerator.sections(device, quick=quick, data=data)
    unknown = [name for name in only if name not in sections]
    if unknown:
        raise UsageError(f"unknown section {unknown[0]!r}; choose from: {', '.join(sections)}")
    chosen = {name: section for name, section in sections.items() if not only or name in only}
    found, skipped = _measured(chosen, progress)
    if "overhead" in chosen and not quick and device == "cpu":
        skipped += too_large()
    words = [*(["--quick"] if quick else []), *(["--only", ",".join(only)] if only else [])]
    return {
        "schema": SCHEMA,
        "quick": quick,
        "device": device,
        "threads": 1,
        **found,
        "skipped": skipped,
        "versions": versions(),
        "hardware": hardware(),
        "command": " ".join(["concordant speed", *([] if device == "cpu" else ["--device", device]), *words]),
    }


def _on_cpu(quick: bool, data: Path | str | None) -> dict[str, Section]:
    return {
        "overhead": _overhead(quick),
        "bandwidth_bound": _bandwidth(quick),
        "vectorised_seeds": vectorised.section(SEEDS, quick=quick, data=data),
        "epoch": {"by how its data come": partial(_epoch, quick)},
        "operators": _of_brief(operators.measure),
        "memory": _of_brief(memory.measure),
        "growth": _growth(quick),
        "rows": {"by the size of the dataset": partial(growth.measure_rows, repetitions=5 if quick else 15)},
    }


def _measured(sections: Mapping[str, Section], progress: Progress | None) -> tuple[dict[str, Any], list[str]]:
    """Return section -> its records, and what could not be measured since its data are absent."""
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


def _settings(quick: bool) -> list[tuple[str, overhead.Setting, str, Sequence[str]]]:
    """Return the fusions that are timed, each with its inputs, its preset, and the calibrators.

    Every calibrator stands before the small presets of vectors and sequences; ours and the nearest rival before the
    published sizes, and before ResNet-18, where a turn takes seconds and the preset is a thousandth of the model.
    """
    if quick:
        return [(fusion, setting, "small", BRIEF_CALIBRATORS) for fusion, setting in BRIEF.items()]
    found: list[tuple[str, overhead.Setting, str, Sequence[str]]] = []
    for fusion in FUSIONS:
        setting = overhead.BY_FUSION[FUSIONS[fusion].setting]
        if setting is not overhead.AUDIO_VISUAL:
            found.append((fusion, setting, "small", overhead.fitting(fusion)))
        else:
            found.append((fusion, setting, "small", NEAREST))
            continue
        if overhead.parameters_of(setting, fusion, "paper") <= LARGEST:
            found.append((fusion, setting, "paper", NEAREST))
    return [*found, *(("mult", overhead.UNALIGNED, preset, NEAREST) for preset in ("small", "paper"))]


def too_large() -> list[str]:
    """Return a line for each published size that is not timed."""
    lines = []
    for fusion in FUSIONS:
        count = overhead.parameters_of(overhead.BY_FUSION[FUSIONS[fusion].setting], fusion, "paper")
        if count > LARGEST:
            lines.append(f"overhead, {fusion}, paper (a model of {count / 1e6:.0f} million parameters)")
    return lines


def _overhead(quick: bool) -> Section:
    section: Section = {}
    for fusion, setting, preset, calibrators in _settings(quick):
        for phase in overhead.PHASES:

            def measure(
                fusion: str = fusion,
                setting: overhead.Setting = setting,
                preset: str = preset,
                calibrators: Sequence[str] = calibrators,
                phase: str = phase,
            ) -> list[dict[str, Any]]:
                records = overhead.measure(
                    setting,
                    fusion,
                    preset=preset,
                    calibrators=calibrators,
                    phase=phase,
                    repetitions=5,
                    seconds=0.05,
                    clock=time.process_time,
                )
                found = [one.record() for one in records]
                if not quick and phase == "inference" and preset == "small" and COMPILED.get(fusion) is setting:
                    beside = compiling.measure(setting, fusion, calibrators=NEAREST, clock=time.process_time)
                    found = [{**record, **beside.get(record["calibrator"], {})} for record in found]
                return found

            section[f"{fusion}, {preset}, {setting.name}, {phase}"] = measure
    return section


def _bandwidth(quick: bool) -> Section:
    section: Section = {}
    for shape in SHAPES[:1] if quick else SHAPES:
        for masked in (False, True):
            for compiled in (False,) if quick or masked or shape != SHAPES[0] else (False, True):

                def measure(
                    shape: tuple[int, int, int] = shape, masked: bool = masked, compiled: bool = compiled
                ) -> dict[str, Any]:
                    found = bandwidth.measure(
                        shape=shape,
                        masked=masked,
                        compiled=compiled,
                        repetitions=5 if quick else 9,
                        clock=time.process_time,
                    )
                    return found.record()

                words = [str(shape), *(["masked"] if masked else []), *(["compiled"] if compiled else [])]
                section[", ".join(words)] = measure
    return section


def _epoch(quick: bool) -> list[dict[str, Any]]:
    """Return a record a route, with what was trained."""
    found = data_path.measure(instances=128 if quick else 512, epochs=2 if quick else 7, fusion="lf-dnn")
    return [{"fusion": found["fusion"], "instances": found["instances"], **route} for route in found["routes"]]


def _of_brief(measure: Callable[..., list[dict[str, Any]]]) -> Section:
    return {
        f"{fusion}, {setting.name}": partial(measure, setting, fusion, calibrators=BRIEF_CALIBRATORS)
        for fusion, setting in BRIEF.items()
    }


def _growth(quick: bool) -> Section:
    calibrators = ("context",) if quick else ("context", "joint")
    return {
        axis.name: partial(
            growth.measure,
            axis,
            calibrators=calibrators,
            repetitions=3 if quick else 5,
            seconds=0.02 if quick else 0.05,
            clock=time.process_time,
        )
        for axis in growth.AXES
    }

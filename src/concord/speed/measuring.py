"""The whole of `concord speed`: every question of cost, measured in one run, as one document.

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

from concord.errors import DataError, UsageError
from concord.experiment.surroundings import hardware, versions
from concord.fusion import FUSIONS
from concord.speed import bandwidth, data_path, growth, memory, operators, overhead, vectorised

SCHEMA = "concord.speed/1"
BRIEF_CALIBRATORS = ("none", "self", "joint", "context")
# Fusion -> the inputs of the quick run, one fusion of each kind; memory and operators are counted on these alone.
BRIEF = {"lf-dnn": overhead.VECTORS, "mult": overhead.UNALIGNED, "concat": overhead.AUDIO_VISUAL}
SHAPES = ((64, 500, 512), (64, 50, 512), (64, 500, 64), (512, 1, 512))
SEEDS: tuple[Mapping[str, Any], ...] = (
    {"benchmark": "cmu-mosi-utterance", "fusion": "lf-dnn"},
    {"benchmark": "cmu-mosi-utterance", "fusion": "lf-dnn", "calibrator": "none"},
    {"benchmark": "utd-mhad", "fusion": "transformer", "steps": 40},
    {"benchmark": "utd-mhad", "fusion": "transformer", "steps": 40, "modalities": ("skeleton", "inertial")},
)
Progress = Callable[[int, int, str], None]
Section = dict[str, Callable[[], Any]]  # what is measured, in words -> how


def measure_all(
    *,
    quick: bool = False,
    only: Sequence[str] = (),
    data: Path | str | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Measure on one thread; return the document.

    Args:
        quick: fewer fusions, calibrators, sizes and repetitions: some two minutes instead of most of an hour.
        only: the sections wanted; empty = all.
        data: the data folder of the benchmarks that are trained; where they are absent, "skipped" says so.
        progress: called with the finished pieces, all pieces, and what comes next.

    Raises:
        UsageError: a section is unknown; the choices are listed.
    """
    sections: dict[str, Section] = {
        "overhead": _overhead(quick),
        "bandwidth_bound": _bandwidth(quick),
        "vectorised_seeds": _vectorised(quick, data),
        "epoch": {"by how its data come": partial(_epoch, quick)},
        "operators": _of_brief(operators.measure),
        "memory": _of_brief(memory.measure),
        "growth": _growth(quick),
        "rows": {"by the size of the dataset": partial(growth.measure_rows, repetitions=5 if quick else 15)},
    }
    unknown = [name for name in only if name not in sections]
    if unknown:
        raise UsageError(f"unknown section {unknown[0]!r}; choose from: {', '.join(sections)}")
    chosen = {name: section for name, section in sections.items() if not only or name in only}
    found, skipped = _measured(chosen, progress)
    return {
        "schema": SCHEMA,
        "quick": quick,
        "threads": 1,
        **found,
        "skipped": skipped,
        "versions": versions(),
        "hardware": hardware(),
        "command": " ".join(
            ["concord speed", *(["--quick"] if quick else []), *(["--only", ",".join(only)] if only else [])]
        ),
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


def _settings(quick: bool) -> list[tuple[str, overhead.Setting, str, Sequence[str] | None]]:
    """Return the fusions that are timed, each with its inputs, its preset, and the calibrators (None = all)."""
    if quick:
        return [(fusion, setting, "small", BRIEF_CALIBRATORS) for fusion, setting in BRIEF.items()]
    found: list[tuple[str, overhead.Setting, str, Sequence[str] | None]] = []
    for fusion in FUSIONS:
        setting = overhead.BY_FUSION[FUSIONS[fusion].setting]
        # Behind ResNet-18 a turn takes seconds, and every calibrator is next to nothing.
        rivals = BRIEF_CALIBRATORS if setting is overhead.AUDIO_VISUAL else None
        found += [(fusion, setting, preset, rivals) for preset in ("small", "paper")]
    return [*found, ("mult", overhead.UNALIGNED, "small", None), ("mult", overhead.UNALIGNED, "paper", None)]


def _overhead(quick: bool) -> Section:
    section: Section = {}
    for fusion, setting, preset, calibrators in _settings(quick):
        for phase in overhead.PHASES:

            def measure(
                fusion: str = fusion,
                setting: overhead.Setting = setting,
                preset: str = preset,
                calibrators: Sequence[str] | None = calibrators,
                phase: str = phase,
            ) -> list[dict[str, Any]]:
                records = overhead.measure(
                    setting,
                    fusion,
                    preset=preset,
                    calibrators=calibrators,
                    phase=phase,
                    repetitions=5 if quick else 7,
                    seconds=0.05,
                    clock=time.process_time,
                )
                return [one.record() for one in records]

            section[f"{fusion}, {preset}, {setting.name}, {phase}"] = measure
    return section


def _bandwidth(quick: bool) -> Section:
    section: Section = {}
    for shape in SHAPES[:1] if quick else SHAPES:
        for masked in (False, True):
            for compiled in (False,) if quick or shape != SHAPES[0] else (False, True):

                def measure(
                    shape: tuple[int, int, int] = shape, masked: bool = masked, compiled: bool = compiled
                ) -> dict[str, Any]:
                    found = bandwidth.measure(
                        shape=shape,
                        masked=masked,
                        compiled=compiled,
                        repetitions=5 if quick else 15,
                        clock=time.process_time,
                    )
                    return found.record()

                words = [str(shape), *(["masked"] if masked else []), *(["compiled"] if compiled else [])]
                section[", ".join(words)] = measure
    return section


def _vectorised(quick: bool, data: Path | str | None) -> Section:
    if quick:
        return {"digits": partial(vectorised.measure_seeds, "digits", fusion="lf-dnn", steps=60, repetitions=1)}
    section: Section = {}
    for one in SEEDS:
        words = [
            str(one["benchmark"]),
            str(one["fusion"]),
            *one.get("modalities", ()),
            *one.get("calibrator", "").split(),
        ]
        section[", ".join(words)] = partial(vectorised.measure_seeds, **one, repetitions=3, data=data)
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
            repetitions=3 if quick else 7,
            seconds=0.02 if quick else 0.05,
            clock=time.process_time,
        )
        for axis in growth.AXES
    }

"""What calibration costs on an accelerator, where the start of an operator costs the host more than the device.

Compiled, a model's operators are few; with mode="reduce-overhead" they are started as one CUDA graph. The clock waits
for the device before it is read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from concordant.calibration import fused
from concordant.errors import UsageError
from concordant.fusion import FUSIONS
from concordant.speed import bandwidth, kernels, overhead, vectorised
from concordant.speed import compiled as compiling
from concordant.speed.timing import device_clock

CALIBRATORS = ("none", "joint", "context")
SHAPES = ((64, 500, 512), (256, 500, 512), (64, 50, 512), (64, 500, 64))
GRAPH = "reduce-overhead"
# Compiled or not, the mode of the compiler, and whether with kernels of our own.
HOW: tuple[tuple[bool, str | None, bool], ...] = (
    (False, None, False),
    (True, None, False),
    (True, GRAPH, False),
    (False, None, True),
)
# These are timed compiled too; convolutions are large, and a compiler has little to join.
COMPILED = ("lf-dnn",)
# Hundreds of steps one after another take minutes; the fewer, the more preparing a pass weighs.
SEEDS: tuple[Mapping[str, Any], ...] = (
    {"benchmark": "cmu-mosi-utterance", "fusion": "lf-dnn", "steps": 300, "repetitions": 1},
    {"benchmark": "utd-mhad", "fusion": "transformer", "steps": 100, "repetitions": 1},
    {"benchmark": "utd-mhad", "fusion": "mult", "steps": 60, "repetitions": 1},
    {"benchmark": "av-digits", "fusion": "concat", "steps": 60, "repetitions": 1},
)
Sections = dict[str, dict[str, Callable[[], Any]]]


def check(device: str) -> None:
    """Refuse a device that is not there.

    Raises:
        UsageError: PyTorch sees no such accelerator.
    """
    found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    if found is None or found.type != torch.device(device).type:
        raise UsageError(
            f"--device {device}: PyTorch sees {'no accelerator' if found is None else found.type} here; use cpu"
        )


def sections(device: str, *, quick: bool, data: Path | str | None = None) -> Sections:
    """Return what is measured on an accelerator: section -> in words -> how.

    Args:
        device: "cuda", say.
        quick: fewer fusions, shapes and repetitions.
        data: the data folder of the benchmarks that are trained.
    """
    alone: dict[str, Callable[[], Any]] = {
        "masked" if masked else "whole": partial(kernels.measure, device=device, masked=masked)
        for masked in ((False,) if quick else (False, True))
    }
    tiles: dict[str, Callable[[], Any]] = {} if quick else {"pool": partial(kernels.measure_tiles, device=device)}
    if not fused.HAVE_TRITON or torch.device(device).type not in fused.DEVICES:
        alone, tiles = {}, {}  # there are none on this device
    return {
        "kernels": alone,
        "tiles": tiles,
        "bandwidth_bound": _bandwidth(device, quick),
        "vectorised_seeds": vectorised.section(SEEDS, quick=quick, device=device, data=data),
        "overhead": _overhead(device, quick),
    }


def _overhead(device: str, quick: bool) -> dict[str, Callable[[], Any]]:
    found: dict[str, Callable[[], Any]] = {}
    fusions: Sequence[str] = ("lf-dnn", "concat") if quick else tuple(FUSIONS)
    for fusion in fusions:
        setting = overhead.BY_FUSION[FUSIONS[fusion].setting]
        for phase in overhead.PHASES:
            found[f"{fusion}, small, {setting.name}, {phase}"] = partial(
                _timed, setting, fusion, phase, device, compiled=fusion in COMPILED and not quick
            )
    return found


def _timed(setting: overhead.Setting, fusion: str, phase: str, device: str, *, compiled: bool) -> list[dict[str, Any]]:
    records = overhead.measure(
        setting,
        fusion,
        calibrators=CALIBRATORS,
        phase=phase,
        device=device,
        repetitions=5,
        seconds=0.03,
        clock=device_clock,
    )
    found = [one.record() for one in records]
    if phase == "inference" and compiled:
        beside = compiling.measure(setting, fusion, calibrators=CALIBRATORS, device=device, clock=device_clock)
        found = [{**record, **beside.get(record["calibrator"], {})} for record in found]
    return found


def _bandwidth(device: str, quick: bool) -> dict[str, Callable[[], Any]]:
    found: dict[str, Callable[[], Any]] = {}
    for shape in SHAPES[:1] if quick else SHAPES:
        first = shape == SHAPES[0]
        for masked in (False, True) if first else (False,):
            # Compiled by default too: at the first shape, to see what each brings.
            every = HOW if first and not masked else (HOW[0], HOW[2], HOW[3])
            for compiled, mode, ours in HOW[3:4] if quick else every:
                words = [str(shape), *(["masked"] if masked else []), *(["compiled"] if compiled else [])]
                words += [*([] if mode is None else [mode]), *(["kernels"] if ours else [])]
                found[", ".join(words)] = partial(_bound, shape, masked, compiled, mode, ours, device)
    return found


def _bound(
    shape: tuple[int, int, int], masked: bool, compiled: bool, mode: str | None, ours: bool, device: str
) -> dict[str, Any]:
    try:
        found = bandwidth.measure(
            shape=shape,
            masked=masked,
            compiled=compiled,
            mode=mode,
            device=device,
            kernels=ours,
            repetitions=15,
            calls=20,
            clock=device_clock,
        )
    finally:
        torch.compiler.reset()
    return found.record()

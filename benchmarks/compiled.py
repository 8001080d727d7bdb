"""The cost of a calibrator under torch.compile, and whole training steps at their bounds.

PyTorch takes some microseconds to start an operator; a compiled graph joins small ones, and where a model is bound by
their number, they are most of the cost of a calibrator.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch

from concordant.speed import Setting, batch_of, inference, models_of, training_step
from concordant.timing import Clock, calls_for, interleaved, ratios, spread
from concordant.training.config import Recipe

BASE = "none, as it is"


def measure(
    setting: Setting,
    fusion: str,
    *,
    preset: str = "small",
    calibrators: Sequence[str] = ("none", "joint", "context"),
    device: str = "cpu",
    backend: str | Callable[..., object] = "inductor",
    repetitions: int = 9,
    seconds: float = 0.05,
    clock: Clock = time.perf_counter,
) -> dict[str, dict[str, float]]:
    """Time inference of models that are compiled as a whole, one per calibrator.

    Two bases take turns with them: the model without a calibrator as it is, which shows whether a compiled model with
    one can stand in its place, and the same model compiled.

    Args:
        setting: the inputs.
        fusion: what joins the features.
        preset: sizes of the fusion.
        calibrators: which; "none" is always among them.
        device: where; on an accelerator give `device_clock`.
        backend: of torch.compile; its own needs a C++ compiler.
        repetitions: turns.
        seconds: approximate time of each model per turn.
        clock: see `interleaved`.

    Returns:
        calibrator -> "compiled", its time over that of "none" as it is, with quartiles "compiled_low" and
        "compiled_high"; "compiled_over_none", over that of "none" compiled, with its quartiles; and
        "compiled_milliseconds".
    """
    names = ["none", *(name for name in calibrators if name != "none")]
    batch = batch_of(setting, device)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        plain = models_of(setting, fusion, ["none"], preset=preset, device=device)["none"]
        actions = {BASE: inference(plain, batch)}
        for name, model in models_of(setting, fusion, names, preset=preset, device=device).items():
            model.compile(dynamic=False, backend=backend)
            actions[name] = inference(model, batch)
        times = _timed(actions, BASE, repetitions=repetitions, seconds=seconds, clock=clock)
    return {
        name: {
            **spread("compiled", ratios(times[name], times[BASE])),
            **spread("compiled_over_none", ratios(times[name], times["none"])),
            "compiled_milliseconds": round(1e3 * statistics.median(times[name]), 4),
        }
        for name in names
    }


def measure_step(
    setting: Setting,
    fusion: str,
    *,
    limit: float | None = None,
    compiled: bool = False,
    backend: str | Callable[..., object] = "inductor",
    repetitions: int = 15,
    seconds: float = 0.2,
    clock: Clock = time.process_time,
) -> list[dict[str, Any]]:
    """Time whole training steps with `context` over those with `none`, on the same perturbed batch, in turns.

    Args:
        setting: the inputs.
        fusion: what joins the features, at its small preset.
        limit: the bound on the ratio; None = there is none.
        compiled: also with the calibrator alone compiled.
        backend: of torch.compile.
        repetitions: turns.
        seconds: approximate time of each model per turn.
        clock: see `interleaved`.

    Returns:
        One record per calibrator: "setting", "fusion", "calibrator", "limit", "ratio" with quartiles, "milliseconds".
    """
    batch, recipe = batch_of(setting), Recipe(batch=setting.batch)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        models = models_of(setting, fusion, ["none", "context"])
        if compiled:
            models["context, compiled"] = models_of(setting, fusion, ["context"])["context"]
            models["context, compiled"].calibrator.compile(dynamic=False, backend=backend)
        steps: dict[str, Callable[[], object]] = {
            name: partial(training_step(one, recipe, perturbed=True), batch) for name, one in models.items()
        }
        times = _timed(steps, "none", repetitions=repetitions, seconds=seconds, clock=clock)
    return [
        {
            "setting": setting.name,
            "fusion": fusion,
            "calibrator": name,
            "limit": limit if name == "context" else None,
            **spread("ratio", ratios(own, times["none"])),
            "milliseconds": round(1e3 * statistics.median(own), 4),
        }
        for name, own in times.items()
        if name != "none"
    ]


def _timed(
    actions: dict[str, Callable[[], object]], base: str, *, repetitions: int, seconds: float, clock: Clock
) -> dict[str, list[float]]:
    """Return the times of actions, of which the first call compiles; graphs are dropped before and afterwards."""
    torch.compiler.reset()
    try:
        for action in actions.values():
            action()
        count = calls_for(actions[base], seconds=seconds, clock=clock)
        return interleaved(actions, repetitions=repetitions, calls=count, clock=clock)
    finally:
        torch.compiler.reset()

"""What a calibrator adds to inference that is compiled: by torch.compile, the whole model as one graph.

PyTorch takes some microseconds to start an operator; a compiled graph joins small ones, and where a model is bound by
their number that is most of what a calibrator costs. Two bases: the model without a calibrator as it is, which says
whether a compiled model with one can stand in its place, and the same compiled too.
Shapes: inputs in their layouts, batch first.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence

import torch

from concordant.speed import Setting, calls_for, configure, example_split, inference, interleaved, models_of, ratios
from concordant.training.batches import to_tensors

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
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, dict[str, float]]:
    """Time compiled models in inference, one a calibrator, in turns with the model without one, which is not compiled.

    Args:
        setting: the inputs.
        fusion: what joins the features.
        preset: sizes of the fusion.
        calibrators: which; "none" is always among them.
        device: where; on an accelerator give `device_clock`.
        backend: of torch.compile; its own needs a C++ compiler.
        repetitions: turns.
        seconds: how long each is timed in a turn, about.
        clock: see `interleaved`.

    Returns:
        calibrator -> "compiled", its time over that of "none" as it is, with quartiles "compiled_low" and
        "compiled_high"; "compiled_over_none", over that of "none" compiled, with its quartiles; and
        "compiled_milliseconds".
    """
    names = ["none", *(name for name in calibrators if name != "none")]
    config = configure(setting, fusion, preset)
    batch = to_tensors(example_split(setting, instances=config.recipe.batch)).to(device)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        plain = models_of(setting, config, ["none"])["none"].to(device)
        actions = {BASE: inference(plain, batch)}
        torch.compiler.reset()
        for name, model in models_of(setting, config, names).items():
            model.compile(dynamic=False, backend=backend)
            actions[name] = inference(model.to(device), batch)
        try:
            for action in actions.values():
                action()
            count = calls_for(actions[BASE], seconds=seconds, clock=clock)
            times = interleaved(actions, repetitions=repetitions, calls=count, clock=clock)
        finally:
            torch.compiler.reset()
    return {
        name: {
            **ratios(times[name], times[BASE]).record("compiled"),
            **ratios(times[name], times["none"]).record("compiled_over_none"),
            "compiled_milliseconds": round(1e3 * statistics.median(times[name]), 4),
        }
        for name in names
    }

"""The calibrator alone against the bandwidth of memory: read the features to summarise, read them to scale, write.

A calibrator that returns new features needs these three passes. They are measured in turns with it, as one read of
every feature and one copy of all into newly allocated memory, where every result is; a second bound copies into memory
that was written before. Shapes: features (B, T, D) per modality.
"""

from __future__ import annotations

import statistics
import time
from typing import Any

import torch
from torch import nn

from concordant.rivals import CALIBRATORS
from concordant.timing import Clock, interleaved, ratios, spread


def measure(
    calibrator: str = "context",
    *,
    shape: tuple[int, int, int] = (64, 500, 512),
    modalities: int = 3,
    masked: bool = False,
    compiled: bool = False,
    mode: str | None = None,
    device: str = "cpu",
    repetitions: int = 15,
    calls: int = 1,
    clock: Clock = time.perf_counter,
) -> dict[str, Any]:
    """Time a forward pass in evaluation mode on float32 features, and the bound, in turns; return a record.

    Args:
        calibrator: name of one that needs no classes.
        shape: (B, T, D) of each modality.
        modalities: how many.
        masked: give masks with a quarter of the steps padded.
        compiled: run it with torch.compile.
        mode: of torch.compile; None = its default.
        device: where; on an accelerator give `device_clock`.
        repetitions: turns.
        calls: in each turn.
        clock: see `interleaved`.
    """
    draws = torch.Generator().manual_seed(0)
    names = [f"m{number}" for number in range(modalities)]
    features = {name: torch.randn(shape, generator=draws).to(device) for name in names}
    masks = {}
    if masked:
        lengths = torch.randint(shape[1] // 2, shape[1] + 1, (shape[0], 1), generator=draws)
        masks = {name: (torch.arange(shape[1]) < lengths).to(device) for name in names}
    built: nn.Module = CALIBRATORS[calibrator].build(dict.fromkeys(names, shape[2]), layouts="btd").eval().to(device)
    run = torch.compile(built, mode=mode, dynamic=False) if compiled else built
    warm = {name: x.clone() for name, x in features.items()}

    def calibrate() -> None:
        with torch.inference_mode():
            run(features, masks)

    try:
        times = interleaved(
            {
                "calibrator": calibrate,
                "read": lambda: [x.sum() for x in features.values()],
                "copy": lambda: [x.clone() for x in features.values()],  # all held at once, like a calibrator's results
                "warm copy": lambda: [warm[name].copy_(x) for name, x in features.items()],
            },
            repetitions=repetitions,
            calls=calls,
            clock=clock,
        )
    finally:
        torch.compiler.reset()
    bound, warm_bound = (
        [one + two for one, two in zip(times["read"], times[copy], strict=True)] for copy in ("copy", "warm copy")
    )
    taken = statistics.median(times["calibrator"])
    return {
        "calibrator": calibrator,
        "shape": list(shape),
        "modalities": modalities,
        "masked": masked,
        "compiled": compiled,
        **({} if mode is None else {"mode": mode}),
        **({} if device == "cpu" else {"device": device}),
        **spread("ratio", ratios(times["calibrator"], bound)),
        **spread("warm_ratio", ratios(times["calibrator"], warm_bound)),
        "milliseconds": round(1e3 * taken, 3),
        "bound_milliseconds": round(1e3 * statistics.median(bound), 3),
        "nanoseconds_a_byte": round(1e9 * taken / (modalities * 4 * shape[0] * shape[1] * shape[2]), 4),
    }

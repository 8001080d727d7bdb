"""The calibrator alone against what memory allows: read the features to summarise, read them to scale, write.

No calibrator that returns new features can do with less than these three passes. They are measured on the same
machine, in the same turns: one read of every feature, and one copy of all into memory that is new each time, as
every result is. Beside it stands the same bound with copies into memory that was written before.
Shapes: features (B, T, D) a modality.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn

from concordant.calibration import fused
from concordant.rivals import CALIBRATORS
from concordant.speed.timing import Spread, interleaved, ratios, spread


@dataclass(frozen=True)
class Bandwidth:
    """What a calibrator takes on features of one shape.

    Args:
        calibrator: name.
        shape: (B, T, D).
        modalities: how many, each of that shape.
        masked: a quarter of the steps is padding.
        compiled: run by torch.compile.
        ratio: its time over the three-pass bound, turn by turn.
        warm_ratio: over the bound with copies into memory that was written before.
        seconds: its time.
        bound: the bound's.
        mode: of torch.compile; None = its default.
        device: where.
        kernels: with those of `concordant.calibration.kernels`, where the device has them.
    """

    calibrator: str
    shape: tuple[int, int, int]
    modalities: int
    masked: bool
    compiled: bool
    ratio: Spread
    warm_ratio: Spread
    seconds: Spread
    bound: Spread
    mode: str | None = None
    device: str = "cpu"
    kernels: bool = True

    def record(self) -> dict[str, Any]:
        """Return it as a dictionary, for a file."""
        size = self.modalities * 4 * self.shape[0] * self.shape[1] * self.shape[2]
        return {
            "calibrator": self.calibrator,
            "shape": list(self.shape),
            "modalities": self.modalities,
            "masked": self.masked,
            "compiled": self.compiled,
            **({} if self.mode is None else {"mode": self.mode}),
            **({} if self.device == "cpu" else {"device": self.device, "kernels": self.kernels}),
            **self.ratio.record("ratio"),
            **self.warm_ratio.record("warm_ratio"),
            "milliseconds": round(1e3 * self.seconds.median, 3),
            "bound_milliseconds": round(1e3 * self.bound.median, 3),
            "nanoseconds_a_byte": round(1e9 * self.seconds.median / size, 4),
        }


def measure(
    calibrator: str = "context",
    *,
    shape: tuple[int, int, int] = (64, 500, 512),
    modalities: int = 3,
    masked: bool = False,
    compiled: bool = False,
    mode: str | None = None,
    device: str = "cpu",
    kernels: bool = True,
    repetitions: int = 15,
    calls: int = 1,
    clock: Callable[[], float] = time.perf_counter,
) -> Bandwidth:
    """Time a calibrator's forward in evaluation mode on float32 features, and the bound, in turns.

    Args:
        calibrator: name, of one that needs no classes.
        shape: (B, T, D) of each modality.
        modalities: how many.
        masked: give masks, with a quarter of the steps padded.
        compiled: run it by torch.compile.
        mode: of torch.compile; None = its default.
        device: where; on an accelerator give `device_clock`.
        kernels: use those of `concordant.calibration.kernels`, where the device has them.
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
    built: nn.Module = CALIBRATORS[calibrator].build(dict.fromkeys(names, shape[2]), layouts="btd").eval()
    built = built.to(device)
    run = torch.compile(built, mode=mode, dynamic=False) if compiled else built
    warm = {name: x.clone() for name, x in features.items()}

    def calibrate() -> None:
        with torch.inference_mode():
            run(features, masks)

    with patch.object(fused, "DEVICES", fused.DEVICES if kernels else ()):
        times = interleaved(
            {
                "calibrator": calibrate,
                "read": lambda: [x.sum() for x in features.values()],
                "copy": lambda: _copies(features),
                "warm copy": lambda: [warm[name].copy_(x) for name, x in features.items()],
            },
            repetitions=repetitions,
            calls=calls,
            clock=clock,
        )
    bound = [one + two for one, two in zip(times["read"], times["copy"], strict=True)]
    warm_bound = [one + two for one, two in zip(times["read"], times["warm copy"], strict=True)]
    mine = times["calibrator"]
    return Bandwidth(
        calibrator,
        shape,
        modalities,
        masked,
        compiled,
        ratios(mine, bound),
        ratios(mine, warm_bound),
        spread(mine),
        spread(bound),
        mode,
        device,
        kernels,
    )


def _copies(features: dict[str, Tensor]) -> list[Tensor]:
    """Return copies of all at once, as a calibrator's results are there at once."""
    return [x.clone() for x in features.values()]

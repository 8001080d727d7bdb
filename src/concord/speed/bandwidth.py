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

import torch
from torch import Tensor, nn

from concord.rivals import CALIBRATORS
from concord.speed.timing import Spread, interleaved, ratios, spread


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

    def record(self) -> dict[str, Any]:
        """Return it as a dictionary, for a file."""
        size = self.modalities * 4 * self.shape[0] * self.shape[1] * self.shape[2]
        return {
            "calibrator": self.calibrator,
            "shape": list(self.shape),
            "modalities": self.modalities,
            "masked": self.masked,
            "compiled": self.compiled,
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
    repetitions: int = 15,
    clock: Callable[[], float] = time.perf_counter,
) -> Bandwidth:
    """Time a calibrator's forward in evaluation mode on float32 features, and the bound, in turns.

    Args:
        calibrator: name, of one that needs no classes.
        shape: (B, T, D) of each modality.
        modalities: how many.
        masked: give masks, with a quarter of the steps padded.
        compiled: run it by torch.compile.
        repetitions: turns.
        clock: see `interleaved`.
    """
    draws = torch.Generator().manual_seed(0)
    names = [f"m{number}" for number in range(modalities)]
    features = {name: torch.randn(shape, generator=draws) for name in names}
    masks = {}
    if masked:
        lengths = torch.randint(shape[1] // 2, shape[1] + 1, (shape[0], 1), generator=draws)
        masks = {name: torch.arange(shape[1]) < lengths for name in names}
    built: nn.Module = CALIBRATORS[calibrator].build(dict.fromkeys(names, shape[2]), layouts="btd").eval()
    run = torch.compile(built) if compiled else built
    warm = {name: x.clone() for name, x in features.items()}

    def calibrate() -> None:
        with torch.inference_mode():
            run(features, masks)

    times = interleaved(
        {
            "calibrator": calibrate,
            "read": lambda: [x.sum() for x in features.values()],
            "copy": lambda: _copies(features),
            "warm copy": lambda: [warm[name].copy_(x) for name, x in features.items()],
        },
        repetitions=repetitions,
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
    )


def _copies(features: dict[str, Tensor]) -> list[Tensor]:
    """Return copies of all at once, as a calibrator's results are there at once."""
    return [x.clone() for x in features.values()]

"""Each kernel of `concordant.calibration.kernels` alone, and the plain operations it stands in for, against memory.

The bound of each is measured beside it: reads of what it must read and one copy for what it reads and writes.
Shapes: features (B, T, D).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from concordant.calibration import fused
from concordant.calibration.fused import pool_gradient, scale_gradients
from concordant.calibration.pooling import pooled_in_blocks
from concordant.speed.timing import device_clock, interleaved, ratios

# Numbers of a tile, its features, warps and tiles ahead; the first is what `kernels.pool` does.
TILES = (
    (4096, 64, 2, 3),
    (4096, 64, 2, 1),
    (4096, 64, 4, 3),
    (2048, 64, 2, 3),
    (2048, 64, 1, 3),
    (2048, 32, 2, 3),
    (4096, 32, 4, 3),
    (8192, 64, 4, 3),
)
Actions = dict[str, Callable[[], object]]


def measure(
    *,
    device: str,
    shape: tuple[int, int, int] = (256, 500, 512),
    masked: bool = False,
    repetitions: int = 15,
    calls: int = 20,
    clock: Callable[[], float] = device_clock,
) -> list[dict[str, Any]]:
    """Time every kernel, its plain operations and its bound, in turns; return a record a kernel.

    Args:
        device: one that kernels take.
        shape: of the features; large, so that the device is never idle.
        masked: a quarter of the steps is padding.
        repetitions: turns.
        calls: in each turn.
        clock: see `interleaved`.
    """
    from concordant.calibration import kernels

    draws = torch.Generator().manual_seed(0)
    x, above = (torch.randn(shape, generator=draws).to(device) for _ in range(2))
    factor = torch.rand(shape[0], shape[2], generator=draws).to(device)
    valid = None
    if masked:
        lengths = torch.randint(shape[1] // 2, shape[1] + 1, (shape[0], 1), generator=draws)
        valid = (torch.arange(shape[1]) < lengths).to(device)
    keep = None if valid is None else valid.unsqueeze(2)
    result, _ = kernels.pool(x, valid, fused.SMALLEST_VARIANCE)
    of_result = torch.rand_like(result)

    def plainly_scaled() -> Tensor:
        by = factor.unsqueeze(1)
        return x * by if keep is None else torch.where(keep, x * by, torch.nan_to_num(x))

    both: dict[str, tuple[Callable[[], object], Callable[[], object], Callable[[], object]]] = {
        "pool": (
            lambda: kernels.pool(x, valid, fused.SMALLEST_VARIANCE),
            lambda: (pooled_in_blocks(x, valid), torch.isfinite(x).flatten(1).all(1)),
            x.sum,
        ),
        "scale": (lambda: kernels.scale(x, factor, valid), plainly_scaled, x.clone),
        "pool, backward": (
            lambda: kernels.pool_backward(x, valid, result, of_result),
            lambda: pool_gradient(of_result, x, valid, result),
            x.clone,
        ),
        "scale, backward": (
            lambda: kernels.scale_backward(above, x, factor, valid, for_x=True),
            lambda: scale_gradients(above, x, factor.unsqueeze(1), keep),
            lambda: (above.sum(), x.clone()),
        ),
    }
    found = []
    for name, (kernel, plain, bound) in both.items():
        actions: Actions = {"kernel": kernel, "plain": plain, "bound": bound}
        with torch.no_grad():
            times = interleaved(actions, repetitions=repetitions, calls=calls, clock=clock)
        found.append(
            {
                "kernel": name,
                "shape": list(shape),
                "masked": masked,
                "device": device,
                **ratios(times["kernel"], times["bound"]).record("ratio"),
                **ratios(times["plain"], times["bound"]).record("plain_ratio"),
            }
        )
    return found


def measure_tiles(
    *,
    device: str,
    shape: tuple[int, int, int] = (256, 500, 512),
    repetitions: int = 5,
    clock: Callable[[], float] = device_clock,
) -> list[dict[str, Any]]:
    """Time the kernel that summarises over one read, with tiles of several sizes; return a record a size.

    Args:
        device: one that kernels take.
        shape: of the features.
        repetitions: turns.
        clock: see `interleaved`.
    """
    from concordant.calibration import kernels

    draws = torch.Generator().manual_seed(0)
    x = torch.randn(shape, generator=draws).to(device)
    masks = (None, (torch.rand(shape[:2], generator=draws) < 0.75).to(device))
    found = []
    for tile, columns, warps, ahead in TILES:
        record: dict[str, Any] = {"tile": tile, "columns": columns, "warps": warps, "ahead": ahead, "device": device}
        for valid, field in zip(masks, ("ratio", "masked_ratio"), strict=True):

            def kernel(valid: Tensor | None = valid, **how: int) -> object:
                return kernels.pool(x, valid, fused.SMALLEST_VARIANCE, **how)

            action = partial(kernel, tile=tile, columns=columns, warps=warps, ahead=ahead)
            with torch.no_grad():
                actions: Actions = {"kernel": action, "bound": x.sum}
                times = interleaved(actions, repetitions=repetitions, calls=10, clock=clock)
            record |= ratios(times["kernel"], times["bound"]).record(field)
        found.append(record)
    return found

"""Kernels for NVIDIA GPUs, in Triton: each reads what it needs from memory once and writes its result once.

They compute what `pooling` and `scaling` compute in plain operations, which remain the reference and serve every other
device; `concordant.calibration.fused` says where these stand in. The deviation and the check on NaN come of the read
that gives the mean.
Shapes: x (B, L, D) in any strides, valid (B, L) or (B, 1), factor (B, D).
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

TILE = 4096  # numbers of a tile: 32 for each thread of a block or more, all on their way at once
COLUMNS = 64  # features of a tile at the most
WARPS = 4
POOL_WARPS = 2  # to sum up over steps threads have to be joined, the fewer the quicker
AHEAD = 3  # tiles that are on their way while one is summarised
LARGE = 1 << 24  # numbers; to start a kernel of ours costs the host more than to start PyTorch's


@triton.jit
def _pool(
    x,
    valid,
    out,
    finite,
    length,
    width,
    by_b,
    by_l,
    by_d,
    valid_b,
    valid_l,
    floor,
    MASKED: tl.constexpr,
    TILE_L: tl.constexpr,
    TILE_D: tl.constexpr,
    AHEAD: tl.constexpr,
):
    """Mean and deviation of one instance and TILE_D features, and whether all of them are finite.

    Tiles are joined by the formula of Chan, Golub and LeVeque (1979), so that large offsets cost no digits.
    """
    part, row = tl.program_id(0), tl.program_id(1).to(tl.int64)
    columns = part * TILE_D + tl.arange(0, TILE_D)
    inside = columns < width
    mean = tl.zeros([TILE_D], tl.float32)
    squares = tl.zeros([TILE_D], tl.float32)
    count = 0.0
    every = tl.full([TILE_D], 1, tl.int32)
    for start in tl.range(0, length, TILE_L, num_stages=AHEAD):
        steps = start + tl.arange(0, TILE_L)
        keep = steps < length
        if MASKED:
            keep = keep & (tl.load(valid + row * valid_b + steps * valid_l, mask=keep, other=0) != 0)
        both = keep[:, None] & inside[None, :]
        place = row * by_b + steps[:, None].to(tl.int64) * by_l + columns[None, :].to(tl.int64) * by_d
        value = tl.load(x + place, mask=both, other=0.0).to(tl.float32)
        every = every & tl.min((tl.abs(value) < float("inf")).to(tl.int32), 0)
        new = tl.sum(keep.to(tl.float32), 0)
        center = tl.sum(value, 0) / tl.maximum(new, 1.0)
        away = tl.where(both, value - center[None, :], 0.0)
        total = count + new
        share = new / tl.maximum(total, 1.0)
        apart = center - mean
        mean += apart * share
        squares += tl.sum(away * away, 0) + apart * apart * (count * share)
        count = total
    row_out = out + row * 2 * width
    tl.store(row_out + columns, mean, mask=inside)
    tl.store(row_out + width + columns, tl.sqrt_rn(squares / tl.maximum(count, 1.0) + floor), mask=inside)
    tl.store(finite + row * tl.num_programs(0) + part, tl.min(every, 0))


@triton.jit
def _pool_back(
    x,
    valid,
    result,
    to_result,
    into,
    length,
    width,
    by_b,
    by_l,
    by_d,
    into_b,
    into_l,
    into_d,
    valid_b,
    valid_l,
    MASKED: tl.constexpr,
    TILE_L: tl.constexpr,
    TILE_D: tl.constexpr,
):
    """The gradient of one instance and TILE_D features from those of mean and deviation."""
    part, row = tl.program_id(0), tl.program_id(1).to(tl.int64)
    columns = part * TILE_D + tl.arange(0, TILE_D)
    inside = columns < width
    count = length * 1.0
    if MASKED:
        count = 0.0
        for start in range(0, length, TILE_L):
            steps = start + tl.arange(0, TILE_L)
            keep = tl.load(valid + row * valid_b + steps * valid_l, mask=steps < length, other=0) != 0
            count += tl.sum(keep.to(tl.float32), 0)
        count = tl.maximum(count, 1.0)
    above, base = to_result + row * 2 * width, result + row * 2 * width
    mean = tl.load(base + columns, mask=inside, other=0.0)
    deviation = tl.load(base + width + columns, mask=inside, other=1.0)
    to_mean = tl.load(above + columns, mask=inside, other=0.0) / count
    slope = tl.load(above + width + columns, mask=inside, other=0.0) / (deviation * count)
    for start in range(0, length, TILE_L):
        steps = start + tl.arange(0, TILE_L)
        here = steps < length
        keep = here
        if MASKED:
            keep = here & (tl.load(valid + row * valid_b + steps * valid_l, mask=here, other=0) != 0)
        both = keep[:, None] & inside[None, :]
        long, wide = steps[:, None].to(tl.int64), columns[None, :].to(tl.int64)
        value = tl.load(x + row * by_b + long * by_l + wide * by_d, mask=both, other=0.0).to(tl.float32)
        gradient = tl.where(both, (value - mean[None, :]) * slope[None, :] + to_mean[None, :], 0.0)
        place = into + row * into_b + long * into_l + wide * into_d
        tl.store(place, gradient, mask=here[:, None] & inside[None, :])


@triton.jit
def _scale(
    x,
    factor,
    valid,
    into,
    length,
    width,
    by_b,
    by_l,
    by_d,
    into_b,
    into_l,
    into_d,
    valid_b,
    valid_l,
    MASKED: tl.constexpr,
    TILE_L: tl.constexpr,
    TILE_D: tl.constexpr,
):
    """One tile times its factors; what is not valid passes as it is, but for NaN and infinity."""
    part, row, block = tl.program_id(0), tl.program_id(1).to(tl.int64), tl.program_id(2)
    columns = part * TILE_D + tl.arange(0, TILE_D)
    steps = block * TILE_L + tl.arange(0, TILE_L)
    inside, here = columns < width, steps < length
    both = here[:, None] & inside[None, :]
    by = tl.load(factor + row * width + columns, mask=inside, other=1.0).to(tl.float32)
    long, wide = steps[:, None].to(tl.int64), columns[None, :].to(tl.int64)
    value = tl.load(x + row * by_b + long * by_l + wide * by_d, mask=both, other=0.0).to(tl.float32)
    scaled = value * by[None, :]
    if MASKED:
        keep = tl.load(valid + row * valid_b + steps * valid_l, mask=here, other=0) != 0
        passed = tl.where(tl.abs(value) < float("inf"), value, 0.0)
        scaled = tl.where(keep[:, None], scaled, passed)
    tl.store(into + row * into_b + long * into_l + wide * into_d, scaled, mask=both)


@triton.jit
def _scale_back(
    above,
    x,
    factor,
    valid,
    to_x,
    to_factor,
    length,
    width,
    above_b,
    above_l,
    above_d,
    by_b,
    by_l,
    by_d,
    into_b,
    into_l,
    into_d,
    valid_b,
    valid_l,
    MASKED: tl.constexpr,
    FOR_X: tl.constexpr,
    TILE_L: tl.constexpr,
    TILE_D: tl.constexpr,
):
    """Both gradients of one instance and TILE_D features."""
    part, row = tl.program_id(0), tl.program_id(1).to(tl.int64)
    columns = part * TILE_D + tl.arange(0, TILE_D)
    inside = columns < width
    by = tl.load(factor + row * width + columns, mask=inside, other=1.0).to(tl.float32)
    total = tl.zeros([TILE_D], tl.float32)
    for start in range(0, length, TILE_L):
        steps = start + tl.arange(0, TILE_L)
        here = steps < length
        both = here[:, None] & inside[None, :]
        long, wide = steps[:, None].to(tl.int64), columns[None, :].to(tl.int64)
        value = tl.load(x + row * by_b + long * by_l + wide * by_d, mask=both, other=0.0).to(tl.float32)
        gradient = tl.load(above + row * above_b + long * above_l + wide * above_d, mask=both, other=0.0)
        gradient = gradient.to(tl.float32)
        product, passed = gradient * value, gradient * by[None, :]
        if MASKED:
            keep = (tl.load(valid + row * valid_b + steps * valid_l, mask=here, other=0) != 0)[:, None]
            product = tl.where(keep, product, 0.0)
            passed = tl.where(keep, passed, tl.where(tl.abs(value) < float("inf"), gradient, 0.0))
        total += tl.sum(product, 0)
        if FOR_X:
            tl.store(to_x + row * into_b + long * into_l + wide * into_d, passed, mask=both)
    tl.store(to_factor + row * width + columns, total, mask=inside)


def pool(
    x: Tensor,
    valid: Tensor | None,
    floor: float,
    *,
    tile: int = TILE,
    columns: int = COLUMNS,
    warps: int = POOL_WARPS,
    ahead: int = AHEAD,
) -> tuple[Tensor, Tensor]:
    """Return mean and deviation over valid positions (B, 2D), and bool (B,): all that is valid is finite.

    Args:
        x: (B, L, D), float32, float16 or bfloat16, in any strides.
        valid: bool (B, L) or (B, 1); None = all.
        floor: added to variances.
        tile: numbers of a tile.
        columns: features of a tile at the most.
        warps: threads that share a tile, in units of 32.
        ahead: tiles that are on their way while one is summarised.
    """
    size, length, width = x.shape
    tiles = {**_tiles(x, tile, columns), "num_warps": warps}
    many = triton.cdiv(width, tiles["TILE_D"])
    out = torch.empty((size, 2 * width), dtype=torch.float32, device=x.device)
    finite = torch.empty((size, many), dtype=torch.int32, device=x.device)
    if size:
        _pool[(many, size)](
            x, _or(valid, x), out, finite, length, width, *x.stride(), *_strides(valid), floor,
            MASKED=valid is not None, AHEAD=ahead, **tiles,
        )  # fmt: skip
    return out, finite.all(1)


def pool_backward(x: Tensor, valid: Tensor | None, result: Tensor, gradient: Tensor) -> Tensor:
    """Return the gradient of x from that of what `pool` returned."""
    size, length, width = x.shape
    into = torch.empty_like(x)
    if size:
        _pool_back[(_parts(x), size)](
            x, _or(valid, x), result, gradient.contiguous(), into, length, width,
            *x.stride(), *into.stride(), *_strides(valid), MASKED=valid is not None, **_tiles(x),
        )  # fmt: skip
    return into


def scale(x: Tensor, factor: Tensor, valid: Tensor | None) -> Tensor:
    """Return x times factor where it is valid, and x elsewhere, there with 0 for NaN and infinity.

    Args:
        x: as for `pool`.
        factor: (B, D).
        valid: as for `pool`.
    """
    if valid is None and x.numel() < LARGE:  # PyTorch's own reads and writes once as well
        return x * factor.unsqueeze(1)
    size, length, width = x.shape
    into = torch.empty_like(x)
    if x.numel():
        tiles = _tiles(x)
        blocks = triton.cdiv(length, tiles["TILE_L"])
        _scale[(_parts(x), size, blocks)](
            x, factor.contiguous(), _or(valid, x), into, length, width, *x.stride(), *into.stride(), *_strides(valid),
            MASKED=valid is not None, **tiles,
        )  # fmt: skip
    return into


def scale_backward(
    gradient: Tensor, x: Tensor, factor: Tensor, valid: Tensor | None, *, for_x: bool
) -> tuple[Tensor | None, Tensor]:
    """Return the gradients of x, if it is wanted, and of factor."""
    size, length, width = x.shape
    to_x = torch.empty_like(x) if for_x else None
    to_factor = torch.empty((size, width), dtype=factor.dtype, device=x.device)
    if size:
        target = x if to_x is None else to_x
        _scale_back[(_parts(x), size)](
            gradient, x, factor.contiguous(), _or(valid, x), target, to_factor, length, width,
            *gradient.stride(), *x.stride(), *target.stride(), *_strides(valid),
            MASKED=valid is not None, FOR_X=for_x, **_tiles(x),
        )  # fmt: skip
    return to_x, to_factor


def _tiles(x: Tensor, tile: int = TILE, columns: int = COLUMNS) -> dict[str, int]:
    """Return the sides of a tile, long where memory is contiguous, and how many warps work on it."""
    _, length, width = x.shape
    if x.stride(2) == 1 or length == 1:
        wide = min(columns, triton.next_power_of_2(max(width, 1)))
        long = min(tile // wide, triton.next_power_of_2(max(length, 1)))
    else:
        long = min(256, triton.next_power_of_2(max(length, 1)))
        wide = min(tile // long, 16, triton.next_power_of_2(max(width, 1)))
    return {"TILE_L": long, "TILE_D": wide, "num_warps": WARPS}


def _parts(x: Tensor) -> int:
    parts: int = triton.cdiv(x.shape[2], _tiles(x)["TILE_D"])
    return parts


def _or(valid: Tensor | None, x: Tensor) -> Tensor:
    """Return something to point at where nothing is masked."""
    return x if valid is None else valid


def _strides(valid: Tensor | None) -> tuple[int, int]:
    """Return the strides of valid; a column of presence is the same at every position."""
    if valid is None:
        return 0, 0
    return valid.stride(0), valid.stride(1) if valid.shape[1] > 1 else 0

"""NumPy files: `.npy` arrays and `.npz` archives of numbers and text.

Headers are read as text, not as Python, and sizes are compared with the bytes at hand before anything is reserved.
"""

from __future__ import annotations

import math
import re
import zipfile
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from concordant.errors import DataError
from concordant.files import check_size, reading

Array = NDArray[Any]

_LONGEST = 10_000  # bytes of a header, as in NumPy
_TYPE = re.compile(r"['\"]descr['\"]\s*:\s*['\"]([<>|=]?[?biufcSU]\d{0,9})['\"]")
_ORDER = re.compile(r"['\"]fortran_order['\"]\s*:\s*(True|False)")
_SHAPE = re.compile(r"['\"]shape['\"]\s*:\s*\(([\dL,\s]*)\)")


class _Header(NamedTuple):
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    order: str
    length: int  # bytes before the values

    @property
    def bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def read_npy(path: Path) -> Array:
    """Map an array into memory, read-only.

    Raises:
        DataError: the file is no array of numbers or text, or is truncated.
    """
    with reading(path, "a NumPy array") as size:
        with path.open("rb") as opened:
            header = _read_header(opened, size)
        if not header.bytes:
            return np.zeros(header.shape, header.dtype)
        mapped = np.memmap(path, np.uint8, "r", header.length, (header.bytes,))
        return _typed(mapped, header)


def read_npz(path: Path, what: str = "NumPy arrays", wanted: Collection[str] | None = None) -> dict[str, Array]:
    """Read arrays of an archive, all or those `wanted`; `what` names the content in errors.

    Raises:
        DataError: the file is a single array or no archive, lacks an array, is damaged or encrypted, holds something
            else than numbers and text, or unpacks to more than CONCORDANT_LIMIT allows.
    """
    with reading(path, what) as size:
        with path.open("rb") as opened:
            if opened.read(6) == np.lib.format.MAGIC_PREFIX:
                raise DataError(f"{path} must be a NumPy archive (.npz); found a single array")
        with zipfile.ZipFile(path) as archive:
            members = {one.filename.removesuffix(".npy"): one for one in archive.infolist()}
            found = ", ".join(members) or "none"
            missing = [name for name in wanted or () if name not in members]
            if missing:
                raise DataError(f"{path} has no array {', '.join(missing)}; found {found}; is it another file?")
            if len(members) < len(archive.infolist()):
                raise DataError(f"{path} holds two arrays of one name; found {found}")
            chosen = {name: members[name] for name in (members if wanted is None else wanted)}
            check_size(str(path), sum(one.file_size for one in chosen.values()), size)
            return {name: _read_member(archive, one, f"{path}: {name}") for name, one in chosen.items()}


def has_shape(shape: tuple[int, ...], wanted: Sequence[int | None]) -> bool:
    """Return whether a shape is the wanted one, without a size of 0; None stands for any size."""
    return len(shape) == len(wanted) and all(
        has and size in (None, has) for size, has in zip(wanted, shape, strict=True)
    )


def check_text(dtype: np.dtype[Any], raw: Any) -> None:  # noqa: ANN401 - anything with bytes
    """Refuse text whose code points are no characters.

    Raises:
        ValueError: it holds one.
    """
    if dtype.kind == "U":
        codes = np.frombuffer(raw, f"{'>' if dtype.str[0] == '>' else '<'}u4")
        if ((codes > 0x10FFFF) | ((codes >= 0xD800) & (codes <= 0xDFFF))).any():
            raise ValueError("an array of text holds code points that are no characters")


def _read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, where: str) -> Array:
    with archive.open(info) as opened:
        if not info.filename.endswith(".npy"):
            raise DataError(f"{where} must be an array; found another kind of file")
        header = _read_header(opened, info.file_size)
        raw = np.empty(header.bytes, np.uint8)
        place = 0
        while chunk := opened.read(1 << 20):
            raw[place : place + len(chunk)] = np.frombuffer(chunk, np.uint8)
            place += len(chunk)
    return _typed(raw, header)


def _typed(raw: NDArray[np.uint8], header: _Header) -> Array:
    """Return bytes as values."""
    check_text(header.dtype, raw)
    # A byte of a truth value may be anything but 0 and 1 in a file.
    values = raw != 0 if header.dtype.kind == "b" else raw.view(header.dtype)
    return values.reshape(header.shape, order="F" if header.order == "True" else "C")


def _read_header(opened: IO[bytes], size: int) -> _Header:
    """Return the header of an array that fills the rest of a file.

    Raises:
        ValueError: it is none, or announces another number of bytes than there are.
    """
    start = opened.read(8)
    if start[:6] != np.lib.format.MAGIC_PREFIX or start[6:] not in (b"\1\0", b"\2\0", b"\3\0"):
        raise ValueError("it must be an array; found no header of NumPy")
    width = 2 if start[6] == 1 else 4
    length = int.from_bytes(opened.read(width), "little")
    if length > _LONGEST:
        raise ValueError(f"its header has {length} bytes; at most {_LONGEST} are read")
    text = opened.read(length).decode("latin1")
    kind, order, shape = (pattern.search(text) for pattern in (_TYPE, _ORDER, _SHAPE))
    if kind is None and "descr" in text:
        raise ValueError("Object arrays, dates and records cannot be loaded: save numbers or text")
    if kind is None or order is None or shape is None:
        raise ValueError("its header does not give type, order and shape")
    sizes = tuple(int(one.strip().rstrip("L")) for one in shape[1].split(",") if one.strip())
    header = _Header(np.dtype(kind[1]), sizes, order[1], 8 + width + length)
    if header.length + header.bytes != size or header.dtype.itemsize == 0:
        there = f"{header.bytes} bytes, of {max(0, size - header.length)}"
        raise ValueError(f"its header announces {header.dtype} {sizes}, {there}")
    return header

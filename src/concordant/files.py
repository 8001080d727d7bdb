"""Writing files so that a reader never meets a half-written one: a temporary name first, then a rename."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from concordant.errors import DataError


def write_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a temporary file beside `path`, then put it in the place of `path`.

    The temporary name keeps the suffix, by which some writers choose a format.

    Raises:
        OSError: it cannot be written; of a folder this is said before anything is done.
    """
    if path.is_dir():  # "." among them, which has no name to make a temporary one of
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
    try:
        write(temporary)
        with temporary.open("rb") as done:
            os.fsync(done.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically, in UTF-8."""
    write_atomically(path, lambda temporary: _put(temporary, text))


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON file atomically; NaN and infinity are refused, since JSON has neither."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def shown(path: Path) -> Path:
    """Return a path as a command names it: from the working directory if it lies below, else as it is.

    >>> shown(Path.cwd() / "runs" / "digits").as_posix(), shown(Path("runs")).as_posix()
    ('runs/digits', 'runs')
    """
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        DataError: the file cannot be read, is no JSON, or holds something other than an object.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DataError(f"{path} cannot be read as JSON ({error}); move it away, or choose another folder") from None
    if not isinstance(value, dict):
        raise DataError(f"{path} must hold a JSON object; found {type(value).__name__}")
    return value


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, hexadecimal; the file is streamed.

    Raises:
        DataError: it cannot be read.
    """
    try:
        with path.open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror})") from None


def _put(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")

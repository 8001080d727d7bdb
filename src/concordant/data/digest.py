"""SHA-256 of files, streamed: what a card says a dataset was made of."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from concordant.data.card import Source
from concordant.errors import DataError


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, hexadecimal.

    Raises:
        DataError: it cannot be read.
    """
    try:
        with path.open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror})") from None


def sources(folder: Path, files: Iterable[Path | str]) -> tuple[Source, ...]:
    """Return the entries of a card for files of a folder, named relative to it.

    Raises:
        DataError: one cannot be read.
    """
    return tuple(Source(file=Path(file).as_posix(), sha256=sha256(folder / file)) for file in files)

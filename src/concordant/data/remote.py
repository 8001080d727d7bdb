"""Datasets behind a URL, through fsspec: a complete local copy, recorded with digests, renewed when the files change.

`--data s3://bucket/folder`, or any other URL that fsspec opens, stands for a data folder: archives, or a prepared
dataset. Its files are copied once into a cache: the folder in CONCORDANT_CACHE, else `concordant` in the user's cache
folder. fsspec's own file cache is not used: it neither replaces files atomically nor records digests.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from concordant.data.archives import VARIABLE
from concordant.data.card import CARD
from concordant.data.store import STATE, data_files
from concordant.data.writing import FAILURES
from concordant.errors import ConcordantError, DataError, foreign
from concordant.files import check_size, read_json, sha256, write_atomically, write_json

CACHE = "CONCORDANT_CACHE"
INFO = "dataset_info.json"  # of `datasets`
RECORD = ".source.json"  # of a cached folder: its URL, and file -> stamp, size, sha256
# Fields of fsspec's file information that change with the file; each kind of storage has some of them.
STAMPS = (
    *("size", "mtime", "created", "ETag", "LastModified"),
    *("last_modified", "Last-Modified", "Content-MD5", "md5Hash"),
)


def cache_folder() -> Path:
    """Return the folder of the copies."""
    from platformdirs import user_cache_path

    named = os.environ.get(CACHE)
    return Path(named) if named else user_cache_path("concordant", appauthor=False)


def fetch(url: str, files: Sequence[str]) -> Path:
    """Return a local folder with files of a URL; files that are there and unchanged are not copied again.

    Args:
        url: of the folder.
        files: names in it, all of which must exist; each may have as many bytes as CONCORDANT_LIMIT says (1 GiB).

    Raises:
        DataError: the storage cannot be reached, a file does not exist, or the cache cannot be written.
    """
    return _Copy(url).bring(files)


def fetch_store(url: str, name: str) -> Path:
    """Return a local copy of a prepared dataset, at its folder's URL or that of the parent folder.

    Raises:
        DataError: as for `fetch`, or there is no prepared dataset.
    """
    for place in (url, f"{url.rstrip('/')}/{name}"):
        copy = _Copy(place)
        if not copy.has(CARD):
            continue
        folder = copy.bring((CARD, STATE))
        extra = [file for file in (INFO, FAILURES) if copy.has(file)]
        return copy.bring([*data_files(folder), *extra])
    raise DataError(
        f"no prepared dataset {name} is at {_shown(url)}: there is neither {CARD} nor {name}/{CARD}, or "
        f"the place cannot be reached; name another with --data or {VARIABLE}"
    )


class _Copy:
    """The copy of one remote folder."""

    def __init__(self, url: str) -> None:
        from fsspec.core import url_to_fs

        self.url = url
        with self._reaching():
            self.storage, self.root = url_to_fs(url)
        self.folder = cache_folder() / hashlib.sha256(url.rstrip("/").encode()).hexdigest()[:16]

    def has(self, file: str) -> bool:
        # Not `isfile`, which is False where storage cannot be reached; over HTTP this one is too.
        try:
            with self._reaching():
                return bool(self.storage.info(self._place(file))["type"] == "file")
        except FileNotFoundError:
            return False

    def bring(self, files: Sequence[str]) -> Path:
        """Copy the files that are absent or have changed; only one process copies at a time."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with _alone(self.folder / ".lock"):
                path = self.folder / RECORD
                known = _known(path)
                for file in files:
                    info = self._info(file)
                    if not self._fresh(file, known.get(file), info):
                        known[file] = self._copied(file, info)
                        write_json(path, {"url": _shown(self.url), "files": known})
        except OSError as error:
            raise DataError(
                f"the cache {cache_folder()} cannot be written ({foreign(error)}); name another with {CACHE}"
            ) from None
        return self.folder

    def _info(self, file: str) -> dict[str, Any]:
        if not self.has(file):
            raise DataError(
                f"{file} is expected at {_shown(self.url)}, and is not there, or the place cannot be reached; "
                f"name another with --data or {VARIABLE}"
            )
        with self._reaching():
            found: dict[str, Any] = self.storage.info(self._place(file))
        return {key: str(found[key]) for key in STAMPS if found.get(key) is not None}

    def _fresh(self, file: str, known: dict[str, Any] | None, info: dict[str, Any]) -> bool:
        path = self.folder / file
        if not isinstance(known, dict) or not path.is_file():
            return False
        return path.stat().st_size == known.get("bytes") and known.get("stamp") == info

    def _copied(self, file: str, info: dict[str, Any]) -> dict[str, Any]:
        what = f"{file} of {_shown(self.url)}"

        def write(temporary: Path) -> None:
            with self._reaching():
                self.storage.get_file(self._place(file), str(temporary), callback=_limited(what))
            found = temporary.stat().st_size
            if "size" in info and int(info["size"]) != found:
                raise DataError(f"{what} arrived with {found} of {info['size']} bytes; try again")

        check_size(what, int(info.get("size", 0)))
        path = self.folder / file
        write_atomically(path, write)
        return {"stamp": info, "bytes": path.stat().st_size, "sha256": sha256(path)}

    def _place(self, file: str) -> str:
        return f"{self.root.rstrip('/')}/{file}"

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        """Turn the errors of a kind of storage, each of its own types, into one sentence."""
        try:
            yield
        except (FileNotFoundError, ConcordantError):
            raise
        except ImportError as error:
            raise DataError(f"{_shown(self.url)} cannot be opened: {foreign(error)}") from None
        except Exception as error:
            reason = f"{type(error).__name__}: {foreign(error)}"
            raise DataError(
                f"{_shown(self.url)} cannot be read ({reason}); see that the address is right and that it can be "
                "reached from here"
            ) from None


def _known(path: Path) -> dict[str, Any]:
    """Return what the record of a copy says of its files; nothing where it cannot be read, so that they are renewed."""
    with suppress(DataError):
        files = read_json(path).get("files")
        if isinstance(files, dict):
            return files
    return {}


def _limited(what: str) -> Any:  # noqa: ANN401 - fsspec is imported when it is needed
    """Return a callback that ends a transfer of more bytes than CONCORDANT_LIMIT allows, however they are packed."""
    from fsspec.callbacks import Callback

    class Limit(Callback):  # type: ignore[misc]
        def relative_update(self, inc: int = 1) -> None:
            super().relative_update(inc)
            check_size(what, self.value)

    return Limit()


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Wait until no other process of this machine is in the block."""
    with path.open("w") as handle:
        try:
            import fcntl
        except ImportError:  # not a POSIX system: no lock
            pass
        else:
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _shown(url: str) -> str:
    """Return a URL without the user name and password that it may contain."""
    return re.sub(r"//[^/@]*@", "//", url)

"""The folder of a sweep: it belongs to one grid, is written by one process, and holds nothing half-made."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from concordant.errors import UsageError
from concordant.files import read_json, write_json
from concordant.sweep.grid_file import Grid
from concordant.sweep.trial import DONE, MARK, TEMPORARY
from concordant.training.folder import lock

SCHEMA = "concordant.sweep/1"
MAY_CHANGE = ("resources", "retries")  # between one command and the next that goes on


class SweepFolder:
    """Paths and states of one sweep on disk.

    Args:
        path: the folder; made when it is missing.
    """

    def __init__(self, path: Path) -> None:
        self.shown = path
        self.path = path.absolute()  # as workers need it
        self.mark = self.path / MARK

    def claim(self, grid: Grid) -> None:
        """Take the folder for this grid, or see that it is this grid's already.

        Raises:
            UsageError: it holds another grid's results, or other files altogether, or cannot be written.
        """
        wanted = grid.model_dump(mode="json")
        if self.path.exists() and not self.path.is_dir():
            raise UsageError(f"{self.shown} is a file; name a folder with --out")
        if self.mark.exists():
            found = read_json(self.mark).get("grid")
            there = found if isinstance(found, dict) else {}
            keys = sorted({*there, *wanted} - set(MAY_CHANGE))
            other = [
                f"{key}: there {there.get(key)!r}, here {wanted.get(key)!r}"
                for key in keys
                if there.get(key) != wanted.get(key)
            ]
            if other:
                raise UsageError(
                    f"{self.shown} belongs to another grid ({', '.join(other)}); name another folder with --out, or "
                    "move this one away"
                )
            return
        if self.path.exists() and any(self.path.iterdir()):
            raise UsageError(f"{self.shown} is not empty and holds no sweep; name another folder with --out")
        try:
            write_json(self.mark, {"schema": SCHEMA, "state": "started", "experiments": [], "grid": wanted})
        except OSError as error:
            raise UsageError(
                f"cannot write to {self.shown} ({error.strerror}); name another folder with --out"
            ) from None

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder against a second sweep; the lock falls with the process.

        Raises:
            UsageError: another process holds it.
        """
        with lock(self.path):
            yield

    def clean(self) -> None:
        """Remove what attempts left that were stopped: nothing of it counts."""
        for path in self.path.rglob(f".*{TEMPORARY}*"):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
        for path in self.path.glob("*/*/runs/*/seed-*"):
            if not (path / DONE).exists():
                shutil.rmtree(path, ignore_errors=True)

    def note(self, line: str) -> None:
        """Add a line to the log, with the time."""
        with (self.path / "log.txt").open("a", encoding="utf-8") as log:
            log.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {line}\n")

    def write(self, document: dict[str, Any]) -> None:
        """Write sweep.json."""
        write_json(self.mark, document)

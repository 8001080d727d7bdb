"""Folder of a sweep: it belongs to one grid, is written by one process, and holds no half-made results.

sweep.json holds the grid and the state of every trial, log.txt the course of the sweep.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from concordant.documents import write_document
from concordant.errors import UsageError
from concordant.files import read_json
from concordant.sweep.grid_file import Grid
from concordant.sweep.plan import Experiment
from concordant.sweep.trial import ABOUT, DONE, MARK, TEMPORARY
from concordant.training.provenance import hardware, versions
from concordant.training.runs import RunFolder, lock

SCHEMA = "concordant.sweep/1"
MAY_CHANGE = ("resources", "retries")  # between the first command and one that resumes the sweep


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
        """Take the folder for this grid.

        Raises:
            UsageError: it holds results of another grid or other files, or cannot be written.
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
            started = {"schema": SCHEMA, "state": "started", "experiments": [], "grid": wanted}
            write_document(self.mark, "sweep", started)
        except OSError as error:
            raise UsageError(
                f"cannot write to {self.shown} ({error.strerror}); name another folder with --out"
            ) from None

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the folder, until the process ends at the latest.

        Raises:
            UsageError: another process holds the lock.
        """
        with lock(self.path):
            yield

    def clean(self) -> None:
        """Remove incomplete results of interrupted trials."""
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


def document_of(
    grid: Grid,
    plan: Sequence[Experiment],
    folder: SweepFolder,
    failed: Mapping[str, str],
    *,
    state: str,
    command: str,
    retried: int,
) -> dict[str, Any]:
    """Return the content of sweep.json.

    Args:
        grid: of the sweep.
        plan: its experiments.
        folder: of the sweep.
        failed: trial -> reason, of this command.
        state: "finished", "failed" (some trials) or "stopped".
        command: that started or resumed the sweep.
        retried: number of trials that this command submitted again because their worker died.
    """
    experiments = [_experiment(one, folder) for one in plan]
    searched = 0 if grid.search is None else grid.search.budget * grid.search.seeds
    machines: list[dict[str, Any]] = []
    for one in plan:
        for path in sorted((folder.path / one.name).glob(f"runs/*/*/{ABOUT}")):
            machine = {key: value for key, value in read_json(path).items() if key in ("versions", "hardware")}
            if machine not in machines:
                machines.append(machine)
    return {
        "schema": SCHEMA,
        "state": state,
        "command": command,
        "folder": str(folder.shown),
        "grid": grid.model_dump(mode="json"),
        "trials": sum((grid.seeds + searched) * len(one.config.variants) for one in plan),
        "runs": sum(one["runs"] for one in experiments),
        "finished": sum(one["finished"] for one in experiments),
        "retried": retried,
        "failed": [{"trial": name, "error": why} for name, why in failed.items()],
        "experiments": experiments,
        "versions": versions(),
        "hardware": hardware(),
        "machines": machines,
    }


def _experiment(one: Experiment, folder: SweepFolder) -> dict[str, Any]:
    out = RunFolder(folder.path / one.name)
    config = one.config
    there = [out.finished(variant, seed) for variant in config.variants for seed in range(config.seeds)]
    search = out.path / "search.json"
    return {
        "name": one.name,
        "group": one.group,
        "row": one.row,
        "benchmark": config.benchmark,
        "fusion": config.fusion,
        "calibrate": config.calibrate,
        "method": config.method,
        "runs": len(there),
        "finished": sum(there),
        "results": out.results.is_file(),
        "chosen": read_json(search)["chosen"] if search.is_file() else None,
    }

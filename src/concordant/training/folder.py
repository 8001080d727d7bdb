"""The folder of an experiment: one configuration, one subfolder a run, nothing ever half-read.

DIR/config.json            what is compared; a folder belongs to one configuration
DIR/runs/<label>/seed-<s>/ weights.safetensors, predictions.parquet, then run.json: with it a run is finished;
                           before that, where asked for, checkpoint.pt: the state of its training
DIR/predictions.parquet    the predictions of all runs
DIR/results.json           the results
DIR/log.txt                what happened when
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from concordant.errors import UsageError
from concordant.files import read_json, write_json
from concordant.training.config import Config, Variant

SCHEMA = "concordant.config/1"
RESULTS = "concordant.results/1"  # the schema of results.json


class ExperimentFolder:
    """Paths and states of one experiment on disk.

    Args:
        path: the folder; made when it is missing.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.results = path / "results.json"
        self.predictions = path / "predictions.parquet"
        self._config = path / "config.json"
        self._log = path / "log.txt"

    def claim(self, config: Config, files: dict[str, str], numerics: Mapping[str, Any] | None = None) -> None:
        """Take the folder for this configuration, or see that it is this configuration's already.

        Args:
            config: the experiment.
            files: name -> SHA-256 of the data files that it reads.
            numerics: what beside the configuration changes results by more than rounding (`Devices.numerics`).

        Raises:
            UsageError: the folder holds another configuration's results, or other files altogether.
        """
        wanted = {
            "schema": SCHEMA,
            **config.model_dump(mode="json"),
            "files": files,
            **({"numerics": dict(numerics)} if numerics else {}),
        }
        if self.path.exists() and not self.path.is_dir():
            raise UsageError(f"{self.path} is a file; name a folder with --out")
        if self._config.exists():
            found = read_json(self._config)
            differing = sorted(key for key in {**wanted, **found} if wanted.get(key) != found.get(key))
            if differing:
                raise UsageError(
                    f"{self.path} belongs to another configuration ({_differences(found, wanted, differing)}); "
                    "name another folder with --out, or move this one away"
                )
            return
        if self.path.exists() and any(self.path.iterdir()):
            raise UsageError(f"{self.path} is not empty and holds no experiment; name another folder with --out")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            write_json(self._config, wanted)
        except OSError as error:
            raise UsageError(
                f"cannot write to {self.path} ({error.strerror}); name another folder with --out"
            ) from None

    def run(self, variant: Variant, seed: int) -> Path:
        """Return the subfolder of one run."""
        return self.path / "runs" / variant.label / f"seed-{seed}"

    def finished(self, variant: Variant, seed: int) -> bool:
        """Say whether a run is there as a whole."""
        return (self.run(variant, seed) / "run.json").exists()

    def entry(self, variant: Variant, seed: int) -> dict[str, Any]:
        """Return what is recorded of a finished run."""
        return read_json(self.run(variant, seed) / "run.json")

    def note(self, line: str) -> None:
        """Add a line to the log, with the time."""
        with self._log.open("a", encoding="utf-8") as log:
            log.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {line}\n")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder against a second process that would write to it.

        The lock falls with the process that holds it, even when that is killed.

        Raises:
            UsageError: another process holds it.
        """
        with lock(self.path):
            yield


@contextmanager
def lock(path: Path) -> Iterator[None]:
    """Hold a folder against a second process that would write to it; the lock falls with the process.

    Raises:
        UsageError: another process holds it.
    """
    handle = os.open(path / ".lock", os.O_CREAT | os.O_RDWR)
    try:
        _lock(handle, path)
        yield
    finally:
        os.close(handle)


def _lock(handle: int, path: Path) -> None:
    try:
        import fcntl
    except ImportError:  # not a POSIX system: go without
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise UsageError(f"another process is writing to {path}; wait for it, or name another folder") from None


def _differences(found: dict[str, Any], wanted: dict[str, Any], keys: list[str]) -> str:
    return ", ".join(f"{key}: there {found.get(key)!r}, here {wanted.get(key)!r}" for key in keys)

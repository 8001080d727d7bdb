"""States of a run that is still training, on disk, so that a run that was killed goes on where it was.

One file a run, RUN/runs/<label>/seed-<s>/checkpoint.pt, written in place of the last one by the first process and
removed when the run is whole. It holds tensors, numbers, strings, lists and dictionaries alone, and is read by
PyTorch's restricted unpickler, which makes nothing else.
"""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from concordant.errors import DataError, UsageError
from concordant.files import write_atomically

SCHEMA = "concordant.checkpoint/1"
NAME = "checkpoint.pt"
_ADVICE = "move it away to train the run from the start"


@dataclass(frozen=True)
class Checkpoint:
    """Where the state of a run lies, and how often it is written.

    Args:
        path: of the file.
        about: what the run is; a file of another run is refused.
        every: steps from one state to the next; None = read what is there, but write nothing.

    Raises:
        UsageError: `every` is below 1.
    """

    path: Path
    about: dict[str, str]
    every: int | None = None

    def __post_init__(self) -> None:
        check_every(self.every)

    def due(self, step: int) -> bool:
        """Say whether a state is written after this step."""
        return self.every is not None and step % self.every == 0

    def write(self, state: dict[str, Any]) -> None:
        """Write a state in place of the last one."""
        whole = {"schema": SCHEMA, "about": self.about, **state}
        write_atomically(self.path, lambda temporary: torch.save(whole, temporary))

    def read(self) -> dict[str, Any] | None:
        """Return the state that was written last, on the CPU; None where there is none.

        Raises:
            DataError: the file cannot be read, or is another run's.
        """
        if not self.path.exists():
            return None
        try:
            state = torch.load(self.path, map_location="cpu", weights_only=True)
        except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise DataError(f"{self.path} cannot be read as a checkpoint ({reason}); {_ADVICE}") from None
        if not isinstance(state, dict) or state.get("schema") != SCHEMA or not isinstance(state.get("about"), dict):
            raise DataError(f"{self.path} must be a checkpoint of schema {SCHEMA}; {_ADVICE}")
        if state["about"] != self.about:
            known = state["about"]
            differing = sorted(str(key) for key in {*self.about, *known} if known.get(key) != self.about.get(key))
            raise DataError(f"{self.path} is the checkpoint of another run (other: {', '.join(differing)}); {_ADVICE}")
        return state

    def misfit(self, why: str) -> DataError:
        """Return the error that says why what was read does not fit the run."""
        return DataError(f"{self.path} does not fit this run ({why}); {_ADVICE}")

    def remove(self) -> None:
        """Remove the file: the run is whole."""
        self.path.unlink(missing_ok=True)


def check_every(every: int | None) -> None:
    """Refuse a distance below 1.

    Raises:
        UsageError: says what it must be.
    """
    if every is not None and every < 1:
        raise UsageError(
            f"checkpoint_every must be 1 or more, the steps from one checkpoint to the next; found {every}"
        )

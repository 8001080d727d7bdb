"""Checkpoints: the state of a run in training on disk, from which an interrupted run is resumed exactly.

One file per run, RUN/runs/<label>/seed-<s>/checkpoint.pt, replaced by the first process at each checkpoint and removed
when the run is finished. It holds tensors, numbers, strings, lists and dictionaries alone, and is read by PyTorch's
restricted unpickler, which builds nothing else.
"""

from __future__ import annotations

import time
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from concordant import seeding
from concordant.calibration.distributed import Ranks
from concordant.errors import ConcordantError, DataError, UsageError
from concordant.files import check_size, reading, write_atomically
from concordant.training.devices import in_pieces, whole_tree
from concordant.training.loop import Callback, TrainingState
from concordant.training.methods import TrainingMethod
from concordant.training.model import MultimodalModel
from concordant.training.selection import CheckpointSelector

if TYPE_CHECKING:
    from lightning_fabric import Fabric

SCHEMA = "concordant.checkpoint/1"
NAME = "checkpoint.pt"
_ADVICE = "move it away to train the run from the start"
_SHOWN = 200  # characters of PyTorch's message about weights that do not fit


@dataclass(frozen=True)
class Checkpoint:
    """File of a run's checkpoint, and how often it is written.

    Args:
        path: of the file.
        about: describes the run; a file of another run is refused.
        every: steps between checkpoints; None = read an existing file, but write none.

    Raises:
        UsageError: `every` is below 1.
    """

    path: Path
    about: dict[str, str]
    every: int | None = None

    def __post_init__(self) -> None:
        if self.every is not None and self.every < 1:
            raise UsageError(
                f"checkpoint_every must be 1 or more, the steps from one checkpoint to the next; found {self.every}"
            )

    def due(self, step: int) -> bool:
        """Whether a checkpoint is written after this step."""
        return self.every is not None and step % self.every == 0

    def write(self, state: dict[str, Any]) -> None:
        """Replace the file."""
        whole = {"schema": SCHEMA, "about": self.about, **state}
        write_atomically(self.path, lambda temporary: torch.save(whole, temporary))

    def read(self) -> dict[str, Any] | None:
        """Return the state that was written last, on the CPU; None without a file.

        Raises:
            DataError: the file cannot be read, or belongs to another run.
        """
        if not self.path.exists():
            return None
        with reading(self.path, "a checkpoint", _ADVICE) as size:
            # PyTorch may compress nothing: what a file unpacks to is what it holds.
            with zipfile.ZipFile(self.path) as archive:
                check_size(str(self.path), sum(one.file_size for one in archive.infolist()), size)
            state = torch.load(self.path, map_location="cpu", weights_only=True)
        if not isinstance(state, dict) or state.get("schema") != SCHEMA or not isinstance(state.get("about"), dict):
            raise DataError(f"{self.path} must be a checkpoint of schema {SCHEMA}; {_ADVICE}")
        if state["about"] != self.about:
            found = state["about"]
            differing = sorted(str(key) for key in {*self.about, *found} if found.get(key) != self.about.get(key))
            raise DataError(f"{self.path} is the checkpoint of another run (other: {', '.join(differing)}); {_ADVICE}")
        return state

    def misfit(self, why: str) -> DataError:
        """Return the error for a file that does not fit the run."""
        return DataError(f"{self.path} does not fit this run ({why}); {_ADVICE}")

    def remove(self) -> None:
        """Remove the file of a finished run."""
        self.path.unlink(missing_ok=True)


@dataclass
class RunState:
    """Everything that the next step depends on, and that a checkpoint holds.

    The order of batches follows from the seed and the step.

    Args:
        state: of the loop.
        model: in training.
        method: balances the modalities.
        optimizer: of the parameters of both.
        schedule: of the optimiser's learning rate.
        draws: the source of perturbations.
        dropout: the source of all other draws.
        fabric: where training takes place.
        selector: the selected state.
        seconds: training time before the interruption.
    """

    state: TrainingState
    model: MultimodalModel
    method: TrainingMethod
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    draws: torch.Generator
    dropout: seeding.Stream
    fabric: Fabric
    selector: CheckpointSelector
    seconds: float = 0.0

    def save(self, checkpoint: Checkpoint, ranks: Ranks | None, seconds: float) -> None:
        """Write a checkpoint; every process must call it, and the first one writes.

        Args:
            checkpoint: the file.
            ranks: the processes; None = one process.
            seconds: training time so far, without that before an interruption.
        """
        chance = self.dropout.state.unsqueeze(0).to(self.fabric.device)
        total = self.state.total if ranks is None else ranks.total(self.state.total)[0]
        if ranks is not None:
            ranks.rows = (1,) * ranks.size
            (chance,) = ranks.gather(chance)
        saved = {
            "step": self.state.step,
            "model": whole_tree(self.model.state_dict()),
            "method": self.method.state_dict(),
            "optimizer": whole_tree(self.optimizer.state_dict()),
            "schedule": self.schedule.state_dict(),
            "precision": self.fabric.strategy.precision.state_dict(),
            "draws": self.draws.get_state(),
            "chance": chance.cpu(),
            "best": self.selector.state_dict(),
            "history": self.state.history,
            "total": float(total),
            "count": self.state.count,
            "seconds": self.seconds + seconds,
        }
        if self.fabric.is_global_zero:
            checkpoint.write(saved)

    def resume(self, checkpoint: Checkpoint | None, ranks: Ranks | None) -> None:
        """Restore the state from a checkpoint, if there is one.

        A process that did not take part before keeps its own stream of dropout.

        Raises:
            DataError: the checkpoint cannot be read, or does not fit the run.
            ConcordantError: not every process sees the same one.
        """
        saved = None if checkpoint is None else checkpoint.read()
        step: Any = -1 if saved is None else saved.get("step")
        if checkpoint is not None and saved is not None and (not isinstance(step, int) or step < 1):
            raise checkpoint.misfit(f"its step is {step!r}, not 1 or more")
        if ranks is not None and len({one[0] for one in ranks.exchange([step], self.fabric.device)}) > 1:
            raise ConcordantError(
                "not every process sees the same checkpoint; put --out on storage that all machines share"
            )
        if checkpoint is None or saved is None:
            return
        try:
            self._restore(saved)
        except torch.OutOfMemoryError:
            raise
        except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            why = " ".join(str(error).split())
            raise checkpoint.misfit(f"{type(error).__name__}: {why[:_SHOWN]}") from error

    def _restore(self, saved: dict[str, Any]) -> None:
        now = self.model.state_dict()
        self.model.load_state_dict({name: in_pieces(value, now[name]) for name, value in saved["model"].items()})
        self.method.load_state_dict(saved["method"])
        parameters = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        moments = {
            index: {
                name: in_pieces(value, parameters[index]) if value.shape == parameters[index].shape else value
                for name, value in state.items()
            }
            for index, state in saved["optimizer"]["state"].items()
        }
        self.optimizer.load_state_dict({**saved["optimizer"], "state": moments})
        self.schedule.load_state_dict(saved["schedule"])
        self.fabric.strategy.precision.load_state_dict(saved["precision"])
        self.draws.set_state(saved["draws"])
        self.selector.load_state_dict(saved["best"])
        self.state.history, self.state.step, self.state.count = saved["history"], saved["step"], saved["count"]
        # A sum over all processes: the first one alone goes on with it.
        self.state.total = saved["total"] if self.fabric.is_global_zero else 0.0
        self.seconds = saved["seconds"]
        if self.fabric.global_rank < len(saved["chance"]):
            # A copy: PyTorch reads a generator state from the start of its memory, wherever the row begins.
            self.dropout.state = saved["chance"][self.fabric.global_rank].clone()


class CheckpointWriter(Callback):
    """Writes checkpoints during training.

    Args:
        checkpoint: the file and the steps between checkpoints.
        state: what is written.
        ranks: the processes; None = one process.
        start: `time.perf_counter()` at the start of training.
        steps: after the last one there is nothing to resume.
    """

    def __init__(self, checkpoint: Checkpoint, state: RunState, ranks: Ranks | None, start: float, steps: int) -> None:
        self._checkpoint, self._state, self._ranks = checkpoint, state, ranks
        self._start, self._steps = start, steps

    def after_step(self, step: int) -> None:
        """Write a checkpoint where one is due."""
        if self._checkpoint.due(step) and step < self._steps:
            self._state.save(self._checkpoint, self._ranks, time.perf_counter() - self._start)

"""Checkpoints: the state of training on disk, from which an interrupted command resumes exactly.

One file per run, RUN/runs/<label>/seed-<s>/checkpoint.pt, or per pass of several seeds, RUN/runs/<label>/pass-<s>.pt,
replaced by the first process at each checkpoint and removed when the runs are finished. It holds tensors, numbers,
strings, lists and dictionaries alone, and is read by PyTorch's restricted unpickler, which builds nothing else.
"""

from __future__ import annotations

import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from concordant import seeding
from concordant.calibration.distributed import Ranks
from concordant.errors import ConcordantError, DataError, UsageError
from concordant.files import check_size, reading, write_atomically
from concordant.training.devices import OneDevice, in_pieces, whole_tree
from concordant.training.loop import Callback, TrainingState
from concordant.training.methods import TrainingMethod
from concordant.training.model import MultimodalModel
from concordant.training.selection import CheckpointSelector, require_alike

if TYPE_CHECKING:
    from lightning_fabric import Fabric

SCHEMA = "concordant.checkpoint/1"
NAME = "checkpoint.pt"
SECONDS = 60.0  # between checkpoints that no number of steps is given for
_ADVICE = "move it away to train the run from the start"
_SHOWN = 200  # characters of PyTorch's message about weights that do not fit


class Checkpoint:
    """File of a checkpoint, and how often it is written.

    Args:
        path: of the file.
        about: describes what is trained; a file of something else is refused.
        every: steps between checkpoints; None = a minute of training or more, so that writing takes 2 % of the time.

    Raises:
        UsageError: `every` is below 1.
    """

    def __init__(self, path: Path, about: dict[str, str], every: int | None = None) -> None:
        if every is not None and every < 1:
            raise UsageError(
                f"checkpoint_every must be 1 or more, the steps from one checkpoint to the next; found {every}"
            )
        self.path, self.about, self.every = path, about, every
        self._next = time.monotonic() + SECONDS

    def due(self, step: int) -> bool:
        """Whether a checkpoint is written after this step."""
        return time.monotonic() >= self._next if self.every is None else step % self.every == 0

    def write(self, state: dict[str, Any]) -> None:
        """Replace the file."""
        start = time.monotonic()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        whole = {"schema": SCHEMA, "about": self.about, **state}
        write_atomically(self.path, lambda temporary: torch.save(whole, temporary))
        end = time.monotonic()
        self._next = end + max(SECONDS, 50 * (end - start))

    def read(self) -> dict[str, Any] | None:
        """Return the state that was written last, on the CPU; None without a file.

        Raises:
            DataError: the file cannot be read, or belongs to another run.
        """
        if not self.path.exists():
            return None
        state = _load(self.path)
        if state["about"] != self.about:
            found = state["about"]
            differing = sorted(str(key) for key in {*self.about, *found} if found.get(key) != self.about.get(key))
            raise DataError(f"{self.path} is the checkpoint of another run (other: {', '.join(differing)}); {_ADVICE}")
        return state

    def restore(self, saved: dict[str, Any], load: Callable[[dict[str, Any]], None]) -> None:
        """Call `load` with what `read` returned.

        Raises:
            DataError: it does not fit what is trained.
        """
        step = saved.get("step")
        if not isinstance(step, int) or step < 1:
            raise self._misfit(f"its step is {step!r}, not 1 or more")
        try:
            load(saved)
        except torch.OutOfMemoryError:
            raise
        except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            why = " ".join(str(error).split())
            raise self._misfit(f"{type(error).__name__}: {why[:_SHOWN]}") from error

    def _misfit(self, why: str) -> DataError:
        return DataError(f"{self.path} does not fit this run ({why}); {_ADVICE}")

    def remove(self) -> None:
        """Remove the file of a finished run."""
        self.path.unlink(missing_ok=True)


def checkpointed(folder: Path) -> list[tuple[int, ...]]:
    """Return the seeds of each pass of a variant that has a checkpoint in a folder.

    Raises:
        DataError: a file cannot be read, or names no seeds.
    """
    found = []
    for path in sorted(folder.glob("pass-*.pt")):
        seeds = str(_load(path)["about"].get("seeds")).split(",")
        if not all(seed.isdecimal() and len(seed) < 10 for seed in seeds):
            raise DataError(f"{path} must name the seeds of a pass; {_ADVICE}")
        found.append(tuple(int(seed) for seed in seeds))
    return found


def _load(path: Path) -> dict[str, Any]:
    """Return the content of a file; tensors are read from the disk when they are used."""
    with reading(path, "a checkpoint", _ADVICE) as size:
        # PyTorch may compress nothing: what a file unpacks to is what it holds.
        with zipfile.ZipFile(path) as archive:
            check_size(str(path), sum(one.file_size for one in archive.infolist()), size)
            if (damaged := archive.testzip()) is not None:  # PyTorch does not look where it maps the file
                raise DataError(f"{path} is damaged, by the checksum of {damaged}; {_ADVICE}")
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    if not isinstance(state, dict) or state.get("schema") != SCHEMA or not isinstance(state.get("about"), dict):
        raise DataError(f"{path} must be a checkpoint of schema {SCHEMA}; {_ADVICE}")
    return state


def require_history(found: object) -> None:
    """Raise TypeError or KeyError unless a saved value is the history of a run."""
    if not isinstance(found, list):
        raise TypeError(f"history is {type(found).__name__}, not list")
    for index, entry in enumerate(found):
        require_alike(entry, {"step": 0, "loss": 0.0, "validation": 0.0}, f"history[{index}]")


@dataclass
class RunState(Callback):
    """Everything that the next step of a run depends on; called during training, it writes checkpoints.

    The order of batches follows from the seed and the step.

    Args:
        checkpoint: the file; None = none.
        state: of the loop.
        model: in training.
        method: balances the modalities.
        optimizer: of the parameters of both.
        schedule: of the optimiser's learning rate.
        draws: the source of perturbations.
        dropout: the source of all other draws.
        fabric: where training takes place.
        selector: the selected state.
        steps: after the last one there is nothing to resume.
        began: `time.perf_counter()` at the start, less the training time before an interruption.
        ranks: the processes; None = one process.
    """

    checkpoint: Checkpoint | None
    state: TrainingState
    model: MultimodalModel
    method: TrainingMethod
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    draws: torch.Generator
    dropout: seeding.Stream
    fabric: Fabric | OneDevice
    selector: CheckpointSelector
    steps: int
    began: float
    ranks: Ranks | None = None

    @property
    def _precision(self) -> Any:  # noqa: ANN401 - of Fabric
        return None if isinstance(self.fabric, OneDevice) else self.fabric.strategy.precision

    def after_step(self, step: int) -> None:
        """Write a checkpoint where one is due; every process calls it, and the first one writes."""
        timed = self.checkpoint is not None and self.checkpoint.every is None
        if self.checkpoint is None or step >= self.steps or (timed and self.ranks is not None):
            return  # several processes have no common clock
        if not self.checkpoint.due(step):
            return
        chance = self.dropout.state.unsqueeze(0).to(self.fabric.device)
        total = self.state.total if self.ranks is None else self.ranks.total(self.state.total)[0]
        if self.ranks is not None:
            self.ranks.rows = (1,) * self.ranks.size
            (chance,) = self.ranks.gather(chance)
        saved = {
            "step": step,
            "model": whole_tree(self.model.state_dict()),
            "method": self.method.state_dict(),
            "optimizer": whole_tree(self.optimizer.state_dict()),
            "schedule": self.schedule.state_dict(),
            "precision": {} if self._precision is None else self._precision.state_dict(),
            "draws": self.draws.get_state(),
            "chance": chance.cpu(),
            "best": self.selector.state_dict(),
            "history": self.state.history,
            "total": float(total),
            "count": self.state.count,
            "seconds": time.perf_counter() - self.began,
        }
        if self.fabric.is_global_zero:
            self.checkpoint.write(saved)

    def resume(self) -> None:
        """Restore the state from the checkpoint, if there is one.

        A process that did not take part before keeps its own stream of dropout.

        Raises:
            DataError: the checkpoint cannot be read, or does not fit the run.
            ConcordantError: the processes see different checkpoints.
        """
        saved = None if self.checkpoint is None else self.checkpoint.read()
        step: Any = -1 if saved is None else saved.get("step")
        if self.ranks is not None and len({one[0] for one in self.ranks.exchange([step], self.fabric.device)}) > 1:
            raise ConcordantError(
                "not every process sees the same checkpoint; put --out on storage that all machines share"
            )
        if self.checkpoint is not None and saved is not None:
            self.checkpoint.restore(saved, self._restore)

    def _restore(self, saved: dict[str, Any]) -> None:
        state = {"count": 0, "total": 0.0, "seconds": 0.0, "schedule": self.schedule.state_dict()}
        for name, value in state.items():
            require_alike(saved[name], value, name)
        require_history(saved["history"])
        groups = self.optimizer.state_dict()["param_groups"]
        require_alike(saved["optimizer"]["param_groups"], groups, "optimizer.param_groups")
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
        if self._precision is not None:
            self._precision.load_state_dict(saved["precision"])
        self.draws.set_state(saved["draws"])
        self.selector.load_state_dict(saved["best"], now)
        self.state.history, self.state.step, self.state.count = saved["history"], saved["step"], saved["count"]
        # A sum over all processes, which the first one alone continues.
        self.state.total = saved["total"] if self.fabric.is_global_zero else 0.0
        self.began -= saved["seconds"]
        if self.fabric.global_rank < len(saved["chance"]):
            # A copy: PyTorch reads a generator state from the start of its memory, wherever the row begins.
            self.dropout.state = saved["chance"][self.fabric.global_rank].clone()

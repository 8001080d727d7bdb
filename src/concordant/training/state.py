"""What a run is between two steps: everything that the next step depends on, and that a checkpoint holds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from concordant.calibration.ranks import Ranks
from concordant.errors import ConcordantError
from concordant.training.checkpoint import Checkpoint
from concordant.training.methods import TrainingMethod
from concordant.training.model import MultimodalModel
from concordant.training.selection import Best
from concordant.training.sharding import in_pieces, whole_tree

if TYPE_CHECKING:
    from lightning_fabric import Fabric

_MOST = 200  # letters of what PyTorch says of weights that do not fit


@dataclass
class RunState:
    """A run between two steps.

    The order of batches is no part of it: the seed and the step say where it stands.

    Args:
        model: what is trained.
        method: how the modalities are balanced.
        optimizer: of the parameters of both.
        schedule: of the optimiser's learning rate.
        draws: the source of the perturbations' draws.
        fabric: where it is trained.
        best: the state that is kept.
        history: one entry an evaluation: step, mean loss since the last one, validation score.
        step: steps that are done.
        total: the sum of the losses since the last evaluation; of several processes, of this one's parts.
        count: how many there were.
        seconds: that training took before the run was stopped.
    """

    model: MultimodalModel
    method: TrainingMethod
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    draws: torch.Generator
    fabric: Fabric
    best: Best
    history: list[dict[str, float]] = field(default_factory=list)
    step: int = 0
    total: float | Tensor = 0.0
    count: int = 0
    seconds: float = 0.0

    def took(self, step: int, loss: Tensor) -> None:
        """Take in the loss of a step, a detached scalar."""
        self.step, self.total, self.count = step, self.total + loss, self.count + 1

    def mean_loss(self, ranks: Ranks | None) -> float:
        """Return the mean loss since the last evaluation, the same in every process."""
        total = float(self.total) if ranks is None else ranks.total(self.total)[0]
        return total / self.count

    def evaluated(self, mean: float, score: float, error: float) -> None:
        """Take in an evaluation: the mean loss before it, the validation score and its standard error."""
        self.history.append({"step": self.step, "loss": mean, "validation": score})
        self.total, self.count = 0.0, 0
        self.best.offer(score, error, self.step)

    def save(self, checkpoint: Checkpoint, ranks: Ranks | None, seconds: float) -> None:
        """Write a checkpoint; every process must call it, and the first one writes.

        Args:
            checkpoint: where.
            ranks: the processes; None = this one alone.
            seconds: that training has taken so far, without those before a stop.
        """
        chance = self._chance().unsqueeze(0).to(self.fabric.device)
        total = self.total if ranks is None else ranks.total(self.total)[0]
        if ranks is not None:
            ranks.rows = (1,) * ranks.size
            (chance,) = ranks.gather(chance)
        state = {
            "step": self.step,
            "model": whole_tree(self.model.state_dict()),
            "method": self.method.state_dict(),
            "optimizer": whole_tree(self.optimizer.state_dict()),
            "schedule": self.schedule.state_dict(),
            "precision": self.fabric.strategy.precision.state_dict(),
            "draws": self.draws.get_state(),
            "chance": chance.cpu(),
            "best": self.best.state_dict(),
            "history": self.history,
            "total": float(total),
            "count": self.count,
            "seconds": self.seconds + seconds,
        }
        if self.fabric.is_global_zero:
            checkpoint.write(state)

    def resume(self, checkpoint: Checkpoint | None, ranks: Ranks | None) -> None:
        """Be as the checkpoint says, if there is one.

        What the global generator draws (dropout) goes on where it was in every process that was there before; one
        that was not keeps its own stream.

        Raises:
            DataError: the checkpoint cannot be read, or does not fit the run.
            ConcordantError: not every process sees the same one.
        """
        known = None if checkpoint is None else checkpoint.read()
        found = -1
        if checkpoint is not None and known is not None:
            step = known.get("step")
            if not isinstance(step, int) or step < 1:
                raise checkpoint.misfit(f"its step is {step!r}, not 1 or more")
            found = step
        if ranks is not None and len({one[0] for one in ranks.exchange([found], self.fabric.device)}) > 1:
            raise ConcordantError(
                "not every process sees the same checkpoint; put --out on storage that all machines share"
            )
        if checkpoint is None or known is None:
            return
        try:
            self._be(known)
        except torch.OutOfMemoryError:
            raise
        except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            why = " ".join(str(error).split())
            raise checkpoint.misfit(f"{type(error).__name__}: {why[:_MOST]}") from error

    def _be(self, known: dict[str, Any]) -> None:
        """Be as a checkpoint says."""
        lying = self.model.state_dict()
        self.model.load_state_dict({name: in_pieces(value, lying[name]) for name, value in known["model"].items()})
        self.method.load_state_dict(known["method"])
        parameters = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        moments = {
            index: {
                name: in_pieces(value, parameters[index]) if value.shape == parameters[index].shape else value
                for name, value in state.items()
            }
            for index, state in known["optimizer"]["state"].items()
        }
        self.optimizer.load_state_dict({**known["optimizer"], "state": moments})
        self.schedule.load_state_dict(known["schedule"])
        self.fabric.strategy.precision.load_state_dict(known["precision"])
        self.draws.set_state(known["draws"])
        self.best.load_state_dict(known["best"])
        self.history, self.step, self.count = known["history"], known["step"], known["count"]
        # A sum over all processes: the first one alone goes on with it.
        self.total = known["total"] if self.fabric.is_global_zero else 0.0
        self.seconds = known["seconds"]
        if self.fabric.global_rank < len(known["chance"]):
            # A copy: PyTorch reads a generator state from the start of its memory, wherever the row begins.
            self._set_chance(known["chance"][self.fabric.global_rank].clone())

    def _chance(self) -> Tensor:
        """Return the state of the global generator that dropout draws from."""
        device = self.fabric.device
        return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()

    def _set_chance(self, state: Tensor) -> None:
        if self.fabric.device.type == "cuda":
            torch.cuda.set_rng_state(state, self.fabric.device)
        else:
            torch.set_rng_state(state)

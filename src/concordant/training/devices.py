"""Where a run is trained: how many devices, of which kind, how the processes share the work, in which precision.

The batch of the recipe is the batch of a step, whatever is chosen here: it is split over the processes, and over
`accumulate` parts that go through the model one after another. Processes are started by Concordant (`--devices 2`), by
torchrun or by Slurm's srun; Lightning Fabric connects them.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from concordant.errors import UsageError

if TYPE_CHECKING:
    from lightning_fabric import Fabric
    from lightning_fabric.loggers import Logger
    from lightning_fabric.strategies import Strategy
    from torch.distributed.device_mesh import DeviceMesh

STRATEGIES = ("auto", "ddp", "fsdp")
PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")
ACCELERATORS = ("auto", "cpu", "cuda", "mps")
ACROSS = ("gather", "local")
#: While the first process stresses a run that was trained, the others wait; a process that dies ends them all.
PATIENCE = timedelta(days=7)


@dataclass(frozen=True)
class Launched:
    """This process as torchrun or srun started it.

    Args:
        rank: its number among all.
        size: how many there are.
        machines: on how many machines they run, the same number on each.
    """

    rank: int
    size: int
    machines: int


@dataclass(frozen=True, kw_only=True)
class Devices:
    """Where and how a run is trained.

    Args:
        devices: processes on this machine, one a device; on a CPU simply processes. Under torchrun and srun they
            are there already, and this may be left at 1.
        strategy: "ddp" holds the model in every process, "fsdp" a piece of it in each; "auto" = "ddp".
        precision: "32-true", or mixed with "bf16-mixed" or, on CUDA alone, "16-mixed".
        accumulate: parts into which the batch of a step is cut, to save memory. A part is perturbed, compared and
            taken into the running statistics by itself, so results differ from those with 1.
        accelerator: "cpu", "cuda" or "mps"; "auto" = what is there.
        across: "gather" = perturbations and losses look at the batch of a step as a whole, so that results do not
            depend on how many processes share it; "local" = each process looks at its own rows alone, which
            sends less. Running statistics are those of the whole batch either way.

    Raises:
        UsageError: all faults at once.
    """

    devices: int = 1
    strategy: str = "auto"
    precision: str = "32-true"
    accumulate: int = 1
    accelerator: str = "auto"
    across: str = "gather"

    def __post_init__(self) -> None:
        faults = [
            f"{name} must be 1 or more; found {getattr(self, name)}"
            for name in ("devices", "accumulate")
            if getattr(self, name) < 1
        ]
        for name, choices in (
            ("strategy", STRATEGIES),
            ("precision", PRECISIONS),
            ("accelerator", ACCELERATORS),
            ("across", ACROSS),
        ):
            value = getattr(self, name)
            if value not in choices:
                faults.append(f"unknown {name} {value!r}; choose from: {', '.join(choices)}")
        if faults:
            raise UsageError("; ".join(faults))

    @property
    def size(self) -> int:
        """How many processes train a run together."""
        there = launched()
        return self.devices if there is None else there.size

    @property
    def kind(self) -> str:
        """The kind of device: what was asked for, or what is there."""
        if self.accelerator != "auto":
            return self.accelerator
        found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        return "cpu" if found is None else found.type

    @property
    def sharded(self) -> bool:
        """Whether each process holds only a piece of the model."""
        return self.strategy == "fsdp" and self.size > 1

    def numerics(self) -> dict[str, Any]:
        """Return what of this changes results by more than rounding, where it is not as usual; none otherwise."""
        found: dict[str, Any] = {}
        if self.precision != "32-true":
            found["precision"] = self.precision
        if self.accumulate > 1:
            found["accumulate"] = self.accumulate
        if self.across == "local" and self.size > 1:
            found |= {"across": "local", "processes": self.size}
        return found

    def record(self) -> dict[str, Any]:
        """Return what is written beside a result."""
        return {**asdict(self), "devices": self.size, "accelerator": self.kind}

    def check(self, batch: int) -> None:
        """Refuse what this machine, or the batch of the recipe, does not give.

        Args:
            batch: instances of a step.

        Raises:
            UsageError: all faults at once.
        """
        faults, there = [], launched()
        if there is not None and self.devices not in (1, there.size // there.machines):
            faults.append(
                f"{there.size // there.machines} processes were started on each machine, and --devices is "
                f"{self.devices}; leave it out"
            )
        if self.kind == "cuda" and not torch.cuda.is_available():
            faults.append("--accelerator cuda: PyTorch sees no CUDA device here; leave it out, or use cpu")
        elif self.kind == "cuda" and there is None and self.devices > torch.cuda.device_count():
            faults.append(f"--devices {self.devices}: there are {torch.cuda.device_count()} CUDA devices here")
        if self.kind == "mps" and self.size > 1:
            faults.append("--devices: there is one mps device at the most; use --accelerator cpu for several processes")
        if self.precision == "16-mixed" and self.kind != "cuda":
            faults.append(f"--precision 16-mixed needs CUDA, and training is on {self.kind}; use bf16-mixed")
        if self.strategy == "fsdp" and self.precision == "16-mixed":
            faults.append("--strategy fsdp knows no 16-mixed; use bf16-mixed")
        if batch < self.size * self.accumulate:
            faults.append(
                f"a batch of {batch} instances cannot be split over {self.size} processes and {self.accumulate} parts; "
                "use fewer"
            )
        if faults:
            raise UsageError("; ".join(faults))

    def fabric(self, *loggers: Logger) -> Fabric:
        """Return the Fabric of this process, connected to the others; it says nothing on the terminal."""
        from lightning_fabric import Fabric

        logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
        if self.size == 1:
            return Fabric(
                accelerator=self.accelerator, devices=1, precision=_literal(self.precision), loggers=list(loggers)
            )
        # The parameters that a batch leaves out are not known before; that a batch leaves none out is no news.
        warnings.filterwarnings("ignore", message="find_unused_parameters=True was specified")
        there = launched()
        machines = 1 if there is None else there.machines
        fabric = Fabric(
            accelerator=self.accelerator,
            devices=self.size // machines,
            num_nodes=machines,
            strategy=self._strategy(),
            precision=_literal(self.precision),
            loggers=list(loggers),
        )
        fabric.launch()
        return fabric

    def _strategy(self) -> Strategy:
        from lightning_fabric.strategies import DDPStrategy, ModelParallelStrategy

        if self.strategy == "fsdp":
            return ModelParallelStrategy(shard, data_parallel_size=self.size, tensor_parallel_size=1, timeout=PATIENCE)
        return DDPStrategy(timeout=PATIENCE, find_unused_parameters=True)


def launched() -> Launched | None:
    """Return what torchrun or srun made of this process; None where nobody has started several.

    Processes that Concordant starts itself look like those of torchrun.
    """
    known = os.environ
    if "TORCHELASTIC_RUN_ID" in known:
        size = int(known["WORLD_SIZE"])
        if size == 1:
            return None
        return Launched(int(known["RANK"]), size, size // int(known.get("LOCAL_WORLD_SIZE", size)))
    # A batch script of several tasks has most of these as well, but no step: it runs once, outside of srun.
    if "SLURM_STEP_ID" in known and int(known.get("SLURM_NTASKS", "1")) > 1 and not _interactive():
        return Launched(int(known["SLURM_PROCID"]), int(known["SLURM_NTASKS"]), int(known.get("SLURM_NNODES", "1")))
    return None


def _interactive() -> bool:
    """Say whether this is a shell that Slurm gave to a person, as Lightning tells it."""
    return os.environ.get("SLURM_JOB_NAME") in ("bash", "interactive")


def _literal(precision: str) -> Any:  # noqa: ANN401 - Fabric wants a literal type
    return precision


def shard(step: nn.Module, mesh: DeviceMesh) -> nn.Module:
    """Shard the model of a training step over the processes; what Fabric calls.

    Args:
        step: a module with the attribute `model`, a `MultimodalModel`.
        mesh: of all processes.
    """
    from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

    model: Any = step.model
    for part in (*model.encoders.values(), model.calibrator, model.fusion):
        if any(True for _ in part.parameters()):
            fully_shard(part, mesh=mesh["data_parallel"])
    for name in ("encode", "join"):  # what is called of a fusion, which has no forward
        register_fsdp_forward_method(model.fusion, name)
    fully_shard(model, mesh=mesh["data_parallel"])
    return step


def whole_state(module: nn.Module) -> dict[str, Tensor]:
    """Return a module's state, put together where it lies in pieces; every process must call it then."""
    return {name: whole(value) for name, value in module.state_dict().items()}


def whole_tree(state: Any) -> Any:  # noqa: ANN401 - whatever a state dictionary holds
    """Return dictionaries, lists and tensors with every tensor as a whole."""
    if isinstance(state, Mapping):
        return {key: whole_tree(value) for key, value in state.items()}
    if isinstance(state, list):
        return [whole_tree(value) for value in state]
    return whole(state) if isinstance(state, Tensor) else state


def whole(value: Tensor) -> Tensor:
    """Return a tensor that may lie in pieces as a whole."""
    if type(value) is Tensor:
        return value
    from torch.distributed.tensor import DTensor

    return value.full_tensor() if isinstance(value, DTensor) else value


def in_pieces(value: Tensor, like: Tensor) -> Tensor:
    """Return a whole tensor as `like` lies: in pieces, or whole as well."""
    if type(like) in (Tensor, nn.Parameter):
        return value
    from torch.distributed.tensor import DTensor, distribute_tensor

    if not isinstance(like, DTensor):
        return value
    return distribute_tensor(value.to(like.device), like.device_mesh, like.placements)

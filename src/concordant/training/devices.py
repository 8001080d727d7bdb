"""Devices of a run: number and kind, precision, and how processes share the work or the model itself.

The batch of the recipe is the batch of a step: it is split over the processes, and over `accumulate` chunks that go
through the model one after another. Processes are started by Concordant (`--devices 2`), by torchrun or by Slurm's
srun; Lightning Fabric connects them, and computes in mixed precision. A sharded model (FSDP, PyTorch's second form) has
a piece of its parameters in each process: Rajbhandari et al., "ZeRO: Memory Optimizations Toward Training Trillion
Parameter Models", SC 2020.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

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
#: The others wait while the first process evaluates a trained run; a process that dies ends them all.
PATIENCE = timedelta(days=7)


class Launched(NamedTuple):
    """Place of this process among those that torchrun or srun started.

    Args:
        rank: its number.
        size: number of processes.
        machines: number of machines, with equally many processes on each.
    """

    rank: int
    size: int
    machines: int


@dataclass(frozen=True)
class OneDevice:
    """What training asks of Fabric, for one process in float32; Fabric takes 0.1 GiB and seconds to import.

    Args:
        device: where training takes place.
    """

    device: torch.device
    global_rank = 0
    world_size = 1
    is_global_zero = True

    def setup(self, module: nn.Module) -> nn.Module:
        """Return a module on the device."""
        return module.to(self.device)

    def setup_optimizers(self, optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
        """Return the optimiser as it is."""
        return optimizer

    def no_backward_sync(self, module: nn.Module, *, enabled: bool) -> AbstractContextManager[None]:
        """Return a block without effect: there is no other process."""
        return nullcontext()

    def backward(self, loss: Tensor) -> None:
        """Compute the gradients of a loss."""
        loss.backward()  # type: ignore[no-untyped-call]


@dataclass(frozen=True, kw_only=True)
class Devices:
    """Devices of a run and how they share it.

    Args:
        devices: processes on this machine, one per device, or any number on a CPU. Under torchrun and srun, which
            start them, it may be left at 1.
        strategy: "ddp" has the model in every process, "fsdp" a piece of it in each; "auto" = "ddp".
        precision: "32-true", or mixed with "bf16-mixed" or, on CUDA alone, "16-mixed".
        accumulate: chunks of the batch of a step, to save memory. Each chunk is perturbed, compared and added to the
            running statistics by itself, so results differ from those with 1.
        accelerator: "cpu", "cuda" or "mps"; "auto" = the available one.
        across: "gather" = perturbations and losses use the whole batch, and results do not depend on the number of
            processes; "local" = each process uses its own rows, which sends less. Running statistics are those of the
            whole batch either way.

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
        """Number of processes of a run."""
        started = launched()
        return self.devices if started is None else started.size

    @property
    def kind(self) -> str:
        """Kind of device: the chosen one, or the available one."""
        if self.accelerator != "auto":
            return self.accelerator
        found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        return "cpu" if found is None else found.type

    @property
    def sharded(self) -> bool:
        """Whether each process has only a piece of the model."""
        return self.strategy == "fsdp" and self.size > 1

    def numerics(self) -> dict[str, Any]:
        """Return the settings that change results by more than rounding; defaults are left out."""
        found: dict[str, Any] = {}
        if self.precision != "32-true":
            found["precision"] = self.precision
        if self.accumulate > 1:
            found["accumulate"] = self.accumulate
        if self.across == "local" and self.size > 1:
            found |= {"across": "local", "processes": self.size}
        return found

    def record(self) -> dict[str, Any]:
        """Return the record beside a result."""
        return {**asdict(self), "devices": self.size, "accelerator": self.kind}

    def check(self, batch: int, *, method: str = "none", observed: bool = False) -> None:
        """Refuse settings that this machine or the training does not allow.

        Args:
            batch: instances per step.
            method: of training.
            observed: whether training dynamics are recorded.

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
            faults.append("--strategy fsdp does not support 16-mixed; use bf16-mixed")
        if self.sharded and method != "none":
            faults.append(f"--method {method} looks at what fsdp keeps in pieces; use --strategy ddp")
        if observed and (self.size > 1 or self.accumulate > 1):
            faults.append(
                "--dynamics observes one process that takes each batch whole; leave --devices and --accumulate out"
            )
        if batch < self.size * self.accumulate:
            faults.append(
                f"a batch of {batch} instances cannot be split over {self.size} processes and {self.accumulate} parts; "
                "use fewer"
            )
        if faults:
            raise UsageError("; ".join(faults))

    def connect(self) -> Fabric | OneDevice:
        """Return the Fabric of this process, or, where one process in float32 needs none, what stands in for it."""
        if self.size == 1 and self.precision == "32-true":
            return OneDevice(torch.device(self.kind, *(() if self.kind == "cpu" else (0,))))
        return self.fabric()

    def fabric(self, *loggers: Logger) -> Fabric:
        """Return the Fabric of this process, connected to the others; it prints nothing."""
        from lightning_fabric import Fabric

        logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
        common: dict[str, Any] = {
            "accelerator": self.accelerator,
            "precision": self.precision,
            "loggers": list(loggers),
        }
        if self.size == 1:
            return Fabric(devices=1, **common)
        # Which parameters a batch leaves out is unknown in advance; PyTorch warns where it leaves none out.
        warnings.filterwarnings("ignore", message="find_unused_parameters=True was specified")
        there = launched()
        machines = 1 if there is None else there.machines
        fabric = Fabric(devices=self.size // machines, num_nodes=machines, strategy=self._strategy(), **common)
        fabric.launch()
        return fabric

    def _strategy(self) -> Strategy:
        from lightning_fabric.strategies import DDPStrategy, ModelParallelStrategy

        if self.strategy == "fsdp":
            return ModelParallelStrategy(shard, data_parallel_size=self.size, tensor_parallel_size=1, timeout=PATIENCE)
        return DDPStrategy(timeout=PATIENCE, find_unused_parameters=True)


def device_faults(name: Any) -> list[str]:  # noqa: ANN401 - an argument of a user
    """Return what is wrong with the name of a device, none if PyTorch can compute there."""
    try:
        if torch.empty(0, device=torch.device(name)).is_meta:
            return ["device meta computes nothing; choose cpu, cuda or mps"]
    except (RuntimeError, AssertionError, TypeError, ValueError) as error:
        line = str(error).split("\n", 1)[0]
        return [f"device must be one that PyTorch can use here, such as cpu; found {name!r} ({line})"]
    return []


def launched() -> Launched | None:
    """Return the place of this process among those of torchrun or srun; None if it is the only one.

    Processes that Concordant starts itself look like those of torchrun.
    """
    known = os.environ
    if "TORCHELASTIC_RUN_ID" in known:
        size = int(known["WORLD_SIZE"])
        if size == 1:
            return None
        return Launched(int(known["RANK"]), size, size // int(known.get("LOCAL_WORLD_SIZE", size)))
    # A batch script of several tasks has most of these too, but no step: it runs once, outside of srun. So does an
    # interactive shell, which Lightning recognises by its name.
    shell = known.get("SLURM_JOB_NAME") in ("bash", "interactive")
    if "SLURM_STEP_ID" in known and int(known.get("SLURM_NTASKS", "1")) > 1 and not shell:
        return Launched(int(known["SLURM_PROCID"]), int(known["SLURM_NTASKS"]), int(known.get("SLURM_NNODES", "1")))
    return None


def shard(step: nn.Module, mesh: DeviceMesh) -> nn.Module:
    """Shard the model of a training step over the processes; Fabric calls it.

    Args:
        step: a module with the attribute `model`, a `MultimodalModel`.
        mesh: of all processes.
    """
    from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

    model: Any = step.model
    for part in (*model.encoders.values(), model.calibrator, model.fusion):
        if any(True for _ in part.parameters()):
            fully_shard(part, mesh=mesh["data_parallel"])
    for name in ("encode", "join"):  # methods that are called in place of forward
        register_fsdp_forward_method(model.fusion, name)
    fully_shard(model, mesh=mesh["data_parallel"])
    return step


def whole_tree(state: Any) -> Any:  # noqa: ANN401 - whatever a state dictionary holds
    """Return nested dictionaries and lists with whole tensors; every process must call it if some are sharded."""
    if isinstance(state, Mapping):
        return {key: whole_tree(value) for key, value in state.items()}
    if isinstance(state, list):
        return [whole_tree(value) for value in state]
    return whole(state) if isinstance(state, Tensor) else state


def whole(value: Tensor) -> Tensor:
    """Return a tensor that may be sharded as a whole."""
    if type(value) is Tensor:
        return value
    from torch.distributed.tensor import DTensor

    return value.full_tensor() if isinstance(value, DTensor) else value


def in_pieces(value: Tensor, like: Tensor) -> Tensor:
    """Return a whole tensor sharded as `like` is, or whole."""
    if type(like) in (Tensor, nn.Parameter):
        return value
    from torch.distributed.tensor import DTensor, distribute_tensor

    if not isinstance(like, DTensor):
        return value
    return distribute_tensor(value.to(like.device), like.device_mesh, like.placements)

"""The options of `concordant run` that say where a run is trained; see `concordant.training.devices`."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Annotated, Any

import typer

from concordant.cli.terminal import progress_bar

if TYPE_CHECKING:
    from concordant.training.devices import Devices

Count = Annotated[int, typer.Option("--devices", help="Devices that share every run (on a CPU, processes).")]
Strategy = Annotated[str, typer.Option(help="ddp, or fsdp: the model in pieces; auto = ddp.")]
Precision = Annotated[str, typer.Option(help="32-true, bf16-mixed, or on CUDA 16-mixed.")]
Accumulate = Annotated[
    int, typer.Option(help="Parts into which the batch of a step is cut to save memory; changes results.")
]
Accelerator = Annotated[str, typer.Option(help="cpu, cuda or mps; auto = what is there.")]
Across = Annotated[
    str,
    typer.Option(help="gather: perturbations and losses see the whole batch; local: each device its own rows."),
]
CheckpointEvery = Annotated[
    int | None,
    typer.Option(help="Write the state of training every so many steps; a run that is killed goes on there."),
]


def devices_of(count: int, strategy: str, precision: str, accumulate: int, accelerator: str, across: str) -> Devices:
    """Return what the options say.

    Raises:
        UsageError: all faults at once.
    """
    from concordant.training.devices import Devices

    return Devices(
        devices=count,
        strategy=strategy,
        precision=precision,
        accumulate=accumulate,
        accelerator=accelerator,
        across=across,
    )


def training_bar() -> AbstractContextManager[Any]:
    """Return the progress bar of training; None in a process of torchrun or srun that is not the first."""
    from concordant.training.devices import launched

    there = launched()
    return nullcontext() if there is not None and there.rank > 0 else progress_bar("training")

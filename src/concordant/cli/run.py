"""`concordant run`: train, evaluate and compare."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from concordant.cli.terminal import (
    DataOption,
    JobsOption,
    JsonOption,
    complete,
    make_console,
    names_of,
    print_grid,
    progress_bar,
    put_json,
    write_page,
)
from concordant.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

# Panels of the help text.
TRAINING, DEVICES, DYNAMICS = "Training", "Devices", "Training dynamics"


def run_command(
    benchmark: Annotated[
        str,
        typer.Argument(
            help="A benchmark of `concordant list benchmarks`, or the folder or URL of a prepared dataset.",
            autocompletion=complete("benchmarks"),
        ),
    ],
    fusion: Annotated[
        str | None,
        typer.Option(
            help="A fusion of `concordant list fusions`; several, or FUSION@POINT, form a grid; default: by benchmark.",
            autocompletion=complete("fusions"),
        ),
    ] = None,
    calibrators: Annotated[
        str,
        typer.Option(
            help="Names from `concordant list calibrators`, or none+perturbed (none with perturbed training).",
            autocompletion=complete("calibrators"),
        ),
    ] = "none,self,joint,context",
    seeds: Annotated[int, typer.Option(help="Number of seeds: splits, initial weights, orders of batches.")] = 5,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the results; default: runs/<benchmark>-<fusion>, or -grid.")
    ] = None,
    data: DataOption = None,
    protocol: Annotated[
        str | None, typer.Option(help="How the benchmark is split; default: its first protocol.")
    ] = None,
    modalities: Annotated[
        str | None, typer.Option("--modalities", help="Some of the benchmark's modalities; default: all.")
    ] = None,
    calibrate: Annotated[
        str | None, typer.Option(help="Where the calibrator is placed: a point of the fusion; default: its first.")
    ] = None,
    alone: Annotated[
        bool,
        typer.Option(help="Also train each modality alone, and fit a late fusion (not in a grid), for comparison."),
    ] = True,
    jobs: JobsOption = None,
    json_to: JsonOption = None,
    method: Annotated[
        str,
        typer.Option(
            help="A training method of `concordant list methods`.",
            autocompletion=complete("methods"),
            rich_help_panel=TRAINING,
        ),
    ] = "none",
    preset: Annotated[
        str,
        typer.Option(
            help="Sizes of the fusion: small, medium, or published (docs/compare.md has which).",
            rich_help_panel=TRAINING,
        ),
    ] = "small",
    encoders: Annotated[
        str, typer.Option(help="small, or resnet18 for images, spectrograms and frames.", rich_help_panel=TRAINING)
    ] = "small",
    steps: Annotated[
        int | None, typer.Option(help="Optimiser steps per run; default: by benchmark.", rich_help_panel=TRAINING)
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(help="Passes over the training split, in place of --steps.", rich_help_panel=TRAINING)
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(
            "--batch-size", "--batch", help="Instances per step; default: by benchmark.", rich_help_panel=TRAINING
        ),
    ] = None,
    learning_rate: Annotated[
        float | None, typer.Option(help="The highest of the schedule; default: by benchmark.", rich_help_panel=TRAINING)
    ] = None,
    weight_decay: Annotated[
        float | None, typer.Option(help="Of the optimiser; default: by benchmark.", rich_help_panel=TRAINING)
    ] = None,
    dropout: Annotated[
        float | None,
        typer.Option(help="Of encoders, calibrator and fusion; default: by benchmark.", rich_help_panel=TRAINING),
    ] = None,
    width: Annotated[
        int | None, typer.Option(help="Features per encoder; default: by benchmark.", rich_help_panel=TRAINING)
    ] = None,
    patience: Annotated[
        int | None,
        typer.Option(
            help="Evaluations in a row without a better state after which a run stops; default: 5.",
            rich_help_panel=TRAINING,
        ),
    ] = None,
    vectorise: Annotated[
        str,
        typer.Option(
            help="Train all seeds of a calibrator in one pass: auto (where it pays), on, or off.",
            rich_help_panel=TRAINING,
        ),
    ] = "auto",
    checkpoint_every: Annotated[
        int | None,
        typer.Option(
            help="Steps between checkpoints, where an interrupted run resumes; default: a minute.",
            rich_help_panel=TRAINING,
        ),
    ] = None,
    dynamics: Annotated[
        bool,
        typer.Option(
            "--dynamics",
            help="Record training: gradients, conflict, probes, reliability over time.",
            rich_help_panel=DYNAMICS,
        ),
    ] = False,
    dynamics_every: Annotated[
        int | None,
        typer.Option(
            help="Steps between records; default: as often as costs less than a tenth.", rich_help_panel=DYNAMICS
        ),
    ] = None,
    devices: Annotated[
        int,
        typer.Option("--devices", help="Devices that share every run (on a CPU, processes).", rich_help_panel=DEVICES),
    ] = 1,
    strategy: Annotated[
        str, typer.Option(help="ddp, or fsdp (the model is sharded); auto = ddp.", rich_help_panel=DEVICES)
    ] = "auto",
    precision: Annotated[
        str, typer.Option(help="32-true, bf16-mixed, or on CUDA 16-mixed.", rich_help_panel=DEVICES)
    ] = "32-true",
    accumulate: Annotated[
        int,
        typer.Option(
            help="Chunks into which the batch of a step is split to save memory; changes results.",
            rich_help_panel=DEVICES,
        ),
    ] = 1,
    accelerator: Annotated[
        str, typer.Option(help="cpu, cuda or mps; auto = what is available.", rich_help_panel=DEVICES)
    ] = "auto",
    across: Annotated[
        str,
        typer.Option(
            help="gather: perturbations and losses use the whole batch; local: each device uses its own rows.",
            rich_help_panel=DEVICES,
        ),
    ] = "gather",
) -> None:
    """Compare fusions with and without calibration, over paired seeds, on clean and corrupted data.

    An interrupted command resumes when it is given again.
    """
    from concordant.benchmarks.catalogue import is_store, store_at, stored_as
    from concordant.dynamics.recorder import DEFAULT_EVERY
    from concordant.report.format import plural
    from concordant.study.experiment import study
    from concordant.study.grid import make_grid, run_grid
    from concordant.training.config import make_config
    from concordant.training.devices import Devices

    start = time.perf_counter()
    title, dataset, usual = benchmark, None, None
    if is_store(benchmark, data):
        if data is not None:
            raise UsageError(f"--data {data}: {benchmark} is the dataset itself; leave one of them out")
        store = store_at(benchmark)
        data = str(store)
        stored = stored_as(store, protocol)
        benchmark, title, usual = stored.benchmark, stored.name, stored.recipe
        dataset = title if title != benchmark else None
        modalities = modalities if modalities is not None else ",".join(stored.modalities)
        protocol = stored.protocol
    recipe = {
        "steps": steps,
        "epochs": epochs,
        "batch": batch_size,
        "learning_rate": learning_rate,
        "weight_decay": weight_decay,
        "dropout": dropout,
        "width": width,
        "patience": patience,
    }
    options: dict[str, Any] = {
        "dataset": dataset,
        "usual": usual,
        "calibrators": names_of(calibrators),
        "seeds": seeds,
        "protocol": protocol,
        "modalities": names_of(modalities) if modalities is not None else None,
        "calibrate": calibrate,
        "method": method,
        "preset": preset,
        "encoders": encoders,
        "recipe": {name: value for name, value in recipe.items() if value is not None},
    }
    parts = Devices(
        devices=devices,
        strategy=strategy,
        precision=precision,
        accumulate=accumulate,
        accelerator=accelerator,
        across=across,
    )
    console = make_console(json_to)
    every = None
    if dynamics or dynamics_every is not None:
        every = dynamics_every if dynamics_every is not None else DEFAULT_EVERY
    how: dict[str, Any] = {
        "data": data,
        "jobs": jobs,
        "vectorise": vectorise,
        "say": console.print,
        "devices": parts,
        "checkpoint_every": checkpoint_every,
    }
    if fusion is not None and ("," in fusion or "@" in fusion):
        if every is not None:
            raise UsageError("--dynamics records one fusion; name one with --fusion, or leave --dynamics out")
        configs = make_grid(benchmark, names_of(fusion), **options)
        folder = out if out is not None else Path("runs") / f"{title}-grid{_suffix(method)}"
        with training_bar() as shown:
            results = run_grid(configs, folder, alone=alone, **shown, **how)
        if not results:  # a process other than the first
            return
        print_grid(console, results)
        seconds = time.perf_counter() - start
        console.print(f"{plural(len(results['rows']), 'row')} in {folder}; this command took {seconds:.0f} s")
    else:
        config = make_config(benchmark, fusion=fusion, **options)
        folder = out if out is not None else Path("runs") / f"{title}-{config.fusion}{_suffix(method)}"
        with training_bar() as shown:
            results = study(config, folder, dynamics=every, baselines=alone, **shown, **how)
        if not results:
            return
        _print_results(console, results, folder, time.perf_counter() - start)
    console.print(f"the report: {write_page(folder)}")
    put_json(json_to, results)


def _suffix(method: str) -> str:
    return "" if method == "none" else f"-{method}"


def _print_results(console: Console, results: Mapping[str, Any], folder: Path, seconds: float) -> None:
    from concordant.report import record, sentences
    from concordant.report.format import plural
    from concordant.report.tables import scores
    from concordant.report.tables.verdict import verdict_table

    verdict = verdict_table(results)
    for table in [*([verdict] if verdict.rows else []), *scores.terminal_tables(results)]:
        console.print(record.terminal(table))
    for line in (*sentences.difference_lines(results), *sentences.worth(results)):
        console.print(line)
    console.print(f"{plural(len(results['runs']), 'run')} in {folder}; this command took {seconds:.0f} s")


@contextmanager
def training_bar() -> Iterator[dict[str, Any]]:
    """Show the progress of training; return the options of `study` for it.

    There are none in a process of torchrun or srun other than the first, which shows nothing.
    """
    from concordant.training.devices import launched

    there = launched()
    if there is not None and there.rank > 0:
        yield {}
        return
    with progress_bar("training") as progress:
        yield {"progress": progress, "within": progress.within}

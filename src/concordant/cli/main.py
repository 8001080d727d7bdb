"""The command line: `concordant run`, `concordant list`, and the commands beside this file; layers below do the work.

Exit status: 0, 1 (a job failed, or a file cannot be used), 2 (wrong use). With `--json -` standard output
holds JSON and nothing else; all that is meant for people then goes to standard error.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

try:
    import typer
except ModuleNotFoundError as missing:  # pragma: no cover - the core was installed without its commands
    sys.exit(f"concordant: {missing.name} is not installed; the commands need: pip install 'concordant[experiments]'")

from concordant.cli.analyses import inspect_command, report_command, stress_command, write_page
from concordant.cli.data import data_app
from concordant.cli.deploy import export_command, predict_command, share_command
from concordant.cli.devices import (
    Accelerator,
    Accumulate,
    Across,
    CheckpointEvery,
    Count,
    Precision,
    Strategy,
    devices_of,
    training_bar,
)
from concordant.cli.speed import speed_command
from concordant.cli.sweep import sweep_command
from concordant.cli.terminal import make_console, names_of, put_json
from concordant.errors import ConcordantError, UsageError

if TYPE_CHECKING:
    from rich.console import Console

app = typer.Typer(
    name="concordant",
    help="Calibrate multimodal features before they are fused, and prove it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(data_app, name="data")
app.command("stress")(stress_command)
app.command("inspect")(inspect_command)
app.command("report")(report_command)
app.command("predict")(predict_command)
app.command("export")(export_command)
app.command("share")(share_command)
app.command("sweep")(sweep_command)
app.command("speed")(speed_command)


def main() -> None:
    """Run the command line; what the console script calls."""
    try:
        app()
    except ConcordantError as error:
        sys.stderr.write(f"concordant: {error}\n")
        sys.exit(2 if isinstance(error, UsageError) else 1)
    except KeyboardInterrupt:
        sys.stderr.write("concordant: stopped; give the same command again to go on\n")
        sys.exit(130)


@app.callback()
def _root() -> None:
    """Calibrate multimodal features before they are fused, and prove it."""


@app.command("run")
def run_command(
    benchmark: Annotated[
        str,
        typer.Argument(help="A benchmark of `concordant list benchmarks`, or the folder or URL of a prepared dataset."),
    ],
    fusion: Annotated[
        str | None,
        typer.Option(
            help="A fusion of `concordant list fusions`; several, or FUSION@POINT, make a grid; default: by benchmark."
        ),
    ] = None,
    calibrators: Annotated[
        str, typer.Option(help="Some of `concordant list calibrators`.")
    ] = "none,self,joint,context",
    seeds: Annotated[int, typer.Option(help="How many seeds: splits, initial weights, orders of batches.")] = 5,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the results; default: runs/<benchmark>-<fusion>, or -grid.")
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="Data folder or URL; default: CONCORDANT_DATA, or ../shared/data.")
    ] = None,
    protocol: Annotated[str | None, typer.Option(help="How the benchmark is split; default: its first.")] = None,
    modalities: Annotated[str | None, typer.Option(help="Some of the benchmark's modalities; default: all.")] = None,
    calibrate: Annotated[
        str | None, typer.Option(help="Where the calibrator stands: a point of the fusion; default: its first.")
    ] = None,
    method: Annotated[str, typer.Option(help="A training method of `concordant list methods`.")] = "none",
    preset: Annotated[str, typer.Option(help="Sizes of the fusion: small, or paper (as published).")] = "small",
    encoders: Annotated[str, typer.Option(help="small, or resnet18 for images, spectrograms and frames.")] = "small",
    steps: Annotated[int | None, typer.Option(help="Optimiser steps of a run; default: by benchmark.")] = None,
    jobs: Annotated[int | None, typer.Option(help="Runs that go at once; default: one a core.")] = None,
    vectorise: Annotated[
        str, typer.Option(help="Train all seeds of a calibrator in one pass: auto (where it pays), on, or off.")
    ] = "auto",
    alone: Annotated[
        bool, typer.Option(help="In a grid, train every fusion with each modality alone as well, to compare with.")
    ] = True,
    dynamics: Annotated[
        bool, typer.Option("--dynamics", help="Observe training: gradients, conflict, probes, reliability over time.")
    ] = False,
    dynamics_every: Annotated[
        int | None, typer.Option(help="Observe every so many steps; default: so that it costs under a tenth.")
    ] = None,
    devices: Count = 1,
    strategy: Strategy = "auto",
    precision: Precision = "32-true",
    accumulate: Accumulate = 1,
    accelerator: Accelerator = "auto",
    across: Across = "gather",
    checkpoint_every: CheckpointEvery = None,
    json_to: Annotated[str | None, typer.Option("--json", help="Write the results here too; - = stdout.")] = None,
) -> None:
    """Compare fusions with and without calibration, over paired seeds, clean and when a modality lies.

    A command that was stopped goes on where it was when it is given again.
    """
    from concordant.benchmarks.catalogue import is_store, store_at, stored_as
    from concordant.dynamics.runs import DEFAULT_EVERY
    from concordant.study.experiment import study
    from concordant.study.grid import make_grid, run_grid
    from concordant.training.config import make_config

    start = time.perf_counter()
    title = benchmark
    if is_store(benchmark):
        store = store_at(benchmark)
        data = str(store)
        benchmark, title, known = stored_as(store)
        modalities = modalities if modalities is not None else ",".join(known)
    options: dict[str, Any] = {
        "calibrators": names_of(calibrators),
        "seeds": seeds,
        "protocol": protocol,
        "modalities": names_of(modalities) if modalities is not None else None,
        "calibrate": calibrate,
        "method": method,
        "preset": preset,
        "encoders": encoders,
        "recipe": {"steps": steps} if steps is not None else None,
    }
    where: dict[str, Any] = {
        "devices": devices_of(devices, strategy, precision, accumulate, accelerator, across),
        "checkpoint_every": checkpoint_every,
    }
    console = make_console(json_to)
    every = None
    if dynamics or dynamics_every is not None:
        every = dynamics_every if dynamics_every is not None else DEFAULT_EVERY
    how: dict[str, Any] = {"data": data, "jobs": jobs, "vectorise": vectorise, "say": console.print, **where}
    if fusion is not None and ("," in fusion or "@" in fusion):
        if every is not None:
            raise UsageError("--dynamics observes one fusion; name one with --fusion, or leave it out of a grid")
        configs = make_grid(benchmark, names_of(fusion), **options)
        folder = out if out is not None else Path("runs") / f"{title}-grid{_suffix(method)}"
        with training_bar() as progress:
            results = run_grid(configs, folder, alone=alone, progress=progress, **how)
        if not results:  # the first process of several says it all
            return
        _print_grid(console, results, folder, time.perf_counter() - start)
    else:
        config = make_config(benchmark, fusion=fusion, **options)
        folder = out if out is not None else Path("runs") / f"{title}-{config.fusion}{_suffix(method)}"
        with training_bar() as progress:
            results = study(config, folder, progress=progress, dynamics=every, **how)
        if not results:
            return
        _print_results(console, results, folder, time.perf_counter() - start)
    console.print(f"the report: {write_page(folder)}")
    put_json(json_to, results)


@app.command("list")
def list_command(
    kind: Annotated[
        str | None, typer.Argument(help="benchmarks, fusions, calibrators, methods or corruptions; default: all.")
    ] = None,
    json_to: Annotated[str | None, typer.Option("--json", help="Write an array of objects here; - = stdout.")] = None,
) -> None:
    """List what can be run, a line each; one kind alone with all there is to say of it."""
    from concordant.study.catalogue import catalogue

    entries = catalogue(kind)
    if json_to is not None:
        put_json(json_to, entries)
        if json_to == "-":
            return
    from concordant.report.listing import full_list, short_list

    make_console(None).print(short_list(entries) if kind is None else full_list(entries))


def _suffix(method: str) -> str:
    return "" if method == "none" else f"-{method}"


def _print_results(console: Console, results: Mapping[str, Any], folder: Path, seconds: float) -> None:
    from concordant.report.table import (
        comparison_table,
        detection_table,
        removal_table,
        score_table,
        sentiment_table,
        summary_line,
    )

    console.print(score_table(results))
    sentiment = sentiment_table(results)
    if sentiment is not None:
        console.print(sentiment)
    detection = detection_table(results)
    if detection is not None:
        console.print(detection)
    console.print(removal_table(results))
    if results["comparisons"]:
        console.print(comparison_table(results))
        console.print(summary_line(results))
    console.print(f"{len(results['runs'])} runs in {folder}; this command took {seconds:.0f} s")


def _print_grid(console: Console, grid: Mapping[str, Any], folder: Path, seconds: float) -> None:
    from concordant.report.grid import grid_lines, grid_table, legend

    console.print(grid_table(grid))
    console.print(legend(grid))
    for line in grid_lines(grid):
        console.print(line)
    console.print(f"{len(grid['rows'])} rows in {folder}; this command took {seconds:.0f} s")

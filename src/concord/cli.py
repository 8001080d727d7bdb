"""The command line: `concord run`, `concord list`. Thin; what commands do is in the layers below.

Exit status: 0, 1 (a job failed, or a file cannot be used), 2 (wrong use). With `--json -` standard output
holds JSON and nothing else; all that is meant for people then goes to standard error.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

try:
    import typer
except ModuleNotFoundError as missing:  # pragma: no cover - the core was installed without its commands
    sys.exit(f"concord: {missing.name} is not installed; the commands need: pip install 'concord-fusion[experiments]'")

from concord.errors import ConcordError, UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from concord.analysis.study import Progress

app = typer.Typer(
    name="concord",
    help="Calibrate multimodal features before they are fused, and prove it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def main() -> None:
    """Run the command line; what the console script calls."""
    try:
        app()
    except ConcordError as error:
        sys.stderr.write(f"concord: {error}\n")
        sys.exit(2 if isinstance(error, UsageError) else 1)
    except KeyboardInterrupt:
        sys.stderr.write("concord: stopped; give the same command again to go on\n")
        sys.exit(130)


@app.callback()
def _root() -> None:
    """Calibrate multimodal features before they are fused, and prove it."""


@app.command("run")
def run_command(
    benchmark: Annotated[str, typer.Argument(help="A benchmark of `concord list benchmarks`.")],
    fusion: Annotated[
        str | None,
        typer.Option(
            help="A fusion of `concord list fusions`; several, or FUSION@POINT, make a grid; default: by benchmark."
        ),
    ] = None,
    calibrators: Annotated[str, typer.Option(help="Some of `concord list calibrators`.")] = "none,self,joint,context",
    seeds: Annotated[int, typer.Option(help="How many seeds: splits, initial weights, orders of batches.")] = 5,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the results; default: runs/<benchmark>-<fusion>, or -grid.")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="Data folder; default: CONCORD_DATA, or ../shared/data.")] = None,
    protocol: Annotated[str | None, typer.Option(help="How the benchmark is split; default: its first.")] = None,
    modalities: Annotated[str | None, typer.Option(help="Some of the benchmark's modalities; default: all.")] = None,
    calibrate: Annotated[
        str | None, typer.Option(help="Where the calibrator stands: a point of the fusion; default: its first.")
    ] = None,
    method: Annotated[str, typer.Option(help="A training method of `concord list methods`.")] = "none",
    preset: Annotated[str, typer.Option(help="Sizes of the fusion: small, or paper (as published).")] = "small",
    encoders: Annotated[str, typer.Option(help="small, or resnet18 for images, spectrograms and frames.")] = "small",
    steps: Annotated[int | None, typer.Option(help="Optimiser steps of a run; default: by benchmark.")] = None,
    jobs: Annotated[int | None, typer.Option(help="Runs that go at once; default: one a core.")] = None,
    alone: Annotated[
        bool, typer.Option(help="In a grid, train every fusion with each modality alone as well, to compare with.")
    ] = True,
    json_to: Annotated[str | None, typer.Option("--json", help="Write the results here too; - = stdout.")] = None,
) -> None:
    """Compare fusions with and without calibration, over paired seeds, clean and when a modality lies.

    A command that was stopped goes on where it was when it is given again.
    """
    from concord.analysis.grid import make_grid, run_grid
    from concord.analysis.study import study
    from concord.experiment.config import make_config

    start = time.perf_counter()
    options: dict[str, Any] = {
        "calibrators": _names(calibrators),
        "seeds": seeds,
        "protocol": protocol,
        "modalities": _names(modalities) if modalities is not None else None,
        "calibrate": calibrate,
        "method": method,
        "preset": preset,
        "encoders": encoders,
        "recipe": {"steps": steps} if steps is not None else None,
    }
    console = _console(json_to)
    if fusion is not None and ("," in fusion or "@" in fusion):
        configs = make_grid(benchmark, _names(fusion), **options)
        folder = out if out is not None else Path("runs") / f"{benchmark}-grid{_suffix(method)}"
        with _progress() as progress:
            results = run_grid(configs, folder, alone=alone, data=data, jobs=jobs, progress=progress)
        _print_grid(console, results, folder, time.perf_counter() - start)
    else:
        config = make_config(benchmark, fusion=fusion, **options)
        folder = out if out is not None else Path("runs") / f"{config.benchmark}-{config.fusion}{_suffix(method)}"
        with _progress() as progress:
            results = study(config, folder, data=data, jobs=jobs, progress=progress)
        _print_results(console, results, folder, time.perf_counter() - start)
    _write_json(json_to, results)


@app.command("list")
def list_command(
    kind: Annotated[
        str | None, typer.Argument(help="benchmarks, fusions, calibrators or methods; default: all.")
    ] = None,
    json_to: Annotated[str | None, typer.Option("--json", help="Write an array of objects here; - = stdout.")] = None,
) -> None:
    """List what can be run, a line each; one kind alone with all there is to say of it."""
    from concord.analysis.catalogue import catalogue

    entries = catalogue(kind)
    if json_to is not None:
        _write_json(json_to, entries)
        if json_to == "-":
            return
    from concord.report.listing import full_list, short_list

    _console(None).print(short_list(entries) if kind is None else full_list(entries))


def _suffix(method: str) -> str:
    return "" if method == "none" else f"-{method}"


def _names(text: str) -> tuple[str, ...]:
    """Return the names of a list separated by commas."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _console(json_to: str | None) -> Console:
    """Return where people read: standard output, or standard error when JSON has the former."""
    from rich.console import Console

    # In a pipe there is no width to keep to: a line of a table stays a line.
    console = Console(stderr=json_to == "-", highlight=False)
    return console if console.is_terminal else Console(stderr=json_to == "-", highlight=False, width=200)


@contextmanager
def _progress() -> Iterator[Progress | None]:
    """Show a progress bar on standard error if that is a terminal; else stay quiet."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    columns = (
        TextColumn("training"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=None)

        def update(done: int, total: int, line: str) -> None:
            bar.update(task, completed=done, total=total, description=line)

        yield update


def _print_results(console: Console, results: Mapping[str, Any], folder: Path, seconds: float) -> None:
    from concord.report.table import comparison_table, detection_table, removal_table, score_table, summary_line

    console.print(score_table(results))
    detection = detection_table(results)
    if detection is not None:
        console.print(detection)
    console.print(removal_table(results))
    if results["comparisons"]:
        console.print(comparison_table(results))
        console.print(summary_line(results))
    console.print(f"{len(results['runs'])} runs in {folder}; this command took {seconds:.0f} s")


def _print_grid(console: Console, grid: Mapping[str, Any], folder: Path, seconds: float) -> None:
    from concord.report.grid import grid_lines, grid_table, legend

    console.print(grid_table(grid))
    console.print(legend(grid))
    for line in grid_lines(grid):
        console.print(line)
    console.print(f"{len(grid['rows'])} rows in {folder}; this command took {seconds:.0f} s")


def _write_json(to: str | None, value: Any) -> None:  # noqa: ANN401
    """Write JSON to a file, atomically, or to standard output."""
    if to is None:
        return
    text = json.dumps(value, indent=2, allow_nan=False) + "\n"
    if to == "-":
        sys.stdout.write(text)
        return
    from concord.files import write_text

    try:
        write_text(Path(to), text)
    except OSError as error:
        raise UsageError(f"--json: cannot write to {to} ({error.strerror})") from None

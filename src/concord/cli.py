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
        str | None, typer.Option(help="A fusion of `concord list fusions`; default: by benchmark.")
    ] = None,
    calibrators: Annotated[str, typer.Option(help="Some of `concord list calibrators`.")] = "none,self,joint,context",
    seeds: Annotated[int, typer.Option(help="How many seeds: splits, initial weights, orders of batches.")] = 5,
    out: Annotated[Path | None, typer.Option(help="Folder of the results; default: runs/<benchmark>-<fusion>.")] = None,
    data: Annotated[Path | None, typer.Option(help="Data folder; default: CONCORD_DATA, or ../shared/data.")] = None,
    protocol: Annotated[str | None, typer.Option(help="How the benchmark is split; default: its first.")] = None,
    modalities: Annotated[str | None, typer.Option(help="Some of the benchmark's modalities; default: all.")] = None,
    steps: Annotated[int | None, typer.Option(help="Optimiser steps of a run; default: by benchmark.")] = None,
    jobs: Annotated[int | None, typer.Option(help="Runs that go at once; default: one a core.")] = None,
    json_to: Annotated[str | None, typer.Option("--json", help="Write results.json here too; - = stdout.")] = None,
) -> None:
    """Compare a fusion with and without calibration, over paired seeds, clean and when a modality lies.

    A command that was stopped goes on where it was when it is given again.
    """
    from concord.analysis.study import study
    from concord.experiment.config import make_config

    start = time.perf_counter()
    config = make_config(
        benchmark,
        fusion=fusion,
        calibrators=_names(calibrators),
        seeds=seeds,
        protocol=protocol,
        modalities=_names(modalities) if modalities is not None else None,
        recipe={"steps": steps} if steps is not None else None,
    )
    folder = out if out is not None else Path("runs") / f"{config.benchmark}-{config.fusion}"
    console = _console(json_to)
    with _progress() as progress:
        results = study(config, folder, data=data, jobs=jobs, progress=progress)
    _print_results(console, results, folder, time.perf_counter() - start)
    _write_json(json_to, results)


@app.command("list")
def list_command(
    kind: Annotated[str | None, typer.Argument(help="benchmarks, fusions or calibrators; default: all.")] = None,
    json_to: Annotated[str | None, typer.Option("--json", help="Write an array of objects here; - = stdout.")] = None,
) -> None:
    """List what can be run, a line each."""
    entries = _entries(kind)
    if json_to is not None:
        _write_json(json_to, entries)
        if json_to == "-":
            return
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for heading in ("kind", "name", "setting", "summary"):
        table.add_column(heading)
    for entry in entries:
        table.add_row(entry["kind"], entry["name"], entry["setting"] or "", entry["summary"])
    _console(None).print(table)


def _entries(kind: str | None) -> list[dict[str, Any]]:
    """Return the entries of one registry, or of all."""
    from concord.data.benchmarks import BENCHMARKS
    from concord.fusion import FUSIONS
    from concord.registry import Registry
    from concord.rivals import CALIBRATORS

    registries: dict[str, Registry[Any]] = {
        "benchmarks": BENCHMARKS,
        "fusions": FUSIONS,
        "calibrators": CALIBRATORS,
    }
    if kind is not None and kind not in registries:
        raise UsageError(f"unknown kind {kind!r}; choose from: {', '.join(registries)}")
    return [
        {
            "kind": what.removesuffix("s"),
            "name": name,
            "setting": getattr(registry[name], "setting", None),
            "summary": registry[name].summary,
            **_more(registry[name]),
        }
        for what, registry in registries.items()
        if kind in (None, what)
        for name in registry
    ]


def _more(entry: object) -> Mapping[str, Any]:
    """Return what only benchmarks have."""
    keys = ("modalities", "protocols", "files", "fusion")
    return {key: getattr(entry, key) for key in keys if hasattr(entry, key)}


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

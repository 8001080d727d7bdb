"""`concordant sweep`: a grid of experiments on one machine or many."""

from __future__ import annotations

import shlex
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from concordant.cli.edge import stop_status
from concordant.cli.terminal import DataOption, JsonOption, make_console, print_grid, progress_bar, put_json, write_page

if TYPE_CHECKING:
    from rich.console import Console


def sweep_command(
    grid: Annotated[Path, typer.Argument(metavar="GRID", help="A YAML file; see docs/scale.md.")],
    out: Annotated[
        Path | None,
        typer.Option(help="Folder of the results, shared by all machines; default: runs/<name of the file>."),
    ] = None,
    data: DataOption = None,
    address: Annotated[
        str | None, typer.Option(help="Address of a Ray cluster, or auto within one; default: this machine.")
    ] = None,
    cpus: Annotated[int | None, typer.Option(help="Cores to use on this machine; default: all.")] = None,
    json_to: JsonOption = None,
) -> None:
    """Run a grid of experiments on one machine or many, with a hyper-parameter search where the file has one.

    An interrupted command resumes when it is given again.
    """
    from concordant.sweep.grid_file import make_plan, read_grid
    from concordant.sweep.ray_engine import RayEngine
    from concordant.sweep.sweeping import Sweep, failures
    from concordant.training.config import data_words

    start = time.perf_counter()
    read = read_grid(grid)
    plan = make_plan(read, data=data, file=grid)
    folder = out if out is not None else Path("runs") / grid.stem
    engine = RayEngine(address=address, cpus=cpus)
    words = ["concordant", "sweep", str(grid), "--out", str(folder), *data_words(data)]
    console = make_console(json_to)
    try:
        with progress_bar("sweep") as progress:
            sweep = Sweep(read, plan, folder, command=shlex.join(words), progress=progress)
            found = sweep.run(lambda: engine)
    except BaseException:
        if stop_status() is not None:
            how = f"{folder}/log.txt shows how far it got; give the same command again to go on"
            typer.echo(f"concordant: stopped; {how}", err=True)
        raise
    for one in found["experiments"]:
        _print_search(console, one)
    _print_tables(console, found, folder)
    for one in found["failed"]:
        console.print(f"failed: {one['trial']}: {one['error']}", soft_wrap=True, markup=False)
    again = f", {found['retried']} tried again after a worker died" if found["retried"] else ""
    seconds = time.perf_counter() - start
    console.print(f"{found['finished']} of {found['runs']} runs in {folder}{again}; this command took {seconds:.0f} s")
    if any(one["results"] for one in found["experiments"]):
        console.print(f"the report: {write_page(folder)}")
    put_json(json_to, found)
    error = failures(found)
    if error is not None:
        raise error


def _print_search(console: Console, one: Mapping[str, Any]) -> None:
    """Print what a search chose."""
    for label, row in (one["chosen"] or {}).items():
        if row is not None:
            recipe = ", ".join(
                f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}"
                for name, value in row["recipe"].items()
            )
            console.print(f"{one['name']}: {label}: {recipe} (validation {row['mean']:.3f})", markup=False)


def _print_tables(console: Console, found: Mapping[str, Any], folder: Path) -> None:
    """Print the finished tables: a grid of several fusions, or one experiment."""
    from concordant.documents import read_document
    from concordant.report import record, sentences
    from concordant.report.tables import scores

    for group in dict.fromkeys(one["group"] for one in found["experiments"]):
        sheet = folder / group / "grid.json"
        if sheet.is_file():
            print_grid(console, read_document(sheet, "grid"))
            continue
        for one in found["experiments"]:
            if one["group"] == group and one["results"]:
                results = read_document(folder / one["name"] / "results.json", "results")
                console.print(record.terminal(scores.terminal_tables(results)[0]))
                for line in sentences.difference_lines(results):
                    console.print(line)

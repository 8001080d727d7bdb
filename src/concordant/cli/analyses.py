"""`concordant stress`, `concordant inspect` and `concordant report`: analyses of trained runs."""

from __future__ import annotations

import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from concordant.cli.terminal import (
    DataOption,
    JobsOption,
    JsonOption,
    RunArgument,
    complete,
    make_console,
    names_of,
    progress_bar,
    put_json,
    write_page,
)
from concordant.errors import UsageError
from concordant.files import writing

if TYPE_CHECKING:
    from concordant.training.runs import RunFolder


def stress_command(
    run: RunArgument,
    removal: Annotated[bool, typer.Option("--removal", help="Score every subset of the modalities.")] = False,
    corruption: Annotated[
        bool, typer.Option("--corruption", help="Score every corruption at five severities.")
    ] = False,
    kinds: Annotated[
        str | None,
        typer.Option(
            help="Names from `concordant list corruptions`; default: all that apply.",
            autocompletion=complete("corruptions"),
        ),
    ] = None,
    at: Annotated[
        str, typer.Option(help="What to corrupt: inputs (and the waveforms behind them), or features.")
    ] = "inputs",
    metric: Annotated[str, typer.Option(help="The score to report; higher must be better.")] = "accuracy",
    data: DataOption = None,
    jobs: JobsOption = None,
    json_to: JsonOption = None,
) -> None:
    """Score every trained run of a folder with modalities removed or corrupted, and update the report.

    Default: both. Results that are there already are not computed again.
    """
    from concordant.report import record
    from concordant.report.tables import robustness
    from concordant.study.stress import stress_corruption, stress_removal

    start = time.perf_counter()
    if at not in ("inputs", "features"):
        raise UsageError(f"--at must be inputs or features; found {at!r}")
    if jobs is not None and jobs < 1:
        raise UsageError(f"--jobs must be 1 or more parallel runs; found {jobs}")
    if removal and not corruption and (kinds is not None or at != "inputs"):
        raise UsageError("--kinds and --at go with --corruption; add it, or leave them out")
    both = not removal and not corruption
    console, runs = make_console(json_to), _open(run)
    found: dict[str, Any] = {}
    common: dict[str, Any] = {"data": data, "metric": metric, "jobs": jobs}
    if removal or both:
        with progress_bar("removal") as progress:
            found["removal"] = stress_removal(runs, progress=progress, within=progress.within, **common)
        for table in (robustness.removal(found["removal"], retained=True), robustness.removal_rates(found["removal"])):
            console.print(record.terminal(table))
    if corruption or both:
        chosen = None if kinds is None else names_of(kinds)
        with progress_bar("corruption") as progress:
            found["corruption"] = stress_corruption(
                runs,
                kinds=chosen,
                at="features" if at == "features" else "inputs",
                progress=progress,
                within=progress.within,
                **common,
            )
        for table in robustness.corruption_terminal(found["corruption"]):
            console.print(record.terminal(table))
    page = write_page(run)
    console.print(f"{page} is up to date; this command took {time.perf_counter() - start:.0f} s")
    put_json(json_to, found if both or (removal and corruption) else next(iter(found.values())))


def inspect_command(
    run: RunArgument,
    calibrator: Annotated[
        str | None, typer.Option(help="A calibrator of the folder; default: context, or the last with reliabilities.")
    ] = None,
    seed: Annotated[int, typer.Option(help="The seed of the run.")] = 0,
    sample: Annotated[str | None, typer.Option(help="Explain the test instance with this id.")] = None,
    data: DataOption = None,
    json_to: JsonOption = None,
) -> None:
    """Show how a calibrator changes the features of the test split, and which instances it distrusts most.

    With --sample, explain one instance and write no report.
    """
    from dataclasses import asdict

    from concordant.report import record
    from concordant.report.tables import insight
    from concordant.training.config import data_words
    from concordant.visualisation.inspection import explain_sample, inspect_features, open_inspected

    console = make_console(json_to)
    inspected = open_inspected(_open(run), label=calibrator, seed=seed, data=data)
    if sample is not None:
        explanation = explain_sample(inspected, sample)
        console.print(record.terminal(insight.explanation(explanation)))
        put_json(json_to, asdict(explanation))
        return
    document = inspect_features(inspected)
    for table in (insight.separation(document), insight.distrusted(document, 10)):
        console.print(record.terminal(table))
    again = shlex.join(["concordant", "inspect", str(run), *data_words(data)])
    console.print(f"{write_page(run)} is up to date; one instance: {again} --sample ID")
    put_json(json_to, document)


def report_command(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN...", help="Folders that `concordant run` or `concordant sweep` wrote.")
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="The page; default: report.html in the folder, or ./report.html for several."),
    ] = None,
) -> None:
    """Write one self-contained HTML page that shows one or several runs side by side."""
    from concordant.report.page import read_all, write_report

    path = out if out is not None else (runs[0] / "report.html" if len(runs) == 1 else Path("report.html"))
    with writing(path):
        write_report([one for run in runs for one in read_all(run)], path)
    make_console().print(str(path))


def _open(run: Path) -> RunFolder:
    from concordant.training.runs import open_runs

    return open_runs(run)

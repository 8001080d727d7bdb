"""The commands `concordant stress`, `concordant inspect` and `concordant report`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from concordant.cli.terminal import make_console, names_of, progress_bar, put_json
from concordant.errors import UsageError

if TYPE_CHECKING:
    from concordant.training.runs import TrainedRuns

Run = Annotated[Path, typer.Argument(metavar="RUN", help="A folder that `concordant run` made.")]
Data = Annotated[str | None, typer.Option(help="Data folder or URL; default: CONCORDANT_DATA, or ../shared/data.")]
Json = Annotated[str | None, typer.Option("--json", help="Write the results here too; - = stdout.")]


def stress_command(
    run: Run,
    removal: Annotated[bool, typer.Option("--removal", help="Score every subset of the modalities.")] = False,
    corruption: Annotated[
        bool, typer.Option("--corruption", help="Score every corruption at five severities.")
    ] = False,
    kinds: Annotated[
        str | None, typer.Option(help="Some of `concordant list corruptions`; default: all that can be applied.")
    ] = None,
    at: Annotated[
        str, typer.Option(help="What is corrupted: inputs (and the waveforms behind them), or features.")
    ] = "inputs",
    metric: Annotated[str, typer.Option(help="What is followed; one that is better when higher.")] = "accuracy",
    data: Data = None,
    jobs: Annotated[int | None, typer.Option(help="Runs that go at once; default: one a core.")] = None,
    json_to: Json = None,
) -> None:
    """Stress every trained run of a folder: modalities removed, modalities corrupted; the report is written anew.

    Without --removal and --corruption it does both. What a run gave before is not computed again.
    """
    from concordant.report.analyses import corruption_tables, removal_tables
    from concordant.study.stress import stress_corruption, stress_removal

    start = time.perf_counter()
    if at not in ("inputs", "features"):
        raise UsageError(f"--at must be inputs or features; found {at!r}")
    if jobs is not None and jobs < 1:
        raise UsageError(f"--jobs must be 1 or more, the runs that go at once; found {jobs}")
    both = not removal and not corruption
    console, runs = make_console(json_to), _open(run)
    found: dict[str, Any] = {}
    common: dict[str, Any] = {"data": data, "metric": metric, "jobs": jobs}
    if removal or both:
        with progress_bar("removal") as progress:
            found["removal"] = stress_removal(runs, progress=progress, **common)
        for table in removal_tables(found["removal"]):
            console.print(table)
    if corruption or both:
        chosen = None if kinds is None else names_of(kinds)
        with progress_bar("corruption") as progress:
            found["corruption"] = stress_corruption(
                runs,
                kinds=chosen,
                at="features" if at == "features" else "inputs",
                progress=progress,
                **common,
            )
        for table in corruption_tables(found["corruption"]):
            console.print(table)
    page = write_page(run)
    console.print(f"{page} is up to date; this command took {time.perf_counter() - start:.0f} s")
    put_json(json_to, found if both or (removal and corruption) else next(iter(found.values())))


def inspect_command(
    run: Run,
    calibrator: Annotated[
        str | None, typer.Option(help="Which method of the folder; default: context, or the last that judges.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Which seed.")] = 0,
    sample: Annotated[str | None, typer.Option(help="Explain this instance of the test part, by its id.")] = None,
    data: Data = None,
    json_to: Json = None,
) -> None:
    """See what a calibrator does to the features of the test part, and which instances it distrusts most.

    With --sample it explains one instance, and writes no report.
    """
    from dataclasses import asdict

    from concordant.report.analyses import explanation_table, feature_tables
    from concordant.visualisation.inspection import explain_sample, inspect_features, open_inspected

    console = make_console(json_to)
    inspected = open_inspected(_open(run), label=calibrator, seed=seed, data=data)
    if sample is not None:
        explanation = explain_sample(inspected, sample)
        console.print(explanation_table(explanation))
        put_json(json_to, asdict(explanation))
        return
    document = inspect_features(inspected)
    for table in feature_tables(document):
        console.print(table)
    console.print(f"{write_page(run)} is up to date; one instance: concordant inspect {run} --sample ID")
    put_json(json_to, document)


def report_command(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN...", help="Folders that `concordant run` or `concordant sweep` made.")
    ],
    out: Annotated[
        Path | None, typer.Option(help="The page; default: report.html in the folder, or here of several.")
    ] = None,
) -> None:
    """Write one self-contained HTML page of one or several runs, side by side."""
    from concordant.report.html import read_all, write_report

    path = out if out is not None else (runs[0] / "report.html" if len(runs) == 1 else Path("report.html"))
    try:
        write_report([one for run in runs for one in read_all(run)], path)
    except OSError as error:
        raise UsageError(f"--out: cannot write to {path} ({error.strerror})") from None
    make_console().print(str(path))


def write_page(folder: Path) -> Path:
    """Write report.html of a folder anew; return where it is."""
    from concordant.report.html import read_all, write_report

    path = folder / "report.html"
    write_report(read_all(folder), path)
    return path


def _open(run: Path) -> TrainedRuns:
    from concordant.training.runs import open_runs

    return open_runs(run)

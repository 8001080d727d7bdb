"""Run the study: `make results`, `make results QUICK=1`, or `python -m studies.paper [--quick] [FAMILY ...]`.

The grid (studies.paper.grid) is run cell by cell: searched, trained, stressed, compared. The results of a cell go to
results/proof/cells, and a cell with its file there is not run again. After each cell the files made of all finished
ones are written: to results/ (summary.json, PROOF.md, proof/, search/), with the blocks of README and docs; of the
quick grid to results/quick, which fill no blocks.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from concordant.errors import DataError
from concordant.study.experiment import Execution
from studies import common
from studies.paper.findings import Findings
from studies.paper.grid import FULL, QUICK
from studies.paper.pages import FOLDER, fill_docs, headline
from studies.paper.run import Study


def main(
    families: Annotated[list[str] | None, typer.Argument(metavar="[FAMILY]...", help="Run some; default: all.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Few cells, few seeds, short training.")] = False,
    tables: Annotated[bool, typer.Option("--tables", help="Run nothing; write from the finished cells.")] = False,
    stop_after: Annotated[float | None, typer.Option(help="Minutes after which no run is started.")] = None,
    data: common.Data = None,
    jobs: common.Jobs = None,
    out: Annotated[Path | None, typer.Option(help="The folder of the runs; default: runs/proof, -quick.")] = None,
    results: Annotated[Path | None, typer.Option(help="The folder of tables and cells; default: results/...")] = None,
) -> None:
    """Run the study, or resume it."""
    if stop_after is not None and not stop_after >= 0:
        raise typer.BadParameter(f"--stop-after must be 0 minutes or more; found {stop_after}")
    name, own = "quick" if quick else "", results is None
    grid = QUICK if quick else FULL
    common.chosen(families, [one.name for one in grid.families], "family")
    folder = common.RESULTS / name if results is None else results
    start = time.monotonic()

    def progress(done: int, total: int, line: str) -> None:
        print(f"{time.monotonic() - start:7.0f} s  {done}/{total}  {line}", flush=True)

    study = Study(
        grid,
        out=out or common.RUNS / ("proof-quick" if quick else "proof"),
        results=folder,
        searches=common.RESULTS / "search",
        cells=folder / FOLDER / "cells",
        how=Execution(data=data, jobs=jobs, progress=progress),
        command=f"python -m studies.paper --{name}" if name else "make results",
        commit=commit(),
    )

    def fill(findings: Findings | None) -> None:
        if own and not name:
            fill_docs(common.ROOT, findings)

    if tables:
        findings = study.write()
        if findings is None:
            raise DataError(f"{study.cells} has no file of a cell of this grid; run them, without --tables")
        fill(findings)
    else:
        findings = study.run(families or None, stop_after, fill)
    if findings is None:
        print(f"0 of {len(grid.cells)} cells so far; there is nothing to write yet")
        return
    print(headline(findings))
    print(f"in {folder}: PROOF.md, summary.json, and the tables and figures under proof/")


def commit() -> str | None:
    """Return the commit of the code, and whether src/ or studies/ differ from it; None without Git or a repository."""
    git = ("git", "-C", str(common.ROOT))
    try:
        found = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
        same = subprocess.run(
            [*git, "diff", "--quiet", "HEAD", "--", "src", "studies"], capture_output=True, check=False
        )
    except OSError:
        return None
    return found.stdout.strip() + ("" if same.returncode == 0 else ", with changes") if not found.returncode else None


if __name__ == "__main__":
    try:
        common.run_script(main, __doc__, "studies.paper")
    except KeyboardInterrupt:
        print("studies.paper: stopped; the tables are of the finished cells, and the same command goes on")
        sys.exit(130)

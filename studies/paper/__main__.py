"""Run the study: `make results`, `make results QUICK=1`, or `python -m studies.paper [--quick | --wide] [FAMILY ...]`.

The grid (studies.paper.grid) is run cell by cell: searched, trained, stressed, compared. The results of a cell go to
results/proof/cells, and a cell with its file there is not run again. After each cell the files made of all finished
ones are written: to results/ (summary.json, PROOF.md, proof/, search/), with the blocks of README and docs; of the
quick grid to results/quick, of the wide one to results/wide, which fill no blocks.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

from concordant.errors import DataError
from concordant.study.experiment import Execution
from studies import common
from studies.paper.findings import Findings
from studies.paper.grid import FULL, QUICK, WIDE
from studies.paper.pages import FOLDER, fill_docs, headline
from studies.paper.run import Study

GRIDS = {"": FULL, "quick": QUICK, "wide": WIDE}


def main() -> None:
    """Run the study, or resume it."""
    families = [family.name for family in FULL.families]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "families", nargs="*", metavar="FAMILY", help=f"run some of {', '.join(families)}; default: all"
    )
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="few cells, few seeds, short training")
    size.add_argument("--wide", action="store_true", help="more fusions of each family")
    parser.add_argument("--tables", action="store_true", help="run nothing; write what is made of the finished cells")
    parser.add_argument("--stop-after", type=float, metavar="MINUTES", help="start no run after so many minutes")
    parser.add_argument("--data", help="the data folder; default: CONCORDANT_DATA, or ../shared/data")
    parser.add_argument("--jobs", **common.JOBS)
    parser.add_argument("--out", type=Path, help="the folder of the runs; default: runs/proof or runs/proof-quick")
    parser.add_argument(
        "--results", type=Path, help="where tables and cells go; default: results, results/quick or /wide"
    )
    arguments = parser.parse_args()
    name = "quick" if arguments.quick else "wide" if arguments.wide else ""
    grid, own = GRIDS[name], arguments.results is None
    known = [one.name for one in grid.families]
    unknown = [family for family in arguments.families if family not in known]
    if unknown:
        parser.error(f"unknown family {', '.join(map(repr, unknown))}; choose from: {', '.join(known)}")
    if arguments.stop_after is not None and not arguments.stop_after >= 0:
        parser.error(f"--stop-after must be 0 minutes or more; found {arguments.stop_after}")
    start = time.monotonic()

    def progress(done: int, total: int, line: str) -> None:
        print(f"{time.monotonic() - start:7.0f} s  {done}/{total}  {line}", flush=True)

    results = common.RESULTS / name if own else arguments.results
    study = Study(
        grid,
        out=arguments.out or common.RUNS / ("proof-quick" if arguments.quick else "proof"),
        results=results,
        searches=common.RESULTS / "search",
        # The cells of the full grid are among those of the wide one.
        cells=(common.RESULTS if own and arguments.wide else results) / FOLDER / "cells",
        how=Execution(data=arguments.data, jobs=arguments.jobs, progress=progress),
        command=f"python -m studies.paper --{name}" if name else "make results",
        commit=commit(),
    )

    def fill(findings: Findings | None) -> None:
        if own and not name:
            fill_docs(common.ROOT, findings)

    if arguments.tables:
        findings = study.write()
        if findings is None:
            raise DataError(
                f"{study.cells} has no cell that is what the grid asks for now; without --tables they are run"
            )
        fill(findings)
    else:
        findings = study.run(arguments.families or None, arguments.stop_after, fill)
    if findings is None:
        print(f"0 of {len(grid.cells)} cells so far; there is nothing to write yet")
        return
    print(headline(findings))
    print(f"in {results}: PROOF.md, summary.json, and the tables and figures under proof/")


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
        common.run_script(main, "studies.paper")
    except KeyboardInterrupt:
        print("studies.paper: stopped; the tables are of the finished cells, and the same command goes on")
        sys.exit(130)

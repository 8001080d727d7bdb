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

from concordant.errors import ConcordantError
from studies.paper.grid import FULL, QUICK, WIDE
from studies.paper.pages import FOLDER, fill_docs
from studies.paper.run import CELLS, SEARCH, Places, run_study, write_tables
from studies.paper.sentences import standing, verdict
from studies.paper.summary import Summary

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "results"
RUNS = ROOT / "runs"


def main() -> int:
    """Run the study, or resume it."""
    families = [family.name for family in FULL.families]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "families", nargs="*", metavar="FAMILY", help=f"run some of {', '.join(families)}; default: all"
    )
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="few cells, few seeds, short training")
    size.add_argument("--wide", action="store_true", help="more fusions of each family")
    parser.add_argument("--tables", action="store_true", help="run nothing; write what comes of the finished cells")
    parser.add_argument("--stop-after", type=float, metavar="MINUTES", help="start no run after so many minutes")
    parser.add_argument("--data", help="the data folder; default: CONCORDANT_DATA, or ../shared/data")
    parser.add_argument("--jobs", type=int, help="runs that go at once; default: one a core")
    parser.add_argument("--out", type=Path, help="the folder of the runs; default: runs/proof or runs/proof-quick")
    parser.add_argument(
        "--results", type=Path, help="where tables and cells go; default: results, results/quick or /wide"
    )
    arguments = parser.parse_args()
    grid = QUICK if arguments.quick else WIDE if arguments.wide else FULL
    known = [one.name for one in grid.families]
    unknown = [name for name in arguments.families if name not in known]
    if unknown:
        parser.error(f"unknown family {', '.join(map(repr, unknown))}; choose from: {', '.join(known)}")
    if arguments.stop_after is not None and not arguments.stop_after >= 0:
        parser.error(f"--stop-after must be 0 minutes or more; found {arguments.stop_after}")
    name = "quick" if arguments.quick else "wide" if arguments.wide else ""
    own = arguments.results is None
    results = RESULTS / name if own else arguments.results
    places = Places(
        out=arguments.out or RUNS / ("proof-quick" if arguments.quick else "proof"),
        results=results,
        searches=RESULTS / SEARCH,
        cells=RESULTS / FOLDER / CELLS if own and arguments.wide else None,  # those of the full grid are among them
    )
    command = f"python -m studies.paper --{name}" if name else "make results"
    start = time.monotonic()

    def progress(done: int, total: int, line: str) -> None:
        print(f"{time.monotonic() - start:7.0f} s  {done}/{total}  {line}", flush=True)

    def fill() -> None:
        if own and not name:
            fill_docs(ROOT, RESULTS)

    if arguments.tables:
        summary: Summary | None = write_tables(grid, places, command)
        fill()
    else:
        summary = run_study(
            grid,
            places,
            families=arguments.families or None,
            stop_after=arguments.stop_after,
            command=command,
            commit=commit(),
            data=arguments.data,
            jobs=arguments.jobs,
            progress=progress,
            after=fill,
        )
    if summary is None:
        print(f"0 of {len(grid.cells)} cells so far; there is nothing to write yet")
        return 0
    for line in verdict(summary):
        print(line)
    if standing(summary.made_with):
        print(standing(summary.made_with))
    print(f"in {results}: PROOF.md, summary.json, and the tables and figures under proof/")
    return 0


def commit() -> str | None:
    """Return the commit of the code, and whether src/ or studies/ differ from it; None without Git or a repository."""
    git = ("git", "-C", str(ROOT))
    try:
        found = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
        if found.returncode:
            return None
        same = subprocess.run(
            [*git, "diff", "--quiet", "HEAD", "--", "src", "studies"], capture_output=True, check=False
        )
    except OSError:
        return None
    return found.stdout.strip() + ("" if same.returncode == 0 else ", with changes")


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ConcordantError as error:
        sys.exit(f"studies.paper: {error}")
    except KeyboardInterrupt:
        print("studies.paper: stopped; the tables are of the finished cells, and the same command goes on")
        sys.exit(130)

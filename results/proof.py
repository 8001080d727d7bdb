"""Makes the proof: `python results/proof.py [--quick] [FAMILY ...]`, or `make results`, `make results QUICK=1`.

Every cell of the grid (concord.proof.grid) is searched, trained, stressed and compared; what was done before is not
done again. The full proof writes to results/ (summary.json, PROOF.md, proof/, search/) and fills the blocks of README
and docs that come from it; the quick one writes to results/quick and fills nothing.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from concord.errors import ConcordError
from concord.proof.blocks import fill_documents
from concord.proof.grid import FULL, QUICK
from concord.proof.making import SEARCH, make_proof
from concord.proof.verdict import verdict

HERE = Path(__file__).resolve().parent
RUNS = HERE.parent / "runs"


def main() -> int:
    """Make the proof, or go on with it."""
    families = [family.name for family in FULL.families]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("families", nargs="*", metavar="FAMILY", help=f"some of {', '.join(families)}; default: all")
    parser.add_argument("--quick", action="store_true", help="few cells, few seeds, short training")
    parser.add_argument("--data", help="the data folder; default: CONCORD_DATA, or ../shared/data")
    parser.add_argument("--jobs", type=int, help="runs that go at once; default: one a core")
    parser.add_argument("--out", type=Path, help="the folder of the runs; default: runs/proof or runs/proof-quick")
    parser.add_argument("--results", type=Path, help="where tables go; default: results, of some families results/some")
    arguments = parser.parse_args()
    grid = QUICK if arguments.quick else FULL
    if arguments.families:
        unknown = [name for name in arguments.families if name not in [one.name for one in grid.families]]
        if unknown:
            parser.error(f"unknown family {unknown[0]!r}; choose from: {', '.join(one.name for one in grid.families)}")
        grid = grid.of_families(tuple(arguments.families))
    whole = not arguments.quick and not arguments.families
    out = arguments.out or RUNS / ("proof-quick" if arguments.quick else "proof")
    results = arguments.results or (HERE if whole else HERE / ("quick" if arguments.quick else "some"))
    command = " ".join(["python results/proof.py", *(["--quick"] if arguments.quick else []), *arguments.families])
    start = time.monotonic()

    def progress(done: int, total: int, line: str) -> None:
        print(f"{time.monotonic() - start:7.0f} s  {done}/{total}  {line}", flush=True)

    summary = make_proof(
        grid,
        out,
        results,
        searches=HERE / SEARCH,
        command=command,
        data=arguments.data,
        jobs=arguments.jobs,
        progress=progress,
    )
    for line in verdict(summary):
        print(line)
    print(f"in {results}: PROOF.md, summary.json, and the tables and figures under proof/")
    if whole and arguments.results is None:
        for path in fill_documents(HERE.parent, HERE):
            print(f"filled {path.name}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ConcordError as error:
        sys.exit(f"results/proof.py: {error}")

"""Makes results/analyses: `python -m studies.analyses [NAME ...]`.

Each experiment is a paired run as `concordant run --dynamics-every 10` does it, in runs/results/analyses/NAME, then
stressed as by `concordant stress` and inspected as by `concordant inspect`; finished steps are not repeated. The
numbers of its report go to results/analyses/NAME.json, the report itself stays in the run's folder.
results/ANALYSES.md and the severity curves of the project's README are made of these files.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from concordant.errors import ConcordantError
from concordant.files import read_json, write_json, write_text
from concordant.report.page import read_documents, write_report
from concordant.study.experiment import study
from concordant.study.stress import stress_corruption, stress_removal
from concordant.training.config import make_config
from concordant.training.runs import open_runs
from concordant.visualisation.inspection import inspect_features, open_inspected
from studies.analyses_page import analyses_page, numbers_of
from studies.pictures import draw_severity

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "results"
PICTURE = "ravdess"
EVERY = 10  # finer than the default, for the curves of the reports

EXPERIMENTS: dict[str, dict[str, Any]] = {
    "utd-mhad": {"benchmark": "utd-mhad", "seeds": 2},
    "cmu-mosi-utterance": {"benchmark": "cmu-mosi-utterance", "seeds": 5, "protocol": "test-folds"},
    "ravdess": {"benchmark": "ravdess", "seeds": 3},
    "av-digits": {"benchmark": "av-digits", "seeds": 3},
}


def main() -> int:
    """Run the experiments named on the command line, or all, and write numbers, page and picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"some of {', '.join(EXPERIMENTS)}; default: all")
    parser.add_argument("--data", help="the data folder; default: CONCORDANT_DATA, or ../shared/data")
    parser.add_argument("--jobs", type=int, help="runs that go at once; default: one a core")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.names if name not in EXPERIMENTS]
    if unknown:
        parser.error(f"unknown experiment {unknown[0]!r}; choose from: {', '.join(EXPERIMENTS)}")
    for name in arguments.names or EXPERIMENTS:
        print(name, flush=True)
        make(name, arguments.data, arguments.jobs)
    files = {name: RESULTS / "analyses" / f"{name}.json" for name in EXPERIMENTS}
    found = {name: read_json(path) for name, path in files.items() if path.exists()}
    write_text(RESULTS / "ANALYSES.md", analyses_page(found))
    if PICTURE in found:
        draw_severity(found[PICTURE]["corruption"], RESULTS / "severity.png")
    return 0


def make(name: str, data: str | None, jobs: int | None) -> None:
    """Train, stress and inspect one experiment; write its numbers and its report."""
    out = ROOT / "runs" / "results" / "analyses" / name
    study(make_config(**EXPERIMENTS[name]), out, data=data, jobs=jobs, dynamics=EVERY)
    runs = open_runs(out)
    stress_removal(runs, data=data, jobs=jobs)
    stress_corruption(runs, data=data, jobs=jobs)
    inspect_features(open_inspected(runs, data=data))
    documents = read_documents(out)
    write_report([documents], out / "report.html")
    write_json(RESULTS / "analyses" / f"{name}.json", numbers_of(documents, f"python -m studies.analyses {name}"))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ConcordantError as error:
        sys.exit(f"studies/analyses.py: {error}")

"""Makes what lies in this folder: `python results/run.py [NAME ...]`, or `make results`.

Every experiment is a paired run as `concord run` does it, in runs/results/NAME, and goes on where it stopped.
Its results.json is copied to results/NAME.json; the tables in results/README.md and the picture are made from
these files, and so is the block of results in the project's README.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from concord.analysis.study import study
from concord.errors import ConcordError
from concord.experiment.config import make_config
from concord.files import read_json, write_json, write_text
from concord.report.markdown import brief, fill, page
from concord.report.picture import draw

HERE = Path(__file__).resolve().parent
PICTURE = "digits"

EXPERIMENTS: dict[str, dict[str, Any]] = {
    "digits": {"benchmark": "digits", "seeds": 10},
    "scene15": {"benchmark": "scene15", "seeds": 10},
    "cmu-mosi-utterance-given": {"benchmark": "cmu-mosi-utterance", "seeds": 10, "protocol": "given"},
    "cmu-mosi-utterance-test-folds": {"benchmark": "cmu-mosi-utterance", "seeds": 10, "protocol": "test-folds"},
    "utd-mhad": {"benchmark": "utd-mhad", "seeds": 5},
    "av-digits": {"benchmark": "av-digits", "seeds": 5},
}


def main() -> int:
    """Run the experiments named on the command line, or all, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"some of {', '.join(EXPERIMENTS)}; default: all")
    parser.add_argument("--data", help="the data folder; default: CONCORD_DATA, or ../shared/data")
    parser.add_argument("--jobs", type=int, help="runs that go at once; default: one a core")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.names if name not in EXPERIMENTS]
    if unknown:
        parser.error(f"unknown experiment {unknown[0]!r}; choose from: {', '.join(EXPERIMENTS)}")
    for name in arguments.names or EXPERIMENTS:
        print(name, flush=True)
        out = HERE.parent / "runs" / "results" / name
        results = study(make_config(**EXPERIMENTS[name]), out, data=arguments.data, jobs=arguments.jobs)
        write_json(HERE / f"{name}.json", results)
    found = {name: read_json(HERE / f"{name}.json") for name in EXPERIMENTS if (HERE / f"{name}.json").exists()}
    write_text(HERE / "README.md", page(found))
    if PICTURE in found:
        draw(found[PICTURE], HERE / f"{PICTURE}.png")
        readme = HERE.parent / "README.md"
        write_text(readme, fill(readme.read_text(encoding="utf-8"), brief(found[PICTURE])))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ConcordError as error:
        sys.exit(f"results/run.py: {error}")

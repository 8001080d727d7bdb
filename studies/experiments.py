"""Makes what lies in this folder: `python -m studies.experiments [NAME ...]`, or `make results-experiments`.

Every experiment is a paired run as `concordant run` does it, in runs/results/NAME, and goes on where it stopped.
Its results.json is copied to results/NAME.json; the tables in results/README.md and the picture are made from
these files, and so is the block of results in the project's README. A grid goes through several fusions, each with
every modality alone as well; the tables of grids are in results/GRIDS.md.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from concordant.errors import ConcordantError
from concordant.files import read_json, write_json, write_text
from concordant.report.tables.scores import brief
from concordant.study.experiment import study
from concordant.study.grid import make_grid, run_grid
from concordant.training.config import make_config
from studies.pictures import draw
from studies.results_page import fill, grids_page, results_page

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "results"
PICTURE = "digits"

EXPERIMENTS: dict[str, dict[str, Any]] = {
    "digits": {"benchmark": "digits", "seeds": 10},
    "scene15": {"benchmark": "scene15", "seeds": 10},
    "cmu-mosi-utterance-given": {"benchmark": "cmu-mosi-utterance", "seeds": 10, "protocol": "given"},
    "cmu-mosi-utterance-test-folds": {"benchmark": "cmu-mosi-utterance", "seeds": 10, "protocol": "test-folds"},
    "utd-mhad": {"benchmark": "utd-mhad", "seeds": 5},
    "ravdess": {"benchmark": "ravdess", "seeds": 5},
    "cremad-features": {"benchmark": "cremad-features", "seeds": 10},
    "cremad-features-ogm-ge": {"benchmark": "cremad-features", "seeds": 10, "protocol": "ogm-ge"},
    "ave-features": {"benchmark": "ave-features", "seeds": 10},
    "ave-features-ogm-ge": {"benchmark": "ave-features", "seeds": 10, "protocol": "ogm-ge"},
    "av-digits": {"benchmark": "av-digits", "seeds": 5},
}

# From the documentation of the data; untuned: scikit-learn on standardised features, SVC or logistic regression.
REFERENCES = {
    "ravdess": (
        "the best published fusion on these folds reaches 86.7, with audio features of a fine-tuned wav2vec 2.0 (81.8 "
        "alone) where this has log-mel spectrograms. Untuned classifiers: statistics of the audio 45.6, action units "
        "59.1, both 65.6."
    ),
    "cremad-features": (
        "untuned classifiers on the features of plain joint training: audio 55.5, visual 26.1, both 62.6. Published "
        "accuracies are of whole networks on this test set and do not compare: here the test clips are cut into folds."
    ),
    "ave-features": (
        "untuned classifiers on the features of plain joint training: audio 52.7, visual 19.7, both 54.0. Published "
        "accuracies are of whole networks on this test set and do not compare: here the test clips are cut into folds."
    ),
}

SEQUENCE = (
    *("lf-dnn", "ef-lstm", "lf-lstm", "tfn", "lmf", "mfn"),
    *("mult", "misa", "mbt", "perceiver", "transformer"),
)
MAPS = ("sum", "concat", "film", "gated", "mmtm", "centralnet", "attention")
# The recipes are the benchmarks' own, but for smaller batches where maps would take hours on two cores.
GRID = {"calibrators": ("none", "joint", "gmu", "context"), "seeds": 3}
GRIDS: dict[str, dict[str, Any]] = {
    "grid-cmu-mosi-utterance": {"benchmark": "cmu-mosi-utterance", "fusions": SEQUENCE, **GRID},
    "grid-cmu-mosi-utterance-test-folds": {
        "benchmark": "cmu-mosi-utterance",
        "fusions": SEQUENCE,
        "protocol": "test-folds",
        **GRID,
    },
    "grid-utd-mhad-sequence": {
        "benchmark": "utd-mhad",
        "fusions": SEQUENCE,
        "modalities": ("skeleton", "inertial"),
        **GRID,
    },
    "grid-av-digits": {
        "benchmark": "av-digits",
        "fusions": (*MAPS, "concat@pooled"),
        "recipe": {"batch": 32},
        **GRID,
    },
    "grid-utd-mhad-depth": {
        "benchmark": "utd-mhad",
        "fusions": MAPS,
        "modalities": ("skeleton", "depth"),
        "recipe": {"batch": 32},
        **GRID,
    },
}


def main() -> int:
    """Run the experiments named on the command line, or all, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"some of {', '.join([*EXPERIMENTS, *GRIDS])}; default: all"
    )
    parser.add_argument("--data", help="the data folder; default: CONCORDANT_DATA, or ../shared/data")
    parser.add_argument("--jobs", type=int, help="runs that go at once; default: one a core")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.names if name not in EXPERIMENTS and name not in GRIDS]
    if unknown:
        parser.error(f"unknown experiment {unknown[0]!r}; choose from: {', '.join([*EXPERIMENTS, *GRIDS])}")
    for name in arguments.names or [*EXPERIMENTS, *GRIDS]:
        print(name, flush=True)
        out = ROOT / "runs" / "results" / name
        if name in GRIDS:
            results = run_grid(make_grid(**GRIDS[name]), out, data=arguments.data, jobs=arguments.jobs)
        else:
            results = study(make_config(**EXPERIMENTS[name]), out, data=arguments.data, jobs=arguments.jobs)
        write_json(RESULTS / f"{name}.json", results)
    found = {name: read_json(RESULTS / f"{name}.json") for name in EXPERIMENTS if (RESULTS / f"{name}.json").exists()}
    grids = {name: read_json(RESULTS / f"{name}.json") for name in GRIDS if (RESULTS / f"{name}.json").exists()}
    write_text(RESULTS / "README.md", results_page(found, REFERENCES))
    if grids:
        write_text(RESULTS / "GRIDS.md", grids_page(grids))
    if PICTURE in found:
        draw(found[PICTURE], RESULTS / f"{PICTURE}.png")
        readme = ROOT / "README.md"
        write_text(readme, fill(readme.read_text(encoding="utf-8"), brief(found[PICTURE])))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ConcordantError as error:
        sys.exit(f"studies/experiments.py: {error}")

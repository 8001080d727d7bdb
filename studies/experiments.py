"""Make results/*.json, results/README.md and results/GRIDS.md: `python -m studies.experiments [NAME ...]`.

An experiment is a paired run of `concordant run`, a grid one of several fusions, each with every modality alone as
well; both are in runs/results/NAME and resume where they stopped. Their documents are copied to results/NAME.json, of
which the pages, the picture and the block of results in the project's README are made.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from concordant.files import write_json, write_text
from concordant.report.figures.colours import colour_of
from concordant.report.format import Document, labels_of, pairs_text, seeds_of, shown, values_of
from concordant.report.record import markdown
from concordant.report.sentences import grid_lines
from concordant.report.tables.grids import grid_scores
from concordant.report.tables.scores import brief, result_tables
from concordant.study.experiment import study
from concordant.study.grid import make_grid, run_grid
from concordant.training.config import make_config
from studies import common
from studies.common import RESULTS, RUNS

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

SEQUENCE = (
    *("lf-dnn", "ef-lstm", "lf-lstm", "tfn", "lmf", "mfn"),
    *("mult", "misa", "mbt", "perceiver", "transformer"),
)
MAPS = ("sum", "concat", "film", "gated", "mmtm", "centralnet", "attention")
# The recipes are the benchmarks' own, but for smaller batches where maps would take hours on two cores.
GRID = {"calibrators": ("none", "joint", "gmu", "context"), "seeds": 3}
SMALL = {"recipe": {"batch": 32}, **GRID}
MOSI = {"benchmark": "cmu-mosi-utterance", "fusions": SEQUENCE, **GRID}
GRIDS: dict[str, dict[str, Any]] = {
    "grid-cmu-mosi-utterance": MOSI,
    "grid-cmu-mosi-utterance-test-folds": {**MOSI, "protocol": "test-folds"},
    "grid-utd-mhad-sequence": {
        "benchmark": "utd-mhad",
        "fusions": SEQUENCE,
        "modalities": ("skeleton", "inertial"),
        **GRID,
    },
    "grid-av-digits": {"benchmark": "av-digits", "fusions": (*MAPS, "concat@pooled"), **SMALL},
    "grid-utd-mhad-depth": {"benchmark": "utd-mhad", "fusions": MAPS, "modalities": ("skeleton", "depth"), **SMALL},
}

# From the documentation of the data; untuned: scikit-learn on standardised features, SVC or logistic regression.
_JOINT = (
    "untuned classifiers on the features of plain joint training: audio {}, visual {}, both {}. Published accuracies "
    "are of whole networks on this test set and do not compare: here the test clips are cut into folds."
)
REFERENCES = {
    "ravdess": (
        "the best published fusion on these folds reaches 86.7, with audio features of a fine-tuned wav2vec 2.0 (81.8 "
        "alone) where this has log-mel spectrograms. Untuned classifiers: statistics of the audio 45.6, action units "
        "59.1, both 65.6."
    ),
    "cremad-features": _JOINT.format(55.5, 26.1, 62.6),
    "ave-features": _JOINT.format(52.7, 19.7, "54.0"),
}

HEAD = """# Results

Made by `make results-experiments` (`python -m studies.experiments`); the numbers are those of the JSON files
beside this page.
Accuracy in percent, mean ± standard deviation over seeds. One random modality of every test instance is corrupted;
"mean" is over the four corruptions. Differences are paired, with a 95 % interval and a p-value from a hierarchical
bootstrap over seeds and test instances (whole groups where instances are grouped), Holm-corrected over all comparisons
of the benchmark, removals included; Wilcoxon's signed-rank test over seeds stands beside it from 8 seeds up.
"""

GRIDS_HEAD = """# Grids

Made by `make results-experiments` (`python -m studies.experiments`); the numbers are those of the JSON files
beside this page.
One row a fusion: accuracy in percent on clean test instances, and the mean over four corruptions of one random modality
of every instance; mean ± standard deviation over seeds. "calibrated at" says where the calibrator stands. Differences
are paired, with p-values from a hierarchical bootstrap over seeds and test instances.
"""


def main(names: common.Names = None, data: common.Data = None, jobs: common.Jobs = None) -> None:
    """Run the experiments named on the command line, or all, and write what is made of them."""
    how: dict[str, Any] = {"data": data, "jobs": jobs}
    for name in common.chosen(names, (*EXPERIMENTS, *GRIDS)):
        print(name, flush=True)
        out = RUNS / "results" / name
        if name in GRIDS:
            found = run_grid(make_grid(**GRIDS[name]), out, **how)
        else:
            found = study(make_config(**EXPERIMENTS[name]), out, **how)
        write_json(RESULTS / f"{name}.json", found)
    results, grids = common.read_found(RESULTS, EXPERIMENTS), common.read_found(RESULTS, GRIDS)
    write_text(RESULTS / "README.md", results_page(results, REFERENCES))
    if grids:
        write_text(RESULTS / "GRIDS.md", grids_page(grids))
    if PICTURE in results:
        draw(results[PICTURE], RESULTS / f"{PICTURE}.png")
        common.fill_files([common.ROOT / "README.md"], {PICTURE: brief(results[PICTURE])}, "results")


def results_page(results: Mapping[str, Document], references: Mapping[str, str] | None = None) -> str:
    """Return a page with one section per named result; `references`: benchmark -> a paragraph on published results."""
    parts = [HEAD]
    for name, one in results.items():
        parts += [
            f"## {name}\n",
            common.setting_line(one, seeds_of(one["runs"])),
            *common.remark_of(one),
            *result_tables(one),
        ]
        if references is not None and one["benchmark"] in references:
            parts.append(f"Elsewhere: {references[one['benchmark']]}\n")
        parts.append(f"Recipe: {pairs_text(one['config']['recipe'], ' ')}. {common.made_line(one)}\n")
    return "\n".join(parts)


def grids_page(grids: Mapping[str, Document]) -> str:
    """Return a page with one section per named grid."""
    parts = [GRIDS_HEAD]
    for name, grid in grids.items():
        config, table, rows = grid["config"], grid_scores(grid, deviations=True), grid["rows"]
        parts += [
            f"## {name}\n",
            f"{grid['benchmark']}, protocol {config['protocol']}, modalities {', '.join(config['modalities'])}, "
            f"{config['preset']} preset, {config['encoders']} encoders, method {config['method']}, "
            f"{config['seeds']} seeds.\n",
            *common.remark_of(grid),
            markdown(table),
            f"{table.note}\n",
            *(f"- {line}" for line in grid_lines(grid)),
            "",
            f"Majority class: {100 * np.mean([row['majority'] for row in rows]):.1f}. "
            f"Training took {sum(row['train_minutes'] for row in rows):.0f} minutes of one core in all, by row: "
            + ", ".join(f"{row['row']} {row['train_minutes']:.1f}" for row in rows)
            + f". Recipe: {pairs_text(config['recipe'], ' ')}. {common.made_line(grid, ': ')}\n",
        ]
    return "\n".join(parts)


def draw(results: Document, path: Path) -> None:
    """Write a bar chart of a result: means over seeds, and one standard deviation to either side."""
    kinds, labels = list(results["runs"][0]["corruption"]), labels_of(results)
    conditions = ["clean", *(f"corruption.{kind}" for kind in kinds), "corruption.mean"]
    with common.picture(path, 9, 3.6, font=10) as figure:
        axes = figure.subplots()
        width, low = 0.8 / len(labels), 100.0
        for place, label in enumerate(labels):
            values = 100 * np.array([values_of(results, label, condition) for condition in conditions])  # by seed
            spread = values.std(1, ddof=1) if values.shape[1] > 1 else np.zeros(len(values))
            x = np.arange(len(conditions)) + (place - (len(labels) - 1) / 2) * width
            axes.bar(x, values.mean(1), 0.92 * width, yerr=spread, color=colour_of(label), label=shown(label))
            low = min(low, float(values.min()))
        axes.set_xticks(np.arange(len(conditions)), ["clean", *kinds, "mean of the four"])
        axes.set_ylim(max(0.0, low - 10), 101)
        axes.set_ylabel("accuracy, %")
        title = f"{results['benchmark']}, {results['fusion']}, {seeds_of(results['runs'])} seeds"
        axes.set_title(f"{title}: one modality of each instance corrupted", loc="left", fontsize=10)
        axes.legend(frameon=False, ncols=len(labels), loc="upper center", bbox_to_anchor=(0.5, -0.1), fontsize=9)


if __name__ == "__main__":
    common.run_script(main, __doc__, "studies.experiments")

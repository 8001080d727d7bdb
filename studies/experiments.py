"""Make results/*.json and results/README.md: `python -m studies.experiments [NAME ...]`.

An experiment is a paired run of `concordant run` in runs/results/NAME, and resumes where it stopped. Its document is
copied to results/NAME.json, of which the page is made.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from concordant.files import write_json, write_text
from concordant.report.format import Document, seeds_of
from concordant.report.tables.scores import result_tables
from concordant.study.experiment import study
from concordant.training.config import make_config
from studies import common
from studies.common import RESULTS, RUNS

LOSSES = ("none+perturbed", "context-losses-only", "context")  # what scaling adds to what the losses do
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
    "digits-losses": {"benchmark": "digits", "seeds": 10, "calibrators": LOSSES},
    "scene15-losses": {"benchmark": "scene15", "seeds": 10, "calibrators": LOSSES},
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
bootstrap over seeds and test instances (whole groups where instances are grouped). Holm's correction is over the four
primary endpoints of a benchmark (the two twins, clean and in the mean over corruptions) and, apart from them, over all
others, which are secondary; Wilcoxon's signed-rank test over seeds stands beside it from 8 seeds up.
"""


def main(names: common.Names = None, data: common.Data = None, jobs: common.Jobs = None) -> None:
    """Run the experiments named on the command line, or all, and write what is made of them."""
    how: dict[str, Any] = {"data": data, "jobs": jobs}
    for name in common.chosen(names, EXPERIMENTS):
        print(name, flush=True)
        found = study(make_config(**EXPERIMENTS[name]), RUNS / "results" / name, **how)
        write_json(RESULTS / f"{name}.json", found)
    results = common.read_found(RESULTS, EXPERIMENTS)
    write_text(RESULTS / "README.md", results_page(results, REFERENCES))


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
        parts.append(f"Recipe: {common.pairs_text(one['config']['recipe'], ' ')}. {common.made_line(one)}\n")
    return "\n".join(parts)


if __name__ == "__main__":
    common.run_script(main, __doc__, "studies.experiments")

"""Make results/estimator.json and results/ESTIMATOR.md: `python -m studies.estimator [NAME ...]`.

The estimator is compared with scikit-learn's usual pipelines on the same folds, clean and with one random modality of
every test instance corrupted. All models get the same standardised arrays and have their default parameters; the
pipelines get the modalities side by side, an absent one as zeros. Datasets that are not named keep their results.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from concordant import MultimodalClassifier
from concordant.benchmarks import actions
from concordant.benchmarks.small import HANDWRITTEN, SCENE15
from concordant.data.archives import Column, find_data_folder, read_archive
from concordant.data.scaling import fit_chunks
from concordant.data.split import Split, stratified
from concordant.estimator import Modalities
from concordant.files import read_json, write_json, write_text
from concordant.report.record import Cell, Table, markdown, spread
from concordant.robustness.conditions import SplitContext, corrupt, victims
from concordant.robustness.corruptions import KINDS
from concordant.training.provenance import hardware, versions
from studies import common
from studies.common import RESULTS

STRENGTHS = {"gaussian-noise": 1.5, "dimension-replacement": 0.45, "swap": 1.0, "dimension-dropout": 0.75}

Rows = NDArray[np.int64]


class Dataset(NamedTuple):
    """How a dataset is loaded and split into training and test rows, and a summary in one line."""

    load: Callable[[Path], Split]
    split: Callable[[Split, int], tuple[Rows, Rows]]
    summary: str


def pooled(folder: Path) -> Split:
    """Return UTD-MHAD as means and standard deviations over time; groups are subjects."""
    read = actions.load_sensors(folder)
    vectors = {}
    for name, x in read.inputs.items():
        steps = np.moveaxis(x, 2, 1) if name == "depth" else x  # (N, T, ...)
        vectors[name] = np.concatenate([f(steps, 1).reshape(len(x), -1) for f in (np.mean, np.std)], 1)
    return replace(_part(vectors, read.labels), groups=read.groups)


def ravdess(folder: Path) -> Split:
    """Return RAVDESS as statistics of the audio and mean action units; groups are the five folds."""
    columns = {
        "action_units": Column("recordings", (35,)),
        "emotion": Column("recordings", kinds="iu", classes=8),
        "fold": Column("recordings", kinds="iu"),
        "has_audio": Column("recordings", kinds="b"),
    }
    arrays = read_archive(folder, "ravdess.npz", columns)
    # Read apart: it is NaN where there is no audio, which read_archive refuses.
    with np.load(folder / "ravdess.npz", allow_pickle=False) as archive:
        audio = np.where(arrays["has_audio"][:, None], archive["audio_stats"], np.float32(0))
    part = _part({"audio": audio, "action_units": arrays["action_units"]}, arrays["emotion"])
    return replace(part, groups=arrays["fold"].astype(np.str_), present={"audio": arrays["has_audio"]})


def _part(vectors: Mapping[str, NDArray[Any]], labels: NDArray[Any]) -> Split:
    inputs = {name: x.astype(np.float32) for name, x in vectors.items()}
    return Split(inputs, labels.astype(np.int64), np.array([str(row) for row in range(len(labels))]))


def random_split(part: Split, seed: int) -> tuple[Rows, Rows]:
    """Return four fifths and one fifth of the rows, by class."""
    return stratified(np.arange(len(part)), part.labels, 0.2, seed, "estimator", "test")


def by_subject(part: Split, seed: int) -> tuple[Rows, Rows]:
    """Return the published split, for every seed."""
    odd = np.isin(np.asarray(part.groups).astype(np.int64), actions.TRAIN_SUBJECTS)
    return np.flatnonzero(odd), np.flatnonzero(~odd)


def by_fold(part: Split, seed: int) -> tuple[Rows, Rows]:
    """Return the published folds; the one with the number of the seed is the test part."""
    here = np.asarray(part.groups) == str(seed)
    return np.flatnonzero(~here), np.flatnonzero(here)


DATASETS: dict[str, Dataset] = {
    "scene15": Dataset(SCENE15.load, random_split, "scenes by three image descriptors, random 80/20"),
    "handwritten": Dataset(HANDWRITTEN.load, random_split, "digits by six descriptors, random 80/20"),
    "utd-mhad": Dataset(pooled, by_subject, "actions by three sensors, means and deviations over time, by subject"),
    "ravdess": Dataset(ravdess, by_fold, "emotions by statistics of the audio and action units, published folds"),
}


def models(seed: int) -> dict[str, Any]:
    """Return name -> an unfitted estimator; ours take modalities, the pipelines one table."""
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    return {
        "MultimodalClassifier": MultimodalClassifier(random_state=seed),
        "MultimodalClassifier, none": MultimodalClassifier(calibrator="none", random_state=seed),
        "LogisticRegression": make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)),
        "SVC": make_pipeline(StandardScaler(), SVC(random_state=seed)),
        "HistGradientBoosting": make_pipeline(StandardScaler(), HistGradientBoostingClassifier(random_state=seed)),
    }


def measure(name: str, folder: Path, seeds: int) -> list[dict[str, Any]]:
    """Return one record per model and seed: accuracy on clean data and under each corruption."""
    dataset, found = DATASETS[name], []
    part = dataset.load(folder)
    context = SplitContext(layouts=dict.fromkeys(part.inputs, "bd"))
    for seed in range(seeds):
        train, test = (part.take(rows) for rows in dataset.split(part, seed))
        scales = fit_chunks([train], context.layouts)
        train, test = (one.scaled(scales, context.layouts) for one in (train, test))
        hit = victims(test, tuple(test.inputs), seed)
        tests = {"clean": test} | {
            kind: corrupt(test, KINDS[kind], strength, context, seed=seed, perturbed=hit)[0]
            for kind, strength in STRENGTHS.items()
        }
        for label, model in models(seed).items():
            ours = isinstance(model, MultimodalClassifier)
            model.fit(_given(train, ours), train.labels)
            scores = {kind: float(model.score(_given(one, ours), one.labels)) for kind, one in tests.items()}
            found.append({"model": label, "seed": seed, "scores": scores})
            print(name, label, seed, {kind: round(100 * score, 1) for kind, score in scores.items()}, flush=True)
    return found


def _given(part: Split, ours: bool) -> Any:  # noqa: ANN401
    """Return instances as modalities with NaN where absent, or side by side with zeros."""
    if not ours:
        return np.concatenate(list(part.inputs.values()), 1)
    arrays = {}
    for name, x in part.inputs.items():
        here = part.present.get(name)
        arrays[name] = x if here is None else np.where(here[:, None], x, np.float32(np.nan))
    return Modalities(arrays)


def page(document: Mapping[str, Any]) -> str:
    """Return the Markdown page of a document."""
    kinds = document["strengths"]
    parts = [
        "# The estimator and scikit-learn's pipelines\n",
        "Made by `python -m studies.estimator`; the numbers are those of `results/estimator.json`. Accuracy in "
        f"percent, mean ± standard deviation over {document['seeds']} seeds; the same folds and default parameters for "
        "all. "
        "*Corrupted*: one random modality of every test instance, mean over the kinds "
        + ", ".join(f"{kind} {strength:g}" for kind, strength in kinds.items())
        + ". `MultimodalClassifier, none` is the twin: the same network trained with the same perturbations, without "
        "the calibrator. The pipelines get the modalities side by side, standardised, and see nothing perturbed; "
        "logistic regression may take 2000 iterations.\n",
        *common.remark_of(document),
    ]
    for name, entry in document["datasets"].items():
        rows: list[list[Cell | str]] = []
        for label in dict.fromkeys(run["model"] for run in entry["runs"]):
            scores = [run["scores"] for run in entry["runs"] if run["model"] == label]
            scores = [{**one, "corrupted": float(np.mean([one[kind] for kind in kinds]))} for one in scores]
            columns = ("clean", "corrupted", *kinds)
            rows.append([label, *(spread((100 * one[kind] for one in scores), scale=1) for kind in columns)])
        found = markdown(Table("", "", ["model", "clean", "corrupted", *kinds], rows))
        parts += [f"## {name}\n", f"{entry['summary']}.\n", found]
    return "\n".join([*parts, f"{common.made_line(document)}\n"])


def main(names: common.Names = None, data: common.Data = None, seeds: common.Seeds = 3) -> None:
    """Measure the named datasets, or all, and write numbers and page."""
    wanted, folder = common.chosen(names, DATASETS, "dataset"), find_data_folder(data)
    warnings.simplefilter("ignore", category=FutureWarning)
    out = RESULTS / "estimator.json"
    datasets = dict(read_json(out)["datasets"]) if out.exists() else {}
    for name in wanted:
        datasets[name] = {"summary": DATASETS[name].summary, "runs": measure(name, folder, seeds)}
        document = {
            "schema": "concordant.estimator-comparison/1",
            "seeds": seeds,
            "strengths": STRENGTHS,
            "datasets": {known: datasets[known] for known in DATASETS if known in datasets},
            "versions": versions(),
            "hardware": hardware(),
            "command": " ".join(["python -m studies.estimator", *(names or ())]),
        }
        write_json(out, document)  # after each dataset: an interruption loses nothing
        write_text(RESULTS / "ESTIMATOR.md", page(document))


if __name__ == "__main__":
    common.run_script(main, __doc__, "studies.estimator")

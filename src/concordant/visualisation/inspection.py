"""`concordant inspect`: the effect of the calibrator of one trained run on the features of its test split.

RUN/analyses/features.json   maps, gates, agreement, the instances with the largest fall in reliability
RUN/analyses/features.parquet  every instance: reliability, support and conflict of every pair
"""

from __future__ import annotations

import difflib
import shlex
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from concordant.benchmarks.catalogue import natures_of
from concordant.data.split import Task
from concordant.documents import write_document
from concordant.errors import UsageError
from concordant.files import shown
from concordant.rivals import CALIBRATORS
from concordant.robustness.answers import agree, write_table
from concordant.statistics.comparisons import central
from concordant.training.config import data_words
from concordant.training.model import MultimodalModel
from concordant.training.provenance import hardware, versions
from concordant.training.runs import ANALYSES, RunFolder
from concordant.visualisation.explain import Usual, Verdict, explain
from concordant.visualisation.features import measure_features, named
from concordant.visualisation.trace import trace_calibration

FEATURES = "concordant.features/1"


@dataclass(frozen=True)
class Explanation:
    """One instance explained.

    Args:
        id: of the instance.
        label: its class, or its number.
        prediction: of the model.
        right: whether it is correct.
        verdicts: one per modality.
    """

    id: str
    label: str
    prediction: str
    right: bool
    verdicts: list[Verdict]


@dataclass(frozen=True)
class Inspected:
    """An opened run: its calibrator's label, its seed, its splits and its model; `data` as it was given."""

    runs: RunFolder
    label: str
    seed: int
    source: Path | None
    task: Task
    model: MultimodalModel
    data: Path | str | None = None


def open_inspected(
    runs: RunFolder, *, label: str | None = None, seed: int = 0, data: Path | str | None = None
) -> Inspected:
    """Open one run of a folder: of the calibrator with this label; None = ours, else the last one with a reliability.

    Raises:
        UsageError: there is no such run, or its calibrator changes no features.
        DataError: the data or the weights cannot be used.
    """
    reliable = [one for one in runs.labels if CALIBRATORS[runs.variant(one).calibrator].build.has_reliability]
    if not reliable:
        raise UsageError(
            f"{runs.path} has no calibrator that gives a reliability; its methods: {', '.join(runs.labels)}"
        )
    chosen = label if label is not None else central(reliable)
    variant = runs.variant(chosen)
    if chosen not in reliable:
        raise UsageError(f"{chosen} gives no reliability; choose from: {', '.join(reliable)}")
    if not 0 <= seed < runs.config.seeds:
        raise UsageError(f"seed must be one of 0..{runs.config.seeds - 1}, which {runs.path} has; found {seed}")
    source = runs.source(data)
    task = runs.task(seed, source)
    return Inspected(runs, chosen, seed, source, task, runs.model(task, variant, seed), data)


def inspect_features(inspected: Inspected) -> dict[str, Any]:
    """Measure the effect of the calibrator on features; write features.json and features.parquet, return the former."""
    runs, task = inspected.runs, inspected.task
    found = measure_features(
        inspected.model,
        task.test,
        train=task.train,
        valid=task.valid,
        classes=task.classes,
        layouts=task.layouts,
        natures=natures_of(runs.config.benchmark, inspected.source),
        standardised=True,
        seed=inspected.seed,
    )
    words = ["concordant", "inspect", str(shown(runs.path)), "--calibrator", inspected.label]
    words += ["--seed", str(inspected.seed), *data_words(inspected.data)]
    document = {
        "schema": FEATURES,
        "benchmark": runs.config.title,
        "fusion": runs.config.fusion,
        "label": inspected.label,
        "seed": inspected.seed,
        **found,
        "versions": versions(),
        "hardware": hardware(),
        "command": shlex.join(words),
    }
    write_table(runs.path / ANALYSES / "features.parquet", _instances(inspected))
    write_document(runs.path / ANALYSES / "features.json", "features", document)
    return document


def explain_sample(inspected: Inspected, sample: str) -> Explanation:
    """Explain the instance of the test split with the id `sample`.

    Raises:
        UsageError: the test split has no such instance; the nearest ids are named.
    """
    test = inspected.task.test
    ids = [str(one) for one in test.ids]
    if sample not in ids:
        near = difflib.get_close_matches(sample, ids, n=3, cutoff=0.0)
        raise UsageError(
            f"no instance {sample!r} in the test split of seed {inspected.seed}; some that are: {', '.join(near)}"
        )
    split = test.take(np.array([ids.index(sample)]))
    observed = trace_calibration(inspected.model, split)
    usual = Usual.of(trace_calibration(inspected.model, inspected.task.valid))
    classes = inspected.task.classes
    predicted = np.asarray(observed.predictions(real=inspected.task.kind == "real"))
    return Explanation(
        id=sample,
        label=named(split.labels[0], classes),
        prediction=named(predicted[0], classes),
        right=bool(agree(split.labels, predicted)[0]),
        verdicts=explain(observed, 0, usual),
    )


def _instances(inspected: Inspected) -> Any:  # noqa: ANN401 - pyarrow has no types
    """Return one row per instance of the test split: reliabilities, support and conflict of every pair."""
    import pyarrow as pa

    test = inspected.task.test
    observed = trace_calibration(inspected.model, test)
    values, here = {}, {}
    for index, name in enumerate(observed.names):
        here[f"reliability_{name}"] = observed.present[:, index]
        values[f"reliability_{name}"] = observed.reliability[:, index]
    for (first, one), (second, other) in combinations(enumerate(observed.names), 2):
        for what in ("support", "conflict"):
            here[f"{what}_{one}_{other}"] = observed.present[:, first] & observed.present[:, second]
            values[f"{what}_{one}_{other}"] = getattr(observed, what)[:, first, second]
    columns = {name: pa.array(x, pa.float32(), mask=~here[name]) for name, x in values.items()}
    return pa.table({"id": pa.array([str(one) for one in test.ids]), **columns})

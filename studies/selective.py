"""Make results/selective.json and results/SELECTIVE.md: `python -m studies.selective [NAME ...] [--seeds N]`.

Selective prediction: a model answers the instances of which it is most confident, and leaves out the others. The area
under the risk-coverage curve is the error rate of the answered part, averaged over all sizes of that part; lower is
better, and the order by correctness has the least. Here the order is by four measures of confidence of one calibrated
model: the probability of the predicted class; that times the least reliability of the instance's modalities; times
their mean reliability; and times one minus the greatest conflict of two modalities. All are scored on the test rows:
clean, with one random modality of every instance corrupted (mean over the kinds), and mixed, where as many clean rows
stand beside those of each kind. The results of benchmarks that are not named are kept.
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from concordant.benchmarks.catalogue import prepare
from concordant.data.split import AnySplit, Bools, Floats
from concordant.files import read_json, write_json, write_text
from concordant.report.record import Table, markdown
from concordant.robustness.answers import agree, evaluate
from concordant.robustness.conditions import CLEAN, Condition, run_conditions
from concordant.training.config import Variant, make_config
from concordant.training.model import MultimodalModel
from concordant.training.provenance import hardware, versions
from concordant.training.train import train
from studies import common
from studies.common import RESULTS

BENCHMARKS = ("digits", "scene15", "handwritten", "utd-mhad", "ravdess", "cremad-features", "ave-features")
MEASURES = {
    "probability": "probability",
    "least": "× least reliability",
    "mean": "× mean reliability",
    "conflict": "× (1 - greatest conflict)",
}
CONTEXT = Variant("context", True)


def main(names: common.Names = None, seeds: common.Seeds = 5, data: common.Data = None) -> None:
    """Train, score and write."""
    path = RESULTS / "selective.json"
    known = read_json(path)["benchmarks"] if path.exists() else {}
    for name in common.chosen(names, BENCHMARKS, "benchmark"):
        known[name] = [areas_of(name, seed, data) for seed in range(seeds)]
        document = {
            "schema": "concordant.selective-results/1",
            "benchmarks": {one: known[one] for one in BENCHMARKS if one in known},
            "versions": versions(),
            "hardware": hardware(),
        }
        write_json(path, document)
        write_text(RESULTS / "SELECTIVE.md", page(document))


def areas_of(name: str, seed: int, data: str | None) -> dict[str, dict[str, float]]:
    """Return data (clean, corrupted, mixed) -> measure -> area under the risk-coverage curve of one trained model."""
    task = prepare(name, data=data, seed=seed)
    model = train(task, make_config(name, calibrators=("context",), seeds=seed + 1), CONTEXT, seed).model
    found: dict[str, tuple[Bools, dict[str, Floats]]] = {}
    for condition in run_conditions(task.test, task.layouts, seed):
        if not condition.name.startswith("removal."):
            found[condition.name] = answered(model, task.test, condition)
    kinds = [condition for condition in found if condition != CLEAN]

    def area(measure: str, *conditions: str) -> float:
        right = np.concatenate([found[one][0] for one in conditions])
        return area_under_risk_coverage(right, np.concatenate([found[one][1][measure] for one in conditions]))

    areas = {
        "clean": {one: area(one, CLEAN) for one in MEASURES},
        "corrupted": {one: float(np.mean([area(one, kind) for kind in kinds])) for one in MEASURES},
        "mixed": {one: float(np.mean([area(one, CLEAN, kind) for kind in kinds])) for one in MEASURES},
    }
    print(name, seed, areas, flush=True)
    return areas


def answered(model: MultimodalModel, split: AnySplit, condition: Condition) -> tuple[Bools, dict[str, Floats]]:
    """Return under one condition whether each answer is right (N,), and measure -> confidence (N,)."""
    conflicts: list[Tensor] = []  # (B, M, M) each
    handle = model.calibrator.register_forward_hook(lambda *call: conflicts.append(call[2].conflict))
    try:
        answers = evaluate(model, split, [condition])
    finally:
        handle.remove()
    one = answers.rows[condition.name]
    probability, reliability = cast(Floats, one.confidence), cast(Floats, one.reliability)
    factors = {
        "least": np.where(one.present, reliability, np.inf).min(1),
        "mean": reliability.mean(1, where=one.present),
        "conflict": 1 - torch.cat(conflicts).flatten(1).amax(1).numpy(),
    }
    measures = {"probability": probability, **{name: probability * factor for name, factor in factors.items()}}
    return agree(answers.labels, one.prediction), measures


def area_under_risk_coverage(right: Bools, confidence: NDArray[Any]) -> float:
    """Return the mean error rate of the k most confident instances, over k = 1 to N; ties count by their mean."""
    order = np.argsort(-confidence, kind="stable")
    _, ties = np.unique(-confidence[order], return_inverse=True)
    error = np.bincount(ties, ~right[order]) / np.bincount(ties)  # expected, in a random order of tied instances
    return float((np.cumsum(error[ties]) / np.arange(1, len(right) + 1)).mean())


def page(document: dict[str, Any]) -> str:
    """Return the text of results/SELECTIVE.md."""
    rows = []
    for name, runs in document["benchmarks"].items():
        for data in ("clean", "corrupted", "mixed"):
            values = {one: 100 * np.array([run[data][one] for run in runs]) for one in MEASURES}
            cells = [f"{values['probability'].mean():.1f}"]
            for one in list(MEASURES)[1:]:
                change = values[one] - values["probability"]
                spread = f" ± {change.std(ddof=1):.1f}" if len(runs) > 1 else ""
                cells.append(f"{change.mean():+.1f}{spread}")
            rows.append([f"{name} ({len(runs)})" if data == "clean" else "", data, *cells])
    heads = ["benchmark (seeds)", "test rows", "probability", *list(MEASURES.values())[1:]]
    return (
        "# Does reliability tell when the model is wrong?\n\n"
        "Made by `python -m studies.selective`. Area under the risk-coverage curve of one calibrated model, in percent "
        "(lower is better): the error rate of the most confident part, averaged over the sizes of that part. The first "
        "column orders the instances by the probability of the predicted class. The others show what changes, mean ± "
        "standard deviation over seeds, if that probability is multiplied by a factor of the instance's modalities. "
        "*corrupted*: one random modality of every "
        "instance, mean over the kinds; *mixed*: as many clean rows beside them.\n\n"
        + markdown(Table("", "", heads, rows))
        + f"\n{common.made_line(document)}\n"
    )


if __name__ == "__main__":
    common.run_script(main, __doc__, "studies.selective")

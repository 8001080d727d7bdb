"""Steps and dropout for data that no recipe was searched for: `python -m studies.own_data [SET]... [--seeds N]`.

Compares, on validation rows alone, the recipes between which `recipe_for` (concordant.benchmarks.prepared) decides,
with late fusion beside them. The sets have a few hundred training rows each; some are a share of a larger one. Scores
are kept in results/own-data.json, and fill the table of docs/method.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch

from concordant.benchmarks.catalogue import prepare
from concordant.benchmarks.prepared import OWN_STEPS, recipe_for, steps_of
from concordant.calibration import Perturbation
from concordant.data.split import Split, Task, stratified
from concordant.errors import DataError
from concordant.files import read_json, write_json
from concordant.report.record import Cell
from concordant.robustness.predict import predict
from concordant.speed import table
from concordant.study.baselines import LateFusion
from concordant.training.batches import to_tensors
from concordant.training.config import Variant, make_config
from concordant.training.many_seeds import train_together
from concordant.training.provenance import hardware, versions
from concordant.training.validation import validation_score
from studies import common

KEPT = common.RESULTS / "own-data.json"
PAGE = common.ROOT / "docs" / "method.md"
DROPOUTS = (0.1, 0.5)


class Source(NamedTuple):
    """Rows of a benchmark.

    Args:
        title: in the table.
        benchmark: its name.
        protocol: of its splits; None = its first.
        rows: number of training rows that are kept, by class; None = all.
    """

    title: str
    benchmark: str
    protocol: str | None = None
    rows: int | None = None


SETS = {
    "ave": Source("ave", "ave-features"),
    "handwritten": Source("handwritten, a tenth", "handwritten", rows=200),
    "cremad": Source("cremad", "cremad-features"),
    "scene15-150": Source("scene15, a twentieth", "scene15", rows=150),
    "cmu-mosi": Source("cmu-mosi test folds", "cmu-mosi-utterance", "test-folds"),
    "scene15-450": Source("scene15, a seventh", "scene15", rows=450),
}


def task_of(source: Source, seed: int, data: str | None) -> Task:
    """Return the split of a seed with as many training rows as are kept."""
    task = prepare(source.benchmark, seed=seed, data=data, protocol=source.protocol)
    if source.rows is None:
        return task
    every = np.arange(len(task.train))
    _, kept = stratified(every, task.train.labels, source.rows / len(every), seed, source.benchmark, "some")
    return replace(task, train=task.train.take(kept))


def measure(source: Source, seeds: int, data: str | None) -> dict[str, Any]:
    """Return rows, features, the accuracy of late fusion and that of every recipe, clean and perturbed."""
    tasks = [task_of(source, seed, data) for seed in range(seeds)]
    rows = len(tasks[0].train)
    features = sum(math.prod(shape) for shape in tasks[0].train.shapes.values())
    scores = []
    for steps in dict.fromkeys((steps_of(rows), OWN_STEPS)):
        for dropout in DROPOUTS:
            recipe = {"steps": steps, "dropout": dropout}
            config = make_config(
                source.benchmark, seeds=seeds, protocol=source.protocol, fusion="lf-dnn", recipe=recipe
            )
            trained = train_together(tasks, config, Variant.of("context"), range(seeds))
            found = []
            for seed, task in enumerate(tasks):
                if not isinstance(task.valid, Split):
                    raise DataError(f"{source.benchmark} is read from disk piece by piece; it must fit in memory")
                model, valid = trained[seed].model.eval(), to_tensors(task.valid)
                clean, _ = validation_score(model, valid, None, seed)
                both, _ = validation_score(model, valid, Perturbation(), seed)  # the mean of clean and perturbed
                found.append((clean, 2 * both - clean))
            clean, perturbed = np.mean(found, 0)
            scores.append({**recipe, "clean": round(float(clean), 4), "perturbed": round(float(perturbed), 4)})
            print(f"{source.title}: {scores[-1]}", flush=True)
    late = [(predict(LateFusion(task), task.valid).logits.argmax(1) == task.valid.labels).mean() for task in tasks]
    return {"rows": rows, "features": features, "late": round(float(np.mean(late)), 4), "scores": scores}


def block(found: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the table of docs/method.md."""
    lines = []
    for name, one in found.items():
        chosen = recipe_for(one["rows"], one["features"])
        line: list[str | Cell] = [f"{SETS[name].title} ({one['rows']}, {one['features']})"]
        for steps in (steps_of(one["rows"]), OWN_STEPS):
            for dropout in DROPOUTS:
                recipe = {"steps": steps, "dropout": dropout}
                score = next(row for row in one["scores"] if all(row[key] == recipe[key] for key in recipe))
                text = f"{100 * score['clean']:.1f} / {100 * score['perturbed']:.1f}"
                line.append(Cell(text, strong=recipe == chosen))
        lines.append([*line, f"{100 * one['late']:.1f}"])
    recipes = [f"{steps}, {dropout}" for steps in ("21 √rows", str(OWN_STEPS)) for dropout in DROPOUTS]
    return table(["data (training rows, features)", *recipes, "late fusion"], lines)


def main(names: common.Names = None, seeds: common.Seeds = 4, data: common.Data = None) -> None:
    """Train, keep the scores, and write the table."""
    torch.set_num_threads(1)
    known = read_json(KEPT)["sets"] if KEPT.is_file() else {}
    for name in common.chosen(names, SETS, "set"):
        known[name] = measure(SETS[name], seeds, data)
        kept = {one: known[one] for one in SETS if one in known}
        about = {"schema": "concordant.own-data/1", "seeds": seeds, "versions": versions(), "hardware": hardware()}
        write_json(KEPT, {**about, "sets": kept})
        common.fill_files([PAGE], {"own-data": block(kept)}, "study")


if __name__ == "__main__":
    common.run_script(main, __doc__, "studies.own_data")

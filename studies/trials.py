"""Try a calibrator on validation data alone: `python -m studies.trials FAMILY LABEL [NAME=NUMBER ...] [--seeds N]`.

FAMILY is one of the study's (studies.paper.grid), LABEL a method as in its tables ("context", "none+perturbed").
NAME=NUMBER replaces a default argument of the calibrator, recipe.NAME=NUMBER a field of the benchmark's recipe,
`--fusion` the family's first; `--record` keeps the scores in results/trials.json.
The test split is removed first. The validation split is scored, clean and under every kind of corruption at the study's
severities; where test subjects are new and validation subjects are not (utd-mhad), a training subject is left out of
training and scored instead. The method was chosen in this way (docs/method.md).
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated

import numpy as np
import torch
import typer

from concordant.benchmarks.catalogue import folder_of, natures_of
from concordant.calibration import ContextualCalibrator
from concordant.data.split import Split, Task
from concordant.errors import ConcordantError
from concordant.files import read_json, write_json
from concordant.fusion import FUSIONS
from concordant.rivals import CALIBRATORS
from concordant.robustness.answers import evaluate
from concordant.robustness.conditions import CLEAN, SplitContext
from concordant.sweep.trial import without_test
from concordant.training.provenance import hardware, versions
from concordant.training.runs import prepare_of
from concordant.training.train import train
from studies import common
from studies.paper.grid import FULL, base_config
from studies.paper.search import leave_group_out
from studies.paper.stress import CONTROL, conditions

KEPT = common.RESULTS / "trials.json"
RECIPE = "recipe."  # before the name of one of its fields


def main(
    family: str,
    label: str,
    options: Annotated[list[str] | None, typer.Argument(metavar="[NAME=NUMBER]...")] = None,
    seeds: common.Seeds = 4,
    fusion: str | None = None,
    record: Annotated[bool, typer.Option("--record")] = False,
    data: common.Data = None,
) -> None:
    """Train over some seeds and print the scores of each and their means."""
    families = {one.name: one for one in FULL.families}
    common.chosen([family], families, "family")
    own, calibrator = families[family], label.removesuffix("+perturbed")
    fusion = fusion or own.fusions[0]
    common.chosen([fusion], FUSIONS, "fusion")
    numbers: dict[str, float] = {}
    for option in options or ():
        name, _, value = option.partition("=")
        try:
            numbers[name] = float(value)
        except ValueError:
            raise typer.BadParameter(f"{option!r} is no NAME=NUMBER") from None
    recipe = {name.removeprefix(RECIPE): value for name, value in numbers.items() if name.startswith(RECIPE)}
    given = {name: value for name, value in numbers.items() if not name.startswith(RECIPE)}
    common.chosen(list(given), inspect.signature(ContextualCalibrator).parameters, "argument of a calibrator")
    common.chosen(list(recipe), FULL.space, "field of a search")
    own = replace(own, recipe={**own.recipe, **recipe})
    config = base_config(FULL, own, fusion, (calibrator,), seeds=seeds)
    variants = {variant.label: variant for variant in config.variants}
    common.chosen([label], variants, "method")
    entry = CALIBRATORS[calibrator]
    CALIBRATORS._entries[calibrator] = replace(entry, options={**entry.options, **given})
    torch.set_num_threads(1)
    source = folder_of(own.benchmark, data)
    rows = []
    for seed in range(seeds):
        task = without_test(prepare_of(config, source, seed=seed))
        task, scored = leave_group_out(task, seed) if own.unseen else (task, task.valid)
        if not isinstance(scored, Split):
            raise ConcordantError(f"{own.benchmark} is read from disk piece by piece; trials need parts in memory")
        model = train(task, config, variants[label], seed).model
        rows.append(scores_of(model, task, scored, natures_of(own.benchmark, source), seed))
        print(f"seed {seed}: clean {100 * rows[-1][0]:.1f}, corrupted {100 * rows[-1][1]:.1f}", flush=True)
    clean, corrupted = 100 * np.mean(rows, 0)
    name = " ".join([family, fusion, label, *(options or ())])
    print(f"{name}: clean {clean:.1f}, corrupted {corrupted:.1f}")
    if record:  # in place of an earlier trial of the same
        trial = {"family": family, "fusion": fusion, "label": label, "numbers": numbers}
        known = read_json(KEPT)["trials"] if KEPT.is_file() else []
        others = [one for one in known if {key: one[key] for key in trial} != trial]
        scores = {key: [round(row[place], 6) for row in rows] for place, key in enumerate(("clean", "corrupted"))}
        found = {**trial, **scores, "versions": versions(), "hardware": hardware()}
        write_json(KEPT, {"schema": "concordant.trials/1", "trials": [*others, found]})


def scores_of(
    model: torch.nn.Module, task: Task, split: Split, natures: Mapping[str, str], seed: int
) -> tuple[float, float]:
    """Return the accuracy, clean and in the mean over kinds and severities of corruption."""
    answers = evaluate(model, split, conditions(split, SplitContext(task.layouts, natures), FULL.severities, seed))
    kinds: dict[str, list[float]] = {}
    for name in answers.rows:
        if name.startswith("corruption.") and CONTROL not in name:
            kinds.setdefault(name.split(".")[1], []).append(answers.score(name))
    return answers.score(CLEAN), float(np.mean([np.mean(values) for values in kinds.values()]))


if __name__ == "__main__":
    common.run_script(main, __doc__, "studies.trials")

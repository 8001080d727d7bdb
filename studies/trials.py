"""Try a calibrator on validation data alone: `python -m studies.trials FAMILY LABEL [NAME=NUMBER ...] [--seeds N]`.

FAMILY is one of the study's (studies.paper.grid), LABEL a method as in its tables ("context", "none+perturbed").
NAME=NUMBER replaces a default argument of the calibrator, recipe.NAME=NUMBER a field of the benchmark's recipe,
`--fusion` the fusion by which the family's recipes were searched; `--record` keeps the scores in results/trials.json.
The test split is removed first. The validation split is scored, clean and under every kind of corruption at the study's
severities; where test subjects are new and validation subjects are not (utd-mhad), a training subject is left out of
training and scored instead. The method was chosen in this way (docs/method.md).
"""

from __future__ import annotations

import argparse
import inspect
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch

from concordant.benchmarks.catalogue import folder_of, natures_of
from concordant.calibration import ContextualCalibrator
from concordant.data.split import Split, Task
from concordant.errors import ConcordantError
from concordant.files import read_json, write_json
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


def main() -> None:
    """Train over some seeds and print the scores of each and their means."""
    families = {family.name: family for family in FULL.families}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("family", choices=families)
    parser.add_argument("label", help="a calibrator, or none+perturbed")
    parser.add_argument("options", nargs="*", metavar="NAME=NUMBER", help="arguments of the calibrator")
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--fusion", help="default: that by which the family's recipes were searched")
    parser.add_argument("--record", action="store_true", help="keep the scores in results/trials.json")
    parser.add_argument("--data", help="the data folder; default: CONCORDANT_DATA, or ../shared/data")
    arguments = parser.parse_args()
    family, calibrator = families[arguments.family], arguments.label.removesuffix("+perturbed")
    fusion = arguments.fusion or family.searched
    if fusion not in family.fusions:
        parser.error(f"{family.name} has no fusion {fusion!r}; choose from: {', '.join(family.fusions)}")
    numbers: dict[str, float] = {}
    for option in arguments.options:
        name, _, value = option.partition("=")
        try:
            numbers[name] = float(value)
        except ValueError:
            parser.error(f"{option!r} is no NAME=NUMBER")
    recipe = {name.removeprefix(RECIPE): value for name, value in numbers.items() if name.startswith(RECIPE)}
    given = {name: value for name, value in numbers.items() if not name.startswith(RECIPE)}
    for name in set(given) - set(inspect.signature(ContextualCalibrator).parameters):
        parser.error(f"a calibrator has no argument {name!r}")
    for name in set(recipe) - set(FULL.space):
        parser.error(f"no search has the field {name!r}; choose from: {', '.join(FULL.space)}")
    family = replace(family, recipe={**family.recipe, **recipe})
    config = base_config(FULL, family, fusion, (calibrator,), seeds=arguments.seeds)
    labels = {variant.label: variant for variant in config.variants}
    if arguments.label not in labels:
        parser.error(f"unknown method {arguments.label!r}; choose from: {', '.join(labels)}")
    entry = CALIBRATORS[calibrator]
    CALIBRATORS._entries[calibrator] = replace(entry, options={**entry.options, **given})
    torch.set_num_threads(1)
    source = folder_of(family.benchmark, arguments.data)
    rows = []
    for seed in range(arguments.seeds):
        task = without_test(prepare_of(config, source, seed=seed))
        task, scored = leave_group_out(task, seed) if family.unseen else (task, task.valid)
        if not isinstance(scored, Split):
            raise ConcordantError(f"{family.benchmark} is read from disk piece by piece; trials need parts in memory")
        model = train(task, config, labels[arguments.label], seed).model
        rows.append(scores_of(model, task, scored, natures_of(family.benchmark, source), seed))
        print(f"seed {seed}: clean {100 * rows[-1][0]:.1f}, corrupted {100 * rows[-1][1]:.1f}", flush=True)
    clean, corrupted = 100 * np.mean(rows, 0)
    name = " ".join([family.name, fusion, arguments.label, *arguments.options])
    print(f"{name}: clean {clean:.1f}, corrupted {corrupted:.1f}")
    if arguments.record:  # in place of an earlier trial of the same
        trial = {"family": family.name, "fusion": fusion, "label": arguments.label, "numbers": numbers}
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
    common.run_script(main, "studies.trials")

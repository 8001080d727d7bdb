"""Tries a calibrator on validation data alone: `python results/trials.py FAMILY LABEL [NAME=NUMBER ...] [--seeds N]`.

FAMILY is one of the proof's (concord.proof.grid), LABEL what its tables call a method ("context", "none+perturbed"),
NAME=NUMBER an argument of the calibrator in place of its default. The test part is taken away first. What is scored is
the validation part, untouched and under every kind of corruption at the proof's severities; where test subjects are
unseen and validation ones are not (utd-mhad), a training subject is left out of training and scored instead. So the
method was chosen; docs/method.md has what came of it.
"""

from __future__ import annotations

import argparse
import inspect
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from concord.analysis.asking import ask
from concord.analysis.corrupting import Ground
from concord.analysis.study import prepare_of
from concord.calibration import ContextualCalibrator
from concord.data.benchmarks import folder_of, natures_of
from concord.data.part import Part, Task
from concord.errors import ConcordError
from concord.experiment.training import train
from concord.proof.conditions import CLEAN, CONTROL, conditions
from concord.proof.grid import FULL
from concord.proof.plan import base_config
from concord.proof.unseen import leave_group_out
from concord.rivals import CALIBRATORS
from concord.sweep.trial import without_test


def main() -> int:
    """Train over some seeds and print the scores of each and their means."""
    families = {family.name: family for family in FULL.families}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("family", choices=families)
    parser.add_argument("label", help="a calibrator, or none+perturbed")
    parser.add_argument("options", nargs="*", metavar="NAME=NUMBER", help="arguments of the calibrator")
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--data", help="the data folder; default: CONCORD_DATA, or ../shared/data")
    arguments = parser.parse_args()
    family, calibrator = families[arguments.family], arguments.label.removesuffix("+perturbed")
    config = base_config(FULL, family, family.searched, (calibrator,), seeds=arguments.seeds)
    labels = [variant.label for variant in config.variants]
    if arguments.label not in labels:
        parser.error(f"unknown method {arguments.label!r}; choose from: {', '.join(labels)}")
    variant = config.variants[labels.index(arguments.label)]
    entry = CALIBRATORS[calibrator]
    given = {}
    for option in arguments.options:
        name, _, value = option.partition("=")
        try:
            given[name] = float(value)
        except ValueError:
            parser.error(f"{option!r} is no NAME=NUMBER")
        if name not in inspect.signature(ContextualCalibrator).parameters:
            parser.error(f"a calibrator has no argument {name!r}")
    CALIBRATORS._entries[calibrator] = replace(entry, options={**entry.options, **given})
    torch.set_num_threads(1)
    source = folder_of(family.benchmark, arguments.data)
    rows = []
    for seed in range(arguments.seeds):
        task = without_test(prepare_of(config, source, seed=seed))
        task, scored = leave_group_out(task, seed) if family.unseen else (task, task.valid)
        if not isinstance(scored, Part):
            raise ConcordError(f"{family.benchmark} is read from disk piece by piece; trials need parts in memory")
        model = train(task, config, variant, seed).model
        rows.append(scores_of(model, task, scored, natures_of(family.benchmark, source), seed))
        print(f"seed {seed}: clean {100 * rows[-1][0]:.1f}, corrupted {100 * rows[-1][1]:.1f}", flush=True)
    clean, corrupted = 100 * np.mean(rows, 0)
    name = " ".join([family.name, arguments.label, *arguments.options])
    print(f"{name}: clean {clean:.1f}, corrupted {corrupted:.1f}")
    return 0


def scores_of(model: Any, task: Task, part: Part, natures: Any, seed: int) -> tuple[float, float]:  # noqa: ANN401
    """Return the accuracy, untouched and in the mean over kinds and severities of corruption."""
    clean, kinds = 0.0, dict[str, list[float]]()
    for shown in conditions(part, Ground(task.layouts, natures, {}, {}), FULL.severities, seed):
        right = float((ask(model, shown.part).predictions() == shown.part.labels).mean())
        if shown.name == CLEAN:
            clean = right
        elif shown.name.startswith("corruption.") and CONTROL not in shown.name:
            kinds.setdefault(shown.name.split(".")[1], []).append(right)
    return clean, float(np.mean([np.mean(values) for values in kinds.values()]))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ConcordError as error:
        sys.exit(f"results/trials.py: {error}")

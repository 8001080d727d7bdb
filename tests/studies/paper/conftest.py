"""A small study of the embedded digits, trained, stressed and read once for all tests of this folder.

Beside it: rows of tables with numbers that a test chooses, cells with drawn outcomes, and the committed results.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from concordant.study.experiment import Execution
from studies.paper import run as running
from studies.paper.findings import Findings
from studies.paper.grid import FULL, Cell, Family, Grid, plan_cell
from studies.paper.outcomes import CellOutcomes, RunOutcomes, read_cell
from studies.paper.run import Study

GRID = Grid(
    families=(
        Family(
            *("digits", "digits", ("lf-dnn",), 2),
            modalities=("left", "profile"),
            recipe={"steps": 12, "width": 8, "evaluations": 2},
            search_seeds=1,
        ),
    ),
    calibrators=("none", "self", "after-fusion", "context"),
    ablations=("context-no-support", "context-no-perturbation"),
    severities=(1, 5),
    space={"learning_rate": [0.01, 0.03]},
    budget=2,
    resamples=200,
)


def study_in(folder, grid, **options):
    results = folder / "results"
    places = {"searches": results / "search", "cells": results / "proof" / "cells"}
    return Study(grid, folder / "runs", results, **{**places, "command": "here", **options})


@pytest.fixture(scope="session")
def study():
    """Return a function that makes a study whose files are in a folder."""
    return study_in


@dataclass(frozen=True)
class Made:
    study: Study
    findings: Findings

    @property
    def grid(self):
        return self.study.grid

    @property
    def out(self):
        return self.study.out

    @property
    def results(self):
        return self.study.results

    @property
    def plan(self):
        return [one for cell in self.grid.cells for one in self.study.plan(cell)]


@pytest.fixture(scope="session")
def made(once, tmp_path_factory):
    def run(folder):
        study = study_in(folder, GRID, how=Execution(jobs=1), commit="abc")
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(running, "TURNS", 2)
            patched.setattr(running, "WARM_UP", 0)
            study.run()
        return study

    copy = shutil.copytree(once("study", run), tmp_path_factory.mktemp("study") / "copy")
    study = study_in(copy, GRID, how=Execution(jobs=1), commit="abc")
    return Made(study, study.findings())


@pytest.fixture(scope="session")
def cell(made):
    return read_cell(made.plan, made.grid.severities)


@pytest.fixture(scope="session")
def make_plan():
    """Return a function that gives all experiments of a grid."""

    def plan(grid, out, tuned):
        return [one for cell in grid.cells for one in plan_cell(grid, cell, out, tuned.get(cell.family.name, {}))]

    return plan


class Rows:
    """Rows of tables as the questions make them."""

    def place(self, family, fusion, modalities=2):
        shared = {"family": family, "benchmark": family, "protocol": "random", "fusion": fusion}
        return {**shared, "modalities": modalities, "seeds": 10}

    def score(self, label, mean, std=0.01, *, family="scene15", fusion="lf-dnn", condition="clean", modalities=2):
        here = {"condition": condition, "label": label, "mean": mean, "std": std}
        return {**self.place(family, fusion, modalities), **here}

    def row(
        self,
        to,
        difference,
        p_holm=0.5,
        *,
        mean=0.5,
        family="scene15",
        fusion="lf-dnn",
        condition="clean",
        modalities=2,
    ):
        return {
            **self.place(family, fusion, modalities),
            "condition": condition,
            "of": "context",
            "to": to,
            "mean_of": mean,
            "std_of": 0.02,
            "mean_to": mean - difference,
            "std_to": None,
            "difference": difference,
            "low": difference - 0.01,
            "high": difference + 0.02,
            "p": p_holm / 2,
            "p_holm": p_holm,
            "p_wilcoxon": None,
        }


@pytest.fixture(scope="session")
def rows():
    return Rows()


@pytest.fixture(scope="session")
def committed():
    return Path(__file__).parents[3] / "results"


@pytest.fixture(scope="session")
def known(committed):
    """Return the findings of the committed cells."""
    places = {"searches": committed / "search", "cells": committed / "proof" / "cells"}
    return Study(FULL, committed / "none", committed, **places).findings()


# Cells with drawn outcomes: what every method predicts correctly, and how reliable it looks.
N, SEVERITIES, MODALITIES = 40, (1, 5), ("left", "right")
KINDS = ("swap", "clipping")
ORACLES = dict.fromkeys(KINDS, "oracle.left+right")
RELIABLE = ("self", "context")  # the methods that give a reliability


def run(label, seed, number):
    draws = np.random.default_rng([seed, number, *label.encode()])
    names = ["clean", *(f"removal.{name}" for name in MODALITIES)]
    values = {name: (draws.random(N) < draws.uniform(0.3, 0.9)).astype(float) for name in names}
    for kind in KINDS:
        for severity in SEVERITIES:
            values[f"corruption.{kind}.{severity}"] = (draws.random(N) < draws.uniform(0.3, 0.9)).astype(float)
            if label in RELIABLE:
                for what in ("which", "whether"):
                    values[f"{what}.{kind}.{severity}"] = draws.random(N)
        values[f"corruption.{kind}"] = sum(values[f"corruption.{kind}.{s}"] for s in SEVERITIES) / len(SEVERITIES)
    for name, kinds in (("mean", KINDS), ("seen", KINDS[:1]), ("unseen", KINDS[1:])):
        values[f"corruption.{name}"] = sum(values[f"corruption.{kind}"] for kind in kinds) / len(kinds)
    ids = np.array([f"{row}" for row in range(N)])
    extra = {"parameters": 10 * len(label), "model_parameters": 1000 + 10 * len(label)}
    return RunOutcomes(ids, None, values, np.ones(N, np.bool_), ORACLES, extra)


@pytest.fixture(scope="session")
def drawn():
    """Return a function that draws a cell."""

    def cell(name="a", labels=("none", "none+perturbed", "self", "context"), *, seeds=3, ablations=(), stability=None):
        family = Family(name, "digits", ("concat",), seeds, modalities=MODALITIES)
        runs = {label: {seed: run(label, seed, len(name)) for seed in range(seeds)} for label in (*labels, *ablations)}
        place = Cell(family, "concat")
        return CellOutcomes(place, tuple(labels), tuple(ablations), SEVERITIES, runs, stability or {})

    return cell

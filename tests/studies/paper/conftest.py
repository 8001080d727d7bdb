"""A whole proof, tiny, on the embedded digits: trained, stressed and read once for all tests of this folder.

Beside it rows of tables, of numbers that a test chooses, and the committed results.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from studies.paper.grid import Cell, Family, Grid, make_plan
from studies.paper.outcomes import CellOutcomes, RunOutcomes, read_cell
from studies.paper.run import Places, run_study
from studies.paper.search import chosen_of


@dataclass(frozen=True)
class Made:
    grid: Grid
    out: object
    results: object
    summary: object
    lines: list

    @property
    def plan(self):
        from concordant.files import read_json

        tuned = {"digits": chosen_of(read_json(self.results / "search" / "digits.json"))}
        return make_plan(self.grid, self.out, tuned)


RECIPE = {"steps": 12, "width": 8, "evaluations": 2}
GRID = Grid(
    families=(
        Family("digits", "digits", ("lf-dnn",), "lf-dnn", 2, recipe={"steps": 12, "width": 8, "evaluations": 2}),
    ),
    calibrators=("none", "self", "uncertainty", "after-fusion", "context"),
    ablations=("context-no-support", "context-no-perturbation"),
    severities=(1, 5),
    space={"learning_rate": [0.01, 0.03]},
    budget=2,
    search_seeds=1,
    resamples=200,
)


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("proof")
    lines = []
    summary = run_study(
        GRID,
        Places(folder / "runs", folder / "results"),
        jobs=1,
        progress=lambda *state: lines.append(state),
        command="here",
        commit="abc",
    )
    return Made(GRID, folder / "runs", folder / "results", summary, lines)


@pytest.fixture(scope="session")
def cell(made):
    return read_cell(made.plan, made.grid.severities)


class Rows:
    """Rows of tables as the questions make them."""

    def place(self, family, fusion, modalities=2):
        shared = {"family": family, "benchmark": family, "protocol": "random", "fusion": fusion}
        return {**shared, "modalities": modalities, "seeds": 10}

    def score(self, label, mean, std=0.01, *, family="scene15", fusion="lf-dnn", condition="clean", modalities=2):
        here = {"condition": condition, "label": label, "mean": mean, "std": std}
        return {**self.place(family, fusion, modalities), **here}

    def row(self, to, difference, p_holm=0.5, *, mean=0.5, family="scene15", fusion="lf-dnn", condition="clean"):
        return {
            **self.place(family, fusion),
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


# Cells with drawn outcomes: what every method predicts correctly, and how reliable it looks.
N, SEVERITIES, MODALITIES = 40, (1, 5), ("left", "right")
KINDS = ("swap", "clipping")
TOLD = dict.fromkeys(KINDS, "oracle.left+right")
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
    return RunOutcomes(ids, None, values, np.ones(N, np.bool_), TOLD, extra)


@pytest.fixture(scope="session")
def drawn():
    """Return a function that draws a cell."""

    def cell(name="a", labels=("none", "none+perturbed", "self", "context"), *, seeds=3, ablations=(), stability=None):
        family = Family(name, "digits", ("concat",), "concat", seeds, modalities=MODALITIES)
        runs = {label: {seed: run(label, seed, len(name)) for seed in range(seeds)} for label in (*labels, *ablations)}
        place = Cell(family, "concat", first=True)
        return CellOutcomes(place, tuple(labels), tuple(ablations), SEVERITIES, runs, stability or {})

    return cell

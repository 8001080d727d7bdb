"""A whole proof, tiny, on the embedded digits: trained, stressed and read once for all tests of this folder."""

from dataclasses import dataclass

import pytest

from concord.proof.grid import Family, Grid
from concord.proof.making import Places, make_proof
from concord.proof.outcomes import read_cell
from concord.proof.plan import make_plan
from concord.proof.searching import chosen_of
from concord.sweep.space import Choices


@dataclass(frozen=True)
class Made:
    grid: Grid
    out: object
    results: object
    summary: object
    lines: list

    @property
    def plan(self):
        from concord.files import read_json

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
    space={"learning_rate": Choices((0.01, 0.03))},
    budget=2,
    search_seeds=1,
    resamples=200,
)


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("proof")
    lines = []
    summary = make_proof(
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

"""The search: the same candidates for every variant, chosen by validation, in a table that tells all."""

import json

import pytest

from concordant.sweep.grid_file import Grid, Search
from concordant.sweep.plan import Experiment
from concordant.sweep.search import candidates, place, table_of, tuned
from concordant.sweep.space import draw
from concordant.training.config import make_config

CONFIG = make_config("digits", calibrators=("none", "context"), seeds=4)
ONE = Experiment("digits", "concat", CONFIG, None)
SEARCH = Search(budget=3, seeds=2, space={"learning_rate": {"log": [1e-4, 1e-2]}, "steps": [5, 6]})
GRID = Grid(benchmarks=("digits",), search=SEARCH)
LABELS = ("none", "none+perturbed", "context")


def test_every_variant_gets_the_same_budget_and_the_same_candidates(tmp_path):
    found = candidates(ONE, GRID, SEARCH, sweep=tmp_path, files={"f": "d"})
    assert len(found) == 3 * 2 * len(LABELS)
    for label in LABELS:
        mine = [trial for trial in found if trial.label == label]
        assert [(trial.candidate, trial.seed) for trial in mine] == [(k, s) for k in range(3) for s in range(2)]
        assert [trial.fields for trial in mine[::2]] == [draw(SEARCH.values, k) for k in range(3)]
    for trial in found:
        assert trial.config.recipe.model_dump() == {**CONFIG.recipe.model_dump(), **trial.fields}
        assert trial.files == {"f": "d"}
    assert len({trial.target for trial in found}) == len(found)


@pytest.fixture
def scored(tmp_path):
    scores = {"none": [0.5, 0.7, 0.7], "none+perturbed": [0.9, None, 0.1], "context": [None, None, None]}
    for trial in candidates(ONE, GRID, SEARCH, sweep=tmp_path, files={}):
        score = scores[trial.label][trial.candidate]
        trial.target.parent.mkdir(parents=True, exist_ok=True)
        # Seeds differ, so that it is their mean that counts; of a candidate one seed alone may fail.
        value = None if score is None and trial.seed else (score or 0.95) + (0.1 if trial.seed else -0.1)
        error = "training diverged" if value is None else None
        trial.target.write_text(json.dumps({"recipe": trial.fields, "validation": value, "error": error}))
    return table_of(ONE, SEARCH, tmp_path)


def test_the_best_mean_is_chosen_and_the_first_of_equals(scored):
    chosen = {label: None if row is None else row["candidate"] for label, row in scored["chosen"].items()}
    assert chosen == {"none": 1, "none+perturbed": 0, "context": None}
    assert tuned(scored) == {"none": draw(SEARCH.values, 1), "none+perturbed": draw(SEARCH.values, 0)}


def test_the_table_holds_every_candidate(scored):
    assert scored["schema"] == "concordant.search/1"
    assert [(row["label"], row["candidate"]) for row in scored["candidates"]] == [
        (n, k) for n in LABELS for k in (0, 1, 2)
    ]
    means = [row["mean"] for row in scored["candidates"][:3]]
    assert means == pytest.approx([0.5, 0.7, 0.7])
    failed = scored["candidates"][4]
    assert (failed["mean"], failed["error"], len(failed["validation"])) == (None, "training diverged", 2)
    assert scored["space"] == {"learning_rate": {"log": [1e-4, 1e-2]}, "steps": [5, 6]}
    assert (scored["budget"], scored["seeds"], scored["seed"]) == (3, 2, 0)
    json.dumps(scored, allow_nan=False)


def test_candidates_lie_by_experiment_and_variant(tmp_path):
    path = place(tmp_path, ONE, CONFIG.variants[1], 2, 1)
    assert path == tmp_path / "search" / "digits" / "concat" / "none+perturbed" / "candidate-2-seed-1.json"

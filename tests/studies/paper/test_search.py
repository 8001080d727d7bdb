import json
from dataclasses import replace

import numpy as np
import pytest

from concordant.benchmarks.catalogue import prepare
from concordant.errors import DataError, UsageError
from concordant.files import read_json
from concordant.study.experiment import Execution
from concordant.training.config import Variant
from concordant.training.runs import prepare_of
from concordant.training.train import train
from studies.paper.grid import base_config
from studies.paper.search import candidate, chosen_of, known_search, leave_group_out, search, search_family


def test_every_method_has_the_same_candidates_and_the_best_on_validation_is_chosen(made):
    table = read_json(made.results / "search" / "digits.json")
    assert table["schema"] == "concordant.search/1"
    labels = ["none", "none+perturbed", "self", "after-fusion", "context"]
    assert list(table["chosen"]) == labels
    recipes = {label: [row["recipe"] for row in table["candidates"] if row["label"] == label] for label in labels}
    assert all(one == recipes["none"] for one in recipes.values())
    assert len(recipes["none"]) == made.grid.budget
    for label, row in table["chosen"].items():
        assert row["mean"] == max(one["mean"] for one in table["candidates"] if one["label"] == label)


def test_the_first_candidate_is_the_benchmark_s_own(made):
    family = made.grid.families[0]
    plain = base_config(made.grid, family, "lf-dnn", ("none",), seeds=1)
    assert candidate(made.grid, plain, 0) == {"learning_rate": plain.recipe.learning_rate}
    assert candidate(made.grid, plain, 1)["learning_rate"] in (0.01, 0.03)


def test_a_candidate_s_score_is_the_validation_score_of_the_state_that_is_kept(made):
    family = made.grid.families[0]
    config = base_config(made.grid, family, "lf-dnn", ("self",), seeds=1)
    task = prepare_of(config, None, seed=0)
    trained = train(task, config, Variant("self", True), 0)
    kept = next(one for one in trained.history if one["step"] == trained.best_step)
    rows = read_json(made.results / "search" / "digits.json")["candidates"]
    row = next(one for one in rows if one["label"] == "self" and one["candidate"] == 0)
    assert row["validation"] == [kept["validation"]]


def test_a_search_goes_on_where_it_was_and_a_committed_one_is_taken(made, tmp_path):
    family, seen = made.grid.families[0], []
    again = search_family(made.grid, family, made.out, Execution(jobs=1, progress=lambda *state: seen.append(state)))
    assert seen == []
    kept = made.results / "search"
    assert again["chosen"] == read_json(kept / "digits.json")["chosen"]
    assert search(made.grid, family, tmp_path, kept, Execution()) == chosen_of(again)
    assert list(tmp_path.iterdir()) == []  # nothing was trained


def test_nothing_of_the_test_part_is_there_in_a_search(made, monkeypatch):
    from concordant.training.processes import Job
    from studies.paper import search as searching

    seen = []

    def watched(task, *rest):
        seen.append(len(task.test))
        return train(task, *rest)

    monkeypatch.setattr(searching, "train", watched)
    config = base_config(made.grid, made.grid.families[0], "lf-dnn", ("none",), seeds=1)
    short = config.model_copy(update={"recipe": config.recipe.model_copy(update={"steps": 3})})
    searching.try_candidate(Job(short, Variant("none", False), 0, made.out / "one", None))
    assert seen == [0]


def test_a_candidate_that_diverges_has_no_score(made, tmp_path):
    from concordant.training.processes import Job
    from studies.paper.search import FILE, try_candidate

    config = base_config(made.grid, made.grid.families[0], "lf-dnn", ("none",), seeds=1)
    wild = config.model_copy(update={"recipe": config.recipe.model_copy(update={"learning_rate": 1e30})})
    found = try_candidate(Job(wild, Variant("none", False), 0, tmp_path, None))
    assert found["validation"] is None
    assert "training diverged" in found["error"]
    assert json.loads((tmp_path / FILE).read_text())["error"] == found["error"]


@pytest.mark.parametrize("known", [True, False])
def test_without_a_budget_nothing_is_searched(made, tmp_path, known):
    kept = made.results / "search" if known else tmp_path / "none"
    found = search(replace(made.grid, budget=0), made.grid.families[0], tmp_path, kept, Execution())
    assert bool(found) == known


def test_a_search_of_something_else_is_not_taken(made):
    family, kept = made.grid.families[0], made.results / "search"
    assert known_search(made.grid, family, kept) is not None
    for changed in ({"budget": 3}, {"space": {}}):
        assert known_search(replace(made.grid, **changed), family, kept) is None
    for changed in ({"search_seeds": 2}, {"searched": "lmf"}, {"unseen": True}):
        assert known_search(made.grid, replace(family, **changed), kept) is None


def test_a_candidate_of_unseen_groups_is_scored_on_a_group_that_it_was_not_trained_on(made, tmp_path, monkeypatch):
    import numpy as np

    from concordant.calibration import Perturbation
    from concordant.training.batches import open_tensors
    from concordant.training.processes import Job
    from concordant.training.validation import validation_score
    from studies.paper import search as searching
    from studies.paper.search import leave_group_out

    def prepared(*args, **options):
        task = prepare_of(*args, **options)
        groups = {name: np.arange(len(getattr(task, name))).astype(str) for name in ("train", "valid", "test")}
        parts = {
            name: replace(getattr(task, name), groups=np.array([f"g{int(one) % 4}" for one in rows]))
            for name, rows in groups.items()
        }
        return replace(task, **parts)

    monkeypatch.setattr(searching, "prepare_of", prepared)
    config = base_config(made.grid, made.grid.families[0], "lf-dnn", ("self",), seeds=2)
    job = Job(config, Variant("self", True), 1, tmp_path, None)
    found = searching.try_candidate(job, unseen=True)
    left, scored = leave_group_out(prepared(config, None, seed=1), 1)
    model = train(left, config, Variant("self", True), 1).model.eval()
    expected, _ = validation_score(model, open_tensors(scored), Perturbation(), 1)
    assert found["validation"] == expected
    assert found["scored"] == "training group that is left out"


@pytest.mark.parametrize("chosen", [None, [], {"context": {}}, {"context": {"recipe": 3}}, {"context": "recipe"}])
def test_a_search_that_chose_nothing_is_refused(chosen):
    with pytest.raises(DataError, match="the search of digits has no recipe of each method under 'chosen'"):
        chosen_of({"family": "digits", "chosen": chosen})


@pytest.fixture(scope="module")
def task():
    found = prepare("digits", seed=0)
    return replace(found, train=grouped(found.train, 5), valid=grouped(found.valid, 5), test=grouped(found.test, 3))


def grouped(part, count):
    return replace(part, groups=np.array([f"g{number % count}" for number in range(len(part))]))


@pytest.mark.parametrize(("number", "group"), [(0, "g0"), (3, "g3"), (7, "g2")])
def test_the_group_is_in_no_part_and_scored_as_a_whole(task, number, group):
    left, scored = leave_group_out(task, number)
    for part, whole in ((left.train, task.train), (left.valid, task.valid)):
        assert group not in set(part.groups)
        assert list(part.ids) == [one for one, of in zip(whole.ids, whole.groups, strict=True) if of != group]
    assert list(scored.ids) == [
        one
        for whole in (task.train, task.valid)
        for one, of in zip(whole.ids, whole.groups, strict=True)
        if of == group
    ]
    known = {
        one: row for whole in (task.train, task.valid) for row, one in zip(whole.inputs["left"], whole.ids, strict=True)
    }
    assert all(np.array_equal(row, known[one]) for row, one in zip(scored.inputs["left"], scored.ids, strict=True))
    assert left.test is task.test


def test_what_cannot_be_left_out_is_said(task):
    alone = replace(task, train=replace(task.train, groups=None))
    with pytest.raises(UsageError, match="needs instances with groups; found none"):
        leave_group_out(alone, 0)
    single = replace(task, train=grouped(task.train, 1))
    with pytest.raises(UsageError, match=r"needs two or more in the training part; found \['g0'\]"):
        leave_group_out(single, 0)

import json
from dataclasses import replace

import numpy as np
import pytest

from concordant.benchmarks.catalogue import prepare
from concordant.calibration import Perturbation
from concordant.errors import DataError, UsageError
from concordant.files import read_json
from concordant.study.experiment import Execution
from concordant.sweep.trial import without_test
from concordant.training.batches import open_tensors
from concordant.training.config import Variant
from concordant.training.many_seeds import train_together
from concordant.training.processes import Job
from concordant.training.runs import prepare_of
from concordant.training.train import train
from concordant.training.validation import validation_score
from studies.paper import search as searching
from studies.paper.grid import base_config
from studies.paper.search import FILE, candidate, chosen_of, known_search, leave_group_out, search, search_cell


def test_every_method_has_the_same_candidates_and_the_best_on_validation_is_chosen(made):
    table = read_json(made.results / "search" / "digits--lf-dnn.json")
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
    rows = read_json(made.results / "search" / "digits--lf-dnn.json")["candidates"]
    row = next(one for one in rows if one["label"] == "self" and one["candidate"] == 0)
    assert row["validation"] == [kept["validation"]]


def test_a_search_goes_on_where_it_was_and_a_committed_one_is_taken(made, tmp_path):
    cell, seen = made.grid.cells[0], []
    again = search_cell(made.grid, cell, made.out, Execution(jobs=1, progress=lambda *state: seen.append(state)))
    assert seen == []
    kept = made.results / "search"
    assert again["chosen"] == read_json(kept / "digits--lf-dnn.json")["chosen"]
    assert search(made.grid, cell, tmp_path, kept, Execution()) == chosen_of(again)
    assert list(tmp_path.iterdir()) == []  # nothing was trained


def test_nothing_of_the_test_part_is_there_in_a_search(made, monkeypatch):

    seen = []

    def watched(task, *rest):
        seen.append(len(task.test))
        return train(task, *rest)

    monkeypatch.setattr(searching, "train", watched)
    config = base_config(made.grid, made.grid.families[0], "lf-dnn", ("none",), seeds=1)
    short = config.model_copy(update={"recipe": config.recipe.model_copy(update={"steps": 3})})
    searching.try_candidates(Job(short, Variant("none", False), 0, made.out / "one", None))
    assert seen == [0]


def test_a_candidate_that_diverges_has_no_score(made, tmp_path):

    config = base_config(made.grid, made.grid.families[0], "lf-dnn", ("none",), seeds=1)
    wild = config.model_copy(update={"recipe": config.recipe.model_copy(update={"learning_rate": 1e30})})
    found = searching.try_candidates(Job(wild, Variant("none", False), 0, tmp_path, None))
    assert found["validation"] is None
    assert "training diverged" in found["error"]
    assert json.loads((tmp_path / FILE).read_text())["error"] == found["error"]


@pytest.mark.parametrize("known", [True, False])
def test_without_a_budget_nothing_is_searched(made, tmp_path, known):
    kept = made.results / "search" if known else tmp_path / "none"
    found = search(replace(made.grid, budget=0), made.grid.cells[0], tmp_path, kept, Execution())
    assert bool(found) == known


def test_a_search_of_something_else_is_not_taken(made):
    cell, kept = made.grid.cells[0], made.results / "search"
    assert known_search(made.grid, cell, kept) is not None
    for changed in ({"budget": 3}, {"space": {}}):
        assert known_search(replace(made.grid, **changed), cell, kept) is None
    for changed in ({"search_seeds": 2}, {"unseen": True}):
        other = replace(cell, family=replace(cell.family, **changed))
        assert known_search(made.grid, other, kept) is None
    other = replace(cell, fusion="lmf")
    assert known_search(made.grid, other.searched, kept) is None
    other = replace(other, family=replace(other.family, fusions=("lf-dnn", "lmf"), borrowed=("lmf",)))
    assert known_search(made.grid, other.searched, kept) == known_search(made.grid, cell, kept)


def in_groups(*args, **options):
    """Return a task whose instances belong to four groups."""
    task = prepare_of(*args, **options)
    parts = {name: grouped(getattr(task, name), 4) for name in ("train", "valid", "test")}
    return replace(task, **parts)


def test_a_candidate_of_unseen_groups_is_scored_on_a_group_that_it_was_not_trained_on(made, tmp_path, monkeypatch):
    monkeypatch.setattr(searching, "prepare_of", in_groups)
    config = base_config(made.grid, made.grid.families[0], "lf-dnn", ("self",), seeds=2)
    job = Job(config, Variant("self", True), 1, tmp_path, None)
    found = searching.try_candidates(job, unseen=True)
    left, scored = leave_group_out(in_groups(config, None, seed=1), 1)
    model = train(without_test(left), config, Variant("self", True), 1).model.eval()
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


@pytest.mark.parametrize("unseen", [False, True])
def test_the_seeds_of_a_candidate_in_one_pass_score_what_they_do_alone(made, tmp_path, monkeypatch, unseen):
    cell = replace(made.grid.cells[0], family=replace(made.grid.families[0], search_seeds=3, unseen=unseen))
    if unseen:
        monkeypatch.setattr(searching, "prepare_of", in_groups)
    grid = replace(made.grid, calibrators=("none", "context"), budget=1)
    seen = []
    monkeypatch.setattr(searching, "train_together", lambda *given: seen.append(given) or train_together(*given))
    together = search_cell(grid, cell, tmp_path / "together", Execution(jobs=1))
    assert [given[3] for given in seen] == [[0, 1, 2]] * 3  # none, none+perturbed, context
    alone = [
        searching.try_candidates(job, unseen=unseen)["validation"]
        for label, perturbed in (("none", False), ("none+perturbed", True), ("context", True))
        for job in jobs_alone(grid, cell, tmp_path / "alone", label, perturbed)
    ]
    found = [score for row in together["candidates"] for score in row["validation"]]
    assert found == pytest.approx(alone, abs=0.01)  # equal but for rounding, which may turn an answer
    assert len(set(found)) > 1


def jobs_alone(grid, cell, out, label, perturbed):
    calibrator = label.removesuffix("+perturbed")
    config = base_config(grid, cell.family, cell.fusion, (calibrator,), seeds=3)
    return [Job(config, Variant(calibrator, perturbed), seed, out / f"{label}-{seed}", None) for seed in range(3)]

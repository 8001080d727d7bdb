from concordant.dynamics.recorder import DEFAULT_EVERY
from studies.paper import training
from studies.paper.grid import Family, Grid
from studies.paper.plan import make_plan
from studies.paper.training import is_observed, train_all

GRID = Grid(
    (Family("a", "digits", ("lf-dnn", "lmf"), "lf-dnn", 1), Family("b", "digits", ("tfn",), "tfn", 1, ablated=False)),
    ("none", "context"),
    ("context-no-support",),
)


def test_the_first_cell_of_every_family_is_observed_and_nothing_else(tmp_path):
    plan = make_plan(GRID, tmp_path, {})
    assert [one.name for one in plan if is_observed(one)] == ["a/lf-dnn", "b/tfn"]
    assert [one.name for one in plan if not is_observed(one)] == ["a/lf-dnn ablations", "a/lmf"]


def test_everything_is_trained_once_and_what_is_observed_records_its_steps(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(training, "study_all", lambda studies, **asked: calls.append((studies, asked)))
    plan = make_plan(GRID, tmp_path, {})
    train_all(plan, jobs=3, data="here")
    assert [(list(studies), asked["dynamics"]) for studies, asked in calls] == [
        (["a/lf-dnn", "b/tfn"], DEFAULT_EVERY),
        (["a/lf-dnn ablations", "a/lmf"], None),
    ]
    known = {one.name: (one.config, one.folder) for one in plan}
    assert {name: study for studies, _ in calls for name, study in studies.items()} == known
    assert all((asked["jobs"], asked["data"]) == (3, "here") for _, asked in calls)
    calls.clear()
    train_all([one for one in plan if one.ablations])
    assert [(list(studies), asked["dynamics"]) for studies, asked in calls] == [(["a/lf-dnn ablations"], None)]

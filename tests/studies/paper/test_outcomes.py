"""Scores and areas read from the answers, against `concordant run`, `concordant stress` and scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from concordant.errors import DataError
from concordant.files import read_json
from concordant.robustness.answers import Answer
from concordant.robustness.curves import measure_corruption
from concordant.robustness.detection import detection
from concordant.training.runs import open_runs, prepare_of
from studies.paper.outcomes import MEAN, SEEN, UNSEEN, placements, read_run, whether_components, which_components
from studies.paper.stress import CONTROL, FILE


def test_scores_are_those_of_the_run(made, cell):
    results = read_json(made.out / "digits" / "lf-dnn" / "results.json")
    for run in results["runs"]:
        label = "none+perturbed" if run["calibrator"] == "none" and run["perturbed_training"] else run["calibrator"]
        ours = cell.runs[label][run["seed"]]
        assert ours.values["clean"].mean() == pytest.approx(run["clean"]["accuracy"])
        for name, score in run["removal"].items():
            assert ours.values[f"removal.{name}"].mean() == pytest.approx(score["accuracy"])


def test_corruption_oracle_and_detection_are_those_of_concordant_stress(made, cell):
    runs = open_runs(made.out / "digits" / "lf-dnn")
    task = prepare_of(runs.config, None, seed=0)
    model = runs.model(task, runs.variant("context"), 0)
    kinds = ("swap", "clipping", "blur")
    known = measure_corruption(
        model, task.test, valid=task.valid, kinds=kinds, layouts=task.layouts, standardised=True, seed=0
    )
    ours = cell.runs["context"][0]
    for kind in kinds:
        for place, severity in ((0, 1), (4, 5)):
            score = ours.values[f"corruption.{kind}.{severity}"].mean()
            assert score == pytest.approx(known["kinds"][kind]["scores"][place])
            for what in ("which", "whether"):
                area = ours.values[f"{what}.{kind}.{severity}"].mean()
                assert area == pytest.approx(known["kinds"][kind][what][place], abs=1e-6)
        assert ours.values[ours.oracles[kind]].mean() == pytest.approx(known["oracle"][kind]["scores"][0])


def test_means_are_over_kinds_and_severities_without_the_control(cell):
    run = cell.runs["context"][1]
    kinds = [kind for kind in run.oracles if kind != CONTROL]
    seen = {"gaussian-noise", "dimension-replacement", "swap"}

    def mean(some):
        return np.mean([run.values[f"corruption.{kind}.{severity}"] for kind in some for severity in (1, 5)], 0)

    np.testing.assert_allclose(run.values[MEAN], mean(kinds))
    np.testing.assert_allclose(run.values[SEEN], mean([kind for kind in kinds if kind in seen]))
    np.testing.assert_allclose(run.values[UNSEEN], mean([kind for kind in kinds if kind not in seen]))


def test_methods_without_reliability_have_no_detection(cell):
    assert cell.has("context", "which.swap.5")
    assert not cell.has("none", "which.swap.5")
    assert cell.labels == ("none", "none+perturbed", "self", "after-fusion", "context")
    assert cell.ablations == ("context-no-support", "context-no-perturbation")


def test_a_broken_file_is_named(made, tmp_path):
    (tmp_path / FILE).write_text("no parquet")
    with pytest.raises(DataError, match=r"outcomes.parquet cannot be used .* remove it to have it made again"):
        read_run(tmp_path, ("left",))


@pytest.fixture
def drawn_reliabilities():
    draws = np.random.default_rng(0)
    reliability = draws.random((40, 3))
    hit = np.zeros((40, 3), np.bool_)
    hit[np.arange(40), draws.integers(3, size=40)] = True
    hit[:5] = False
    reliability[hit] -= 0.3
    before, usual = draws.random((40, 3)), draws.random((30, 3))
    absent = (draws.random((40, 3)) < 0.1) & ~hit
    reliability[absent] = before[absent] = np.nan
    usual[draws.random((30, 3)) < 0.1] = np.nan
    return reliability, before, usual, hit


def test_placements_give_the_area_from_either_side():
    draws = np.random.default_rng(0)
    positive, negative = draws.integers(5, size=30) + 1.0, draws.integers(5, size=20) + 0.0  # with ties
    above, below = placements(positive, negative)
    expected = roc_auc_score(np.r_[np.ones(30), np.zeros(20)], np.r_[positive, negative])
    assert above.mean() == pytest.approx(expected)
    assert below.mean() == pytest.approx(expected)


def test_the_mean_of_the_components_is_the_area(drawn_reliabilities):
    reliability, before, usual, hit = drawn_reliabilities

    def answer(values, perturbed):
        return Answer(np.zeros(len(values)), None, np.nan_to_num(values), ~np.isnan(values), perturbed)

    found = detection(answer(reliability, hit), answer(before, hit & False), answer(usual, np.isnan(usual) & False))
    which, whether = which_components(reliability, usual, hit), whether_components(*drawn_reliabilities)
    assert len(which) == len(whether) == 35
    assert which.mean() == pytest.approx(found["which"])
    assert whether.mean() == pytest.approx(found["whether"])


def test_resampling_the_components_is_resampling_the_area(drawn_reliabilities):
    reliability, before, usual, hit = drawn_reliabilities
    components = whether_components(*drawn_reliabilities)
    draws = np.random.default_rng(1)
    rows = np.flatnonzero(hit.any(1))
    areas, means = [], []
    for _ in range(300):
        some = draws.integers(len(rows), size=len(rows))
        again = whether_components(reliability[rows[some]], before[rows[some]], usual, hit[rows[some]])
        areas.append(again.mean())
        means.append(components[some].mean())
    assert np.std(means) == pytest.approx(np.std(areas), rel=0.1)
    assert np.corrcoef(areas, means)[0, 1] > 0.98


def test_a_reliability_that_is_always_the_same_knows_nothing():
    hit = np.array([[True, False], [False, True], [True, False]])
    same = np.ones((3, 2))
    np.testing.assert_allclose(which_components(same, same, hit), 0.5)
    np.testing.assert_allclose(whether_components(same, same, same, hit), 0.5)

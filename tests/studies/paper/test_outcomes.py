"""What stressing wrote and reading makes of it, against what `concordant run` and `concordant stress` say."""

import numpy as np
import pytest

from concordant.errors import DataError
from concordant.files import read_json
from concordant.robustness.curves import measure_corruption
from concordant.training.runs import open_runs, prepare_of
from studies.paper.conditions import CONTROL
from studies.paper.outcomes import MEAN, SEEN, UNSEEN, read_run
from studies.paper.stressing import FILE, stress_all


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
        assert ours.values[ours.told[kind]].mean() == pytest.approx(known["oracle"][kind]["scores"][0])


def test_means_are_over_kinds_and_severities_without_the_control(cell):
    run = cell.runs["context"][1]
    kinds = [kind for kind in run.kinds if kind != CONTROL]
    seen = {"gaussian-noise", "dimension-replacement", "swap"}

    def mean(some):
        return np.mean([run.values[f"corruption.{kind}.{severity}"] for kind in some for severity in (1, 5)], 0)

    np.testing.assert_allclose(run.values[MEAN], mean(kinds))
    np.testing.assert_allclose(run.values[SEEN], mean([kind for kind in kinds if kind in seen]))
    np.testing.assert_allclose(run.values[UNSEEN], mean([kind for kind in kinds if kind not in seen]))


def test_methods_without_reliability_have_no_detection(cell):
    assert cell.has("context", "which.swap.5")
    assert not cell.has("none", "which.swap.5")
    assert cell.labels == ("none", "none+perturbed", "self", "uncertainty", "after-fusion", "context")
    assert cell.ablations == ("context-no-support", "context-no-perturbation")


def test_nothing_is_asked_twice_and_new_questions_are(made):
    seen = []
    stress_all(made.plan, made.grid.severities, jobs=1, progress=lambda *state: seen.append(state))
    assert seen == []
    run = made.out / "digits" / "lf-dnn-ablations" / "runs" / "context-no-support" / "seed-0"
    before = (run / FILE).read_bytes()
    (run / FILE).unlink()
    stress_all(made.plan, made.grid.severities, jobs=1, progress=lambda *state: seen.append(state))
    assert [line for _, _, line in seen] == ["stress digits/lf-dnn ablations, seed 0"]
    assert (run / FILE).read_bytes() == before


def test_a_broken_file_is_named(made, tmp_path):
    (tmp_path / FILE).write_text("no parquet")
    with pytest.raises(DataError, match=r"outcomes.parquet cannot be used .* remove it to have it made again"):
        read_run(tmp_path, ("left",))

"""The whole of `concordant run`, short, on the embedded digits: what is written, resumed, and never half-read."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from safetensors.torch import load_file
from sklearn.metrics import accuracy_score, roc_auc_score

from concordant.benchmarks.catalogue import prepare
from concordant.data.findings import Finding
from concordant.errors import ConcordantError, UsageError
from concordant.study import experiment as module
from concordant.study.baselines import BASELINES
from concordant.study.experiment import study
from concordant.training.config import Variant, make_config
from concordant.training.model import build_model

CLOCKED = {"train_seconds": 0, "loading_share": 0}  # what no two runs have in common
# Trained run by run below: in a vectorised pass numbers are equal only to rounding.
CONFIG = make_config("digits", seeds=2, calibrators=("none", "context"), recipe={"steps": 30, "width": 16})


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    out = tmp_path_factory.mktemp("study") / "out"
    seen, steps = [], []
    shown = {"progress": lambda *state: seen.append(state), "within": lambda *state: steps.append(state)}
    results = study(CONFIG, out, jobs=1, vectorise="off", **shown)
    assert steps[0] == (1 / 30, "none, seed 0: step 1 of 30")
    assert "context, seed 1: step 1 of 30" in [line for _, line in steps]
    return out, results, seen


def rows_of(out, calibrator, seed, condition, *, perturbed=True):
    """Return the recorded predictions of one run under one condition, column -> array."""
    wanted = {"calibrator": calibrator, "seed": seed, "condition": condition, "perturbed_training": perturbed}
    rows = [
        row
        for row in pq.read_table(out / "predictions.parquet").to_pylist()
        if all(row[name] == value for name, value in wanted.items())
    ]
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def test_results_follow_the_schema(done):
    out, results, _ = done
    assert json.loads((out / "results.json").read_text()) == results
    keys = ["schema", "benchmark", "fusion", "config", "versions", "hardware", "baselines", "runs", "comparisons"]
    assert list(results) == keys
    assert results["schema"] == "concordant.results/1"
    assert len(results["runs"]) == 6
    for run in results["runs"]:
        assert {"calibrator", "perturbed_training", "seed", "parameters", "train_seconds"} <= set(run)
        assert set(run["corruption"]) == {"noise", "dimensions", "swap", "zero"}
        assert set(run["removal"]) == {"left", "right", "profile"}
        known = run["calibrator"] == "context"
        assert all((value is not None) == known for pair in run["detection_auroc"].values() for value in pair.values())
    assert {(entry["of"], entry["to"]) for entry in results["comparisons"]} == {
        ("context", "best single modality"),
        ("context", "late fusion (scikit-learn)"),
        ("context", "none"),
        ("context", "none+perturbed"),
    }
    conditions = [entry["condition"] for entry in results["comparisons"] if entry["to"] == "none"]
    assert conditions == [
        *("clean", "corruption.mean", "corruption.noise", "corruption.dimensions", "corruption.swap"),
        *("corruption.zero", "removal.left", "removal.right", "removal.profile"),
    ]
    assert all(entry["p_wilcoxon"] is None and 0 < entry["p_holm"] <= 1 for entry in results["comparisons"])


def test_scores_can_be_recomputed_from_the_predictions(done):
    out, results, _ = done
    test = prepare("digits", seed=1).test
    run = next(run for run in results["runs"] if run["calibrator"] == "context" and run["seed"] == 1)
    clean, swapped, removed = (
        rows_of(out, "context", 1, name) for name in ("clean", "corruption.swap", "removal.left")
    )
    assert clean["id"].tolist() == test.ids.tolist()
    assert clean["label"].tolist() == test.labels.tolist()
    assert accuracy_score(clean["label"], clean["prediction"]) == run["clean"]["accuracy"]
    assert accuracy_score(swapped["label"], swapped["prediction"]) == run["corruption"]["swap"]["accuracy"]
    assert set(clean["corrupted"]) == {None}
    assert set(swapped["corrupted"]) == {"left", "right", "profile"}
    assert set(removed["reliability_left"]) == {None}
    assert None not in set(removed["reliability_right"])


def test_comparisons_are_differences_of_mean_accuracies(done):
    _, results, _ = done

    def mean(name, perturbed, read):
        runs = [run for run in results["runs"] if (run["calibrator"], run["perturbed_training"]) == (name, perturbed)]
        return np.mean([read(run) for run in runs])

    def corrupted(run):
        return np.mean([scores["accuracy"] for scores in run["corruption"].values()])

    entry = next(e for e in results["comparisons"] if (e["to"], e["condition"]) == ("none", "corruption.mean"))
    assert entry["mean_of"] == pytest.approx(mean("context", True, corrupted))
    assert entry["mean_to"] == pytest.approx(mean("none", False, corrupted))
    assert entry["difference"] == pytest.approx(entry["mean_of"] - entry["mean_to"])
    assert entry["ci95"][0] <= entry["difference"] <= entry["ci95"][1]


def test_detection_agrees_with_scikit_learn_up_to_standardising(done):
    out, results, _ = done
    run = next(run for run in results["runs"] if run["calibrator"] == "context" and run["seed"] == 0)
    rows = rows_of(out, "context", 0, "corruption.zero")
    names = ["left", "right", "profile"]
    raw = np.stack([rows[f"reliability_{name}"] for name in names], 1)
    hit = np.stack([rows["corrupted"] == name for name in names], 1)
    task = prepare("digits", seed=0)
    model = build_model(task, CONFIG, Variant("context", True), 0)
    model.load_state_dict(load_file(out / "runs" / "context" / "seed-0" / "weights.safetensors"))
    from concordant.robustness.answers import usual_answer

    usual = usual_answer(model.eval(), task.valid).reliability
    z = (raw - usual.mean(0)) / usual.std(0)
    assert roc_auc_score(hit.ravel(), -z.ravel()) == pytest.approx(run["detection_auroc"]["zero"]["which"], abs=1e-4)


def test_saved_weights_give_the_recorded_predictions(done):
    out, _, _ = done
    from concordant.robustness.answers import usual_answer

    task = prepare("digits", seed=1)
    model = build_model(task, CONFIG, Variant("none", True), 1)
    model.load_state_dict(load_file(out / "runs" / "none+perturbed" / "seed-1" / "weights.safetensors"))
    again = usual_answer(model.eval(), task.test).prediction
    assert rows_of(out, "none", 1, "clean")["prediction"].tolist() == again.tolist()


def test_progress_counts_every_run(done):
    _, _, seen = done
    total = 2 * (3 + 3 + 1)  # seeds; methods, modalities alone, late fusion
    assert [(count, total) for count, total, _ in seen] == [(count, total) for count in range(total + 1)]
    assert seen[-1][2] == "late fusion, seed 1"


def test_the_same_command_repeats_no_finished_run(done, monkeypatch):
    out, results, _ = done
    monkeypatch.setattr(module, "run_one", lambda job: pytest.fail(f"{job.variant} was run again"))
    assert study(CONFIG, out, jobs=1) == results


def test_a_killed_run_is_repeated_alone_and_gives_the_same(done, tmp_path):
    import shutil

    out, results, _ = done
    copy = shutil.copytree(out, tmp_path / "copy")
    killed = copy / "runs" / "context" / "seed-1"
    (killed / "run.json").unlink()
    (killed / "predictions.parquet").write_bytes(b"half a fi")  # what a kill may leave
    (copy / "results.json").unlink()
    seen = []
    again = study(CONFIG, copy, jobs=1, vectorise="off", progress=lambda *state: seen.append(state))
    assert [count for count, _, _ in seen] == [13, 14]

    def timeless(runs):
        return [{key: value for key, value in run.items() if key not in CLOCKED} for run in runs]

    assert timeless(again["runs"]) == timeless(results["runs"])
    assert again["comparisons"] == results["comparisons"]


def test_runs_in_two_processes_give_the_same(done, tmp_path):
    _, results, _ = done
    config = make_config("digits", seeds=1, calibrators=("none", "context"), recipe={"steps": 30, "width": 16})
    parallel = study(config, tmp_path / "out", jobs=2, vectorise="off", baselines=False)
    first = [run for run in results["runs"] if run["seed"] == 0]
    for one, other in zip(first, parallel["runs"], strict=True):
        assert {**one, **CLOCKED} == {**other, **CLOCKED}


def test_another_configuration_touches_nothing(done):
    out, _, _ = done
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    with pytest.raises(UsageError, match="belongs to another configuration"):
        study(make_config("digits", seeds=3), out)
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before


def test_jobs_must_be_positive(done):
    out, _, _ = done
    with pytest.raises(UsageError, match="jobs must be 1 or more"):
        study(CONFIG, out, jobs=0)


def test_failed_runs_are_named_and_the_others_kept(tmp_path):
    bad = make_config(
        "digits", seeds=1, calibrators=("none", "none+perturbed"), recipe={"steps": 40, "learning_rate": 1e30}
    )
    with pytest.raises(ConcordantError, match=r"5 of 6 runs failed: none, seed 0: training diverged"):
        study(bad, tmp_path / "out", jobs=1)
    assert "failed: none+perturbed, seed 0" in (tmp_path / "out" / "log.txt").read_text()
    assert not (tmp_path / "out" / "results.json").exists()


def test_features_that_look_fitted_are_said_before_training(tmp_path, monkeypatch):
    lines = []
    monkeypatch.setattr(module, "check_features", lambda task: Finding("warning", "modalities", "too good"))
    config = make_config("digits", seeds=1, calibrators=("none",), modalities=("left",), recipe={"steps": 1})
    study(config, tmp_path / "out", jobs=1, say=lines.append)
    assert lines[0] == "warning: modalities: too good"
    assert json.loads((tmp_path / "out" / "analyses" / "check.json").read_text())["findings"][0]["text"] == "too good"


def test_one_method_alone_is_compared_with_the_baselines_and_a_modality_alone_with_nothing(tmp_path):
    recipe = {"steps": 2, "width": 4}
    config = make_config("digits", seeds=1, calibrators=("self",), recipe=recipe)
    found = study(config, tmp_path / "out", jobs=1)["comparisons"]
    assert [(entry["of"], entry["to"]) for entry in found[::2]] == [("self", one) for one in BASELINES]
    config = make_config("digits", seeds=1, calibrators=("none",), modalities=("left",), recipe=recipe)
    found = study(config, tmp_path / "alone", jobs=1)
    assert found["baselines"] == found["comparisons"] == []


def test_calibration_helps_when_a_modality_lies_and_names_it(tmp_path):
    """The claim of the library, on real scans: two seeds, a short recipe, numbers as `concordant run` has them."""
    config = make_config("digits", seeds=2, calibrators=("none", "context"), recipe={"steps": 200, "width": 32})
    results = study(config, tmp_path / "out", jobs=1, baselines=False)
    found = {(entry["to"], entry["condition"]): entry for entry in results["comparisons"]}
    assert found["none", "clean"]["difference"] > -0.02
    for twin in ("none", "none+perturbed"):
        assert found[twin, "corruption.mean"]["ci95"][0] > 0.01
        assert found[twin, "corruption.mean"]["p_holm"] < 0.05
        assert found[twin, "corruption.swap"]["ci95"][0] > 0.03
    for run in results["runs"]:
        if run["calibrator"] == "context":
            for kind, areas in run["detection_auroc"].items():
                assert areas["which"] > 0.9, kind
                assert areas["whether"] > 0.9, kind


@pytest.mark.data
@pytest.mark.parametrize(
    ("benchmark", "options"),
    [
        ("scene15", {}),
        ("cmu-mosi-utterance", {"protocol": "given"}),
        ("cmu-mosi-utterance", {"protocol": "test-folds", "fusion": "transformer"}),
        ("utd-mhad", {"modalities": ("skeleton", "inertial")}),
        ("utd-mhad", {}),
        ("av-digits", {}),
    ],
)
def test_real_benchmarks_go_the_whole_way(benchmark, options, data_folder, tmp_path):
    recipe = {"steps": 3, "width": 8}
    config = make_config(benchmark, seeds=1, calibrators=("none", "context"), recipe=recipe, **options)
    results = study(config, tmp_path / "out", data=data_folder, jobs=1)
    assert {run["calibrator"] for run in results["runs"]} == {"none", "context"}
    assert set(results["runs"][0]["removal"]) == set(config.modalities)
    assert json.loads((tmp_path / "out" / "config.json").read_text())["files"].keys() == {
        benchmark.replace("-", "_") + ".npz"
    }

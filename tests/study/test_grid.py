"""A grid over fusions, short, on the embedded digits."""

import json

import numpy as np
import pytest

from concordant.benchmarks.catalogue import prepare
from concordant.errors import UsageError
from concordant.files import read_json
from concordant.study.grid import alone_configs, make_grid, run_grid

OPTIONS = {"calibrators": ("none", "context"), "seeds": 2, "recipe": {"steps": 12, "width": 8, "evaluations": 2}}
FUSIONS = ("concat@pooled", "ef-lstm")


@pytest.fixture(scope="module")
def grid(tmp_path_factory):
    out = tmp_path_factory.mktemp("grid") / "out"
    seen = []
    configs = make_grid("digits", FUSIONS, **OPTIONS)
    return out, run_grid(configs, out, jobs=1, progress=lambda *state: seen.append(state)), seen


def test_a_row_says_what_its_folder_holds(grid):
    out, found, _ = grid
    assert json.loads((out / "grid.json").read_text()) == found
    assert found["schema"] == "concordant.grid/1"
    assert [row["row"] for row in found["rows"]] == list(FUSIONS)
    assert [row["calibrate"] for row in found["rows"]] == ["pooled", "features"]
    for row in found["rows"]:
        results = read_json(out / row["row"] / "results.json")
        for label in ("none", "none+perturbed", "context"):
            runs = [
                run
                for run in results["runs"]
                if (run["calibrator"], run["perturbed_training"]) == (label.split("+")[0], label != "none")
            ]
            assert row["scores"][label]["clean"] == [run["clean"]["accuracy"] for run in runs]
            means = [np.mean([score["accuracy"] for score in run["corruption"].values()]) for run in runs]
            assert row["scores"][label]["corruption.mean"] == means
        assert row["comparisons"] == [
            entry for entry in results["comparisons"] if entry["condition"] in ("clean", "corruption.mean")
        ]
        assert row["train_minutes"] > 0


def test_every_fusion_is_compared_with_its_best_modality_alone(grid):
    out, found, _ = grid
    for row in found["rows"]:
        means = {}
        for name in ("left", "right", "profile"):
            results = read_json(out / row["row"] / "alone" / name / "results.json")
            assert results["config"]["modalities"] == [name]
            assert row["alone"][name] == [run["clean"]["accuracy"] for run in results["runs"]]
            means[name] = np.mean(row["alone"][name])
        best = row["best_alone"]
        assert means[best] == max(means.values())
        for label, entry in row["against_alone"].items():
            expected = np.mean(row["scores"][label]["clean"]) - means[best]
            assert entry["difference"] == pytest.approx(expected)
            assert entry["p_holm"] >= entry["p_bootstrap"]


def test_the_whole_is_the_mean_over_the_rows(grid):
    _, found, _ = grid
    assert {(entry["to"], entry["condition"]) for entry in found["overall"]} == {
        (label, condition) for label in ("none", "none+perturbed") for condition in ("clean", "corruption.mean")
    }
    for entry in found["overall"]:
        scores = [row["scores"] for row in found["rows"]]
        ours, other = (
            np.mean([one[label][entry["condition"]] for one in scores]) for label in ("context", entry["to"])
        )
        assert entry["difference"] == pytest.approx(ours - other)
        assert entry["ci95"][0] <= entry["difference"] <= entry["ci95"][1]


def test_the_majority_is_that_of_the_test_part(grid):
    _, found, _ = grid
    shares = [np.bincount(prepare("digits", seed=seed).test.labels).max() / 360 for seed in range(2)]
    assert [row["majority"] for row in found["rows"]] == pytest.approx([np.mean(shares)] * len(FUSIONS))


def test_progress_counts_the_runs_of_all_rows(grid):
    _, _, seen = grid
    total = len(FUSIONS) * 2 * (3 + 3)
    assert seen[-1][:2] == (total, total)
    assert [done for done, _, _ in seen] == sorted(done for done, _, _ in seen)
    assert {whole for _, whole, _ in seen} == {total}
    assert seen[-1][2].startswith("ef-lstm, profile alone: ")


def test_the_same_grid_again_trains_nothing(grid):
    out, found, _ = grid
    before = {path: path.stat().st_mtime_ns for path in out.rglob("run.json")}
    assert run_grid(make_grid("digits", FUSIONS, **OPTIONS), out, jobs=1)["rows"] == found["rows"]
    assert {path: path.stat().st_mtime_ns for path in out.rglob("run.json")} == before


def test_without_modalities_alone_there_is_nothing_to_beat(grid, tmp_path):
    configs = make_grid("digits", ["concat"], **{**OPTIONS, "seeds": 1, "recipe": {"steps": 2, "width": 8}})
    row = run_grid(configs, tmp_path / "out", alone=False, jobs=1)["rows"][0]
    assert row["alone"] == row["against_alone"] == {}
    assert row["best_alone"] is None


def test_a_modality_alone_is_trained_by_the_task_alone():
    config = make_grid("digits", ["concat"], method="ogm-ge", **OPTIONS)["concat"]
    lone = alone_configs(config)
    assert list(lone) == ["left", "right", "profile"]
    assert lone["left"].method == "none"
    assert [variant.label for variant in lone["left"].variants] == ["none"]


def test_faults_of_all_rows_are_said_at_once():
    with pytest.raises(UsageError) as caught:
        make_grid("digits", ["lf-dnn@maps", "glue", "concat"], calibrators=("none", "magic"))
    text = str(caught.value)
    assert "lf-dnn can be calibrated at features; found 'maps'" in text
    assert "unknown fusion 'glue'" in text
    assert text.count("unknown calibrator 'magic'") == 1
    with pytest.raises(UsageError, match="fusion must name one or more"):
        make_grid("digits", [])

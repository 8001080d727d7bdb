import json
import shlex
import shutil

import pytest

from concordant.errors import DataError, UsageError
from concordant.study.stress import stress_corruption, stress_removal
from concordant.training.runs import open_runs

KINDS = ["gaussian-noise", "swap"]


@pytest.fixture(scope="module")
def folder(digits_run, tmp_path_factory):
    return shutil.copytree(digits_run, tmp_path_factory.mktemp("stressed") / "digits")


@pytest.fixture(scope="module")
def removal(folder):
    return stress_removal(open_runs(folder), jobs=1)


@pytest.fixture(scope="module")
def corruption(folder):
    return stress_corruption(open_runs(folder), kinds=KINDS, jobs=1)


def test_removal_agrees_with_the_quick_stress_test_of_the_run(folder, removal):
    results = json.loads((folder / "results.json").read_text())
    assert [(run["label"], run["seed"]) for run in removal["runs"]][-1] == ("context", 1)
    for run, entry in zip(removal["runs"], results["runs"], strict=True):
        assert run["full"] == entry["clean"]["accuracy"]
        scores = {frozenset(one["present"]): one["score"] for one in run["subsets"]}
        for gone, found in entry["removal"].items():
            assert scores[frozenset(removal["modalities"]) - {gone}] == found["accuracy"]
    assert json.loads((folder / "analyses" / "removal.json").read_text()) == removal


def test_corruption_has_every_run_and_an_oracle_of_the_twin(folder, corruption):
    assert [kind["name"] for kind in corruption["kinds"]] == KINDS
    assert {kind["at"] for kind in corruption["kinds"]} == {"inputs"}
    assert len(corruption["runs"]) == 8
    assert [one["label"] for one in corruption["oracle"]] == ["none+perturbed"] * 2
    twins = [run for run in corruption["runs"] if run["label"] == "none+perturbed"]
    assert [run["mean_corruption_error"] for run in twins] == [1.0, 1.0]
    assert [one["label"] for one in corruption["covered"]] == ["self", "context"]
    assert json.loads((folder / "analyses" / "corruption.json").read_text()) == corruption


def test_what_was_computed_is_not_computed_again(folder, removal):
    lines = []
    again = stress_removal(open_runs(folder), jobs=1, progress=lambda done, total, line: lines.append(line))
    assert lines == []
    assert again["runs"] == removal["runs"]


def test_another_question_is_asked_anew(folder, removal):
    lines = []
    seen = []
    shown = {"progress": lambda done, total, line: lines.append((done, total)), "within": lambda *at: seen.append(at)}
    found = stress_removal(open_runs(folder), metric="f1_macro", jobs=1, **shown)
    assert (lines[0], lines[-1]) == ((0, 8), (8, 8))
    # Six subsets of three modalities, and ten rates.
    assert seen[0] == (1 / 16, "none, seed 0: condition 1 of 16")
    assert all(0 < share <= 1 for share, _ in seen)  # of one run at a time
    assert found["metric"] == "f1_macro"
    assert found["command"] == shlex.join(["concordant", "stress", str(folder), "--removal", "--metric", "f1_macro"])
    assert found["runs"][0]["full"] != removal["runs"][0]["full"]
    stress_removal(open_runs(folder), jobs=1)


def test_features_can_be_corrupted_instead_of_inputs(folder):
    found = stress_corruption(open_runs(folder), kinds=["gaussian-noise", "blur", "swap"], at="features", jobs=1)
    assert [(kind["name"], kind["at"]) for kind in found["kinds"]] == [
        ("gaussian-noise", "features"),
        ("swap", "features"),
    ]
    context = [run for run in found["runs"] if run["label"] == "context"]
    assert all(run["kinds"]["swap"]["which"][1] > 0.7 for run in context)  # chance is one half


def test_wrong_names_are_refused_before_anything_is_computed(folder):
    runs = open_runs(folder)
    with pytest.raises(UsageError, match="unknown metric 'mae'"):
        stress_removal(runs, metric="mae")
    with pytest.raises(UsageError, match="unknown corruption 'fog'"):
        stress_corruption(runs, kinds=["fog"])


def test_missing_weights_are_named(digits_run, tmp_path):
    folder = shutil.copytree(digits_run, tmp_path / "digits")
    shutil.rmtree(folder / "analyses", ignore_errors=True)
    (folder / "runs" / "none" / "seed-0" / "weights.safetensors").unlink()
    with pytest.raises(DataError, match=r"weights.safetensors cannot be read as safetensors"):
        stress_removal(open_runs(folder), jobs=1)


@pytest.mark.data
def test_waveforms_are_corrupted_where_they_are_at_hand(tmp_path, data_folder):
    from concordant.study.experiment import study
    from concordant.training.config import make_config

    folder = tmp_path / "av"
    recipe = {"steps": 30, "width": 16, "evaluations": 1}
    config = make_config("av-digits", calibrators=("context",), seeds=1, recipe=recipe)
    study(config, folder, data=data_folder, jobs=1, baselines=False)
    found = stress_corruption(open_runs(folder), kinds=["audio-noise", "blur"], data=data_folder, jobs=1)
    about = {kind["name"]: (kind["at"], kind["modalities"]) for kind in found["kinds"]}
    assert about == {"audio-noise": ("signal", ["audio"]), "blur": ("inputs", ["image"])}
    noise = found["runs"][0]["kinds"]["audio-noise"]["scores"]
    assert noise[-1] < noise[0]

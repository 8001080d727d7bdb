"""Folders of experiments: configuration, runs, locks and log, and opening a finished one with its models."""

import json
import multiprocessing
import os
import shutil

import pytest
import torch

from concordant.errors import DataError, UsageError
from concordant.files import temporary_beside
from concordant.training.config import Variant, make_config
from concordant.training.runs import RunFolder, open_runs


@pytest.fixture
def folder(digits_run, tmp_path):
    return shutil.copytree(digits_run, tmp_path / "digits")


def change(path, **values):
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_a_trained_model_says_what_it_said_when_it_was_trained(digits_run):
    from concordant.robustness.answers import read_tables
    from concordant.robustness.predict import predict

    runs = open_runs(digits_run)
    assert runs.labels == ("none", "none+perturbed", "self", "context")
    variant = runs.variant("context")
    task = runs.task(1, runs.source(None))
    model = runs.model(task, variant, 1)
    table = read_tables([runs.run(variant, 1) / "predictions.parquet"]).to_pylist()
    then = [row["prediction"] for row in table if row["condition"] == "clean"]
    assert predict(model, task.test).predictions().tolist() == then
    assert not model.training


def test_a_folder_that_is_absent_or_foreign_is_refused(tmp_path):
    with pytest.raises(DataError, match="nowhere is not a folder; name one that `concordant run` made"):
        open_runs(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"has no config.json; name a folder that `concordant run` made"):
        open_runs(tmp_path)


def test_a_grid_names_its_rows(tmp_path):
    (tmp_path / "grid.json").write_text("{}")
    for row in ("sum", "film"):
        (tmp_path / row).mkdir()
        (tmp_path / row / "config.json").write_text("{}")
    with pytest.raises(DataError, match=r"holds a grid; name one of its rows: .*film, .*sum"):
        open_runs(tmp_path)


def test_an_incomplete_folder_says_what_is_missing_and_what_to_do(folder):
    (folder / "runs" / "context" / "seed-1" / "run.json").unlink()
    with pytest.raises(
        DataError, match=r"is incomplete \(context, seed 1 missing\); give its `concordant run` command"
    ):
        open_runs(folder)
    for path in folder.glob("runs/*/*/run.json"):
        path.unlink()
    with pytest.raises(DataError, match=r"none, seed 0; .* and 5 more missing"):
        open_runs(folder)


def test_a_folder_without_results_is_incomplete(folder):
    (folder / "results.json").unlink()
    with pytest.raises(DataError, match=r"is incomplete \(results.json missing\)"):
        open_runs(folder)


@pytest.mark.parametrize("name", ["config", "results"])
def test_a_newer_schema_asks_for_an_upgrade(folder, name):
    change(folder / f"{name}.json", schema=f"concordant.{name}/2")
    known = rf"\(concordant.{name}/2, this one reads concordant.{name}/1\)"
    text = rf"{name}.json was written by a newer Concordant {known}; upgrade"
    with pytest.raises(DataError, match=text):
        open_runs(folder)


def test_a_foreign_schema_is_named(folder):
    change(folder / "config.json", schema="other/1")
    with pytest.raises(DataError, match=r"is not a document of schema concordant.config/1; found schema 'other/1'"):
        open_runs(folder)


def test_a_configuration_that_this_version_does_not_know_is_explained(folder):
    change(folder / "config.json", fusion="glue")
    with pytest.raises(DataError, match=r"config.json cannot be used: unknown fusion 'glue'"):
        open_runs(folder)


def test_weights_that_do_not_match_are_told_apart(folder):
    runs = open_runs(folder)
    task = runs.task(0, None)
    mine = folder / "runs" / "context" / "seed-0" / "weights.safetensors"
    shutil.copy(folder / "runs" / "self" / "seed-0" / "weights.safetensors", mine)
    with pytest.raises(
        DataError, match=r"does not match the configuration of its folder: calibrator.* is missing; .*more"
    ):
        runs.model(task, runs.variant("context"), 0)
    from safetensors.torch import load_file, save_file

    state = load_file(folder / "runs" / "context" / "seed-1" / "weights.safetensors")
    name = next(key for key in state if key.startswith("fusion"))
    save_file({**state, name: torch.zeros(3)}, mine)
    with pytest.raises(DataError, match=rf"{name} has shape \(3,\) instead of"):
        runs.model(task, runs.variant("context"), 0)
    save_file({**state, name: state[name].int()}, mine)
    with pytest.raises(DataError, match=rf"{name} has shape .*, or whole numbers"):
        runs.model(task, runs.variant("context"), 0)
    mine.write_bytes(b"no weights")
    with pytest.raises(DataError, match="cannot be read as safetensors"):
        runs.model(task, runs.variant("context"), 0)


def test_an_unknown_calibrator_lists_those_that_there_are(digits_run):
    with pytest.raises(UsageError, match=r"unknown calibrator 'gmu' of .*; choose from: none, none\+perturbed, self"):
        open_runs(digits_run).variant("gmu")


@pytest.mark.data
def test_data_that_have_changed_since_are_refused(tmp_path, data_folder):
    from concordant.study.experiment import study
    from concordant.training.config import make_config

    folder = tmp_path / "cremad"
    config = make_config("cremad-features", calibrators=("context",), seeds=1, recipe={"steps": 2})
    study(config, folder, data=data_folder, jobs=1, baselines=False)
    change(folder / "config.json", files={"cremad_features.npz": "0" * 64})
    with pytest.raises(DataError, match=r"was trained on other data: cremad_features.npz in .* has changed since"):
        open_runs(folder).source(data_folder)


CONFIG = make_config("digits", seeds=2)


def test_a_claimed_folder_can_be_claimed_again_by_the_same_configuration(tmp_path):
    folder = RunFolder(tmp_path / "deep" / "out")
    folder.claim(CONFIG, {"x.npz": "ab"})
    RunFolder(tmp_path / "deep" / "out").claim(CONFIG, {"x.npz": "ab"})
    assert json.loads((tmp_path / "deep" / "out" / "config.json").read_text())["benchmark"] == "digits"


def test_another_configuration_is_refused_and_changes_nothing(tmp_path):
    folder = RunFolder(tmp_path)
    folder.claim(CONFIG, {})
    before = (tmp_path / "config.json").read_text()
    with pytest.raises(UsageError, match=r"belongs to another configuration \(seeds: there 2, here 3\).*--out"):
        folder.claim(make_config("digits", seeds=3), {})
    with pytest.raises(UsageError, match=r"files: there \{\}, here"):
        folder.claim(CONFIG, {"x.npz": "ab"})
    assert (tmp_path / "config.json").read_text() == before


def test_a_folder_with_other_things_is_refused(tmp_path):
    (tmp_path / "thesis.txt").write_text("all of it")
    folder = RunFolder(tmp_path)
    with pytest.raises(UsageError, match="is not empty and holds no experiment"), folder.locked():
        folder.claim(CONFIG, {})
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_file_in_the_folders_place_is_refused(tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(UsageError, match="is a file; name a folder with --out"), RunFolder(tmp_path / "out").locked():
        pass


def test_a_folder_whose_first_write_was_killed_is_taken_up(tmp_path):
    (tmp_path / ".lock").touch()
    own = temporary_beside(tmp_path / "x.json")  # of a process that runs
    own.with_name(own.name.replace(f"-{os.getpid()}-", "-999999999-")).write_text("{")
    own.write_text("{")
    folder = RunFolder(tmp_path)
    with folder.locked():
        assert sorted(path.name for path in tmp_path.iterdir()) == sorted([own.name, ".lock"])
        own.unlink()
        folder.claim(CONFIG, {})
    assert RunFolder(tmp_path).config == CONFIG


@pytest.mark.parametrize("name", ["n" * 300, "file/below"])
def test_a_folder_that_cannot_be_made_is_named(name, tmp_path):
    (tmp_path / "file").touch()
    with (
        pytest.raises(UsageError, match=r"cannot write to .* \(.+\); name another folder with --out"),
        RunFolder(tmp_path / name).locked(),
    ):
        pass


def test_a_broken_configuration_file_is_said(tmp_path):
    (tmp_path / "config.json").write_text('{"benchmark": "dig')
    with pytest.raises(DataError, match=r"config.json cannot be read as JSON"):
        RunFolder(tmp_path).claim(CONFIG, {})


def test_a_run_is_finished_with_its_entry_alone(folder):
    runs = RunFolder(folder)
    run = runs.run(Variant("none", True), 1)
    assert run == folder / "runs" / "none+perturbed" / "seed-1"
    assert runs.finished(Variant("none", True), 1)
    assert runs.entry(Variant("none", True), 1)["seed"] == 1
    (run / "run.json").unlink()
    assert not runs.finished(Variant("none", True), 1)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"seed": 1}, r"belongs to another run \(seed is 1, not 0\)"),
        ({"config": "00"}, r"belongs to another run \(config is '00', not '[0-9a-f]{16}'\)"),
        ({"perturbed_training": False}, r"belongs to another run \(perturbed_training is False, not True\)"),
        ({"clean": None}, r"must hold .* as clean; found NoneType"),
        (None, r"belongs to another run \(calibrator is None"),
    ],
)
def test_a_record_of_another_run_is_refused(folder, change, fault):
    path = folder / "runs" / "context" / "seed-0" / "run.json"
    path.write_text(json.dumps({} if change is None else {**json.loads(path.read_text()), **change}))
    with pytest.raises(DataError, match=rf"run.json {fault}.*; remove its folder to run it again"):
        RunFolder(folder).finished(Variant("context", True), 0)


def _hold(path, ready, release):
    with RunFolder(path).locked():
        ready.set()
        release.wait(30)


def test_a_second_process_is_kept_out(tmp_path):
    context = multiprocessing.get_context("fork")
    ready, release = context.Event(), context.Event()
    holder = context.Process(target=_hold, args=(tmp_path, ready, release))
    holder.start()
    try:
        assert ready.wait(30)
        with (
            pytest.raises(UsageError, match="another process is writing to"),
            RunFolder(tmp_path).locked(),
        ):
            pass
    finally:
        release.set()
        holder.join()
    with RunFolder(tmp_path).locked():
        pass


def test_the_log_grows_by_lines(tmp_path):
    folder = RunFolder(tmp_path)
    folder.note("one")
    folder.note("two")
    assert [line.split(" ", 2)[2] for line in (tmp_path / "log.txt").read_text().splitlines()] == ["one", "two"]

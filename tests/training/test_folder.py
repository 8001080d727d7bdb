import json
import multiprocessing

import pytest

from concordant.errors import DataError, UsageError
from concordant.training.config import Variant, make_config
from concordant.training.folder import ExperimentFolder

CONFIG = make_config("digits", seeds=2)


def test_a_claimed_folder_can_be_claimed_again_by_the_same_configuration(tmp_path):
    folder = ExperimentFolder(tmp_path / "deep" / "out")
    folder.claim(CONFIG, {"x.npz": "ab"})
    ExperimentFolder(tmp_path / "deep" / "out").claim(CONFIG, {"x.npz": "ab"})
    assert json.loads((tmp_path / "deep" / "out" / "config.json").read_text())["benchmark"] == "digits"


def test_another_configuration_is_refused_and_changes_nothing(tmp_path):
    folder = ExperimentFolder(tmp_path)
    folder.claim(CONFIG, {})
    before = (tmp_path / "config.json").read_text()
    with pytest.raises(UsageError, match=r"belongs to another configuration \(seeds: there 2, here 3\).*--out"):
        folder.claim(make_config("digits", seeds=3), {})
    with pytest.raises(UsageError, match=r"files: there \{\}, here"):
        folder.claim(CONFIG, {"x.npz": "ab"})
    assert (tmp_path / "config.json").read_text() == before


def test_a_folder_with_other_things_is_refused(tmp_path):
    (tmp_path / "thesis.txt").write_text("all of it")
    with pytest.raises(UsageError, match="is not empty and holds no experiment"):
        ExperimentFolder(tmp_path).claim(CONFIG, {})
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_file_in_the_folders_place_is_refused(tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(UsageError, match="is a file; name a folder with --out"):
        ExperimentFolder(tmp_path / "out").claim(CONFIG, {})


def test_a_broken_configuration_file_is_said(tmp_path):
    (tmp_path / "config.json").write_text('{"benchmark": "dig')
    with pytest.raises(DataError, match=r"config.json cannot be read as JSON"):
        ExperimentFolder(tmp_path).claim(CONFIG, {})


def test_a_run_is_finished_with_its_entry_alone(tmp_path):
    folder = ExperimentFolder(tmp_path)
    variant = Variant("none", True)
    run = folder.run(variant, 1)
    assert run == tmp_path / "runs" / "none+perturbed" / "seed-1"
    run.mkdir(parents=True)
    (run / "weights.safetensors").write_text("half")
    assert not folder.finished(variant, 1)
    (run / "run.json").write_text('{"seed": 1}')
    assert folder.finished(variant, 1)
    assert folder.entry(variant, 1) == {"seed": 1}


def _hold(path, ready, release):
    with ExperimentFolder(path).locked():
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
            ExperimentFolder(tmp_path).locked(),
        ):
            pass
    finally:
        release.set()
        holder.join()
    with ExperimentFolder(tmp_path).locked():
        pass


def test_the_log_grows_by_lines(tmp_path):
    folder = ExperimentFolder(tmp_path)
    folder.note("one")
    folder.note("two")
    assert [line.split(" ", 2)[2] for line in (tmp_path / "log.txt").read_text().splitlines()] == ["one", "two"]

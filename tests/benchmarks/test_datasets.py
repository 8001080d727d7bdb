import inspect
import re

import pytest

pytest.importorskip("datasets")
pytest.importorskip("typer")

from concordant.benchmarks.datasets import DATASETS
from concordant.cli.data import prepare_command
from concordant.errors import DataError, UsageError

GOOD = {"fps": 2.0, "frames": 3, "size": (8, 9), "processes": 1, "may_fail": 0.1, "spectrogram": "pmr", "split": 2}


@pytest.mark.parametrize("name", DATASETS)
def test_numbers_of_the_title_are_those_of_the_splits_and_of_the_classes(name):
    dataset = DATASETS[name]
    total = sum(dataset.published.values())
    assert [int(one.replace(",", "")) for one in re.findall(r"\d+,\d{3}", dataset.title)] in ([], [total])
    for split, counts in dataset.classes.items():
        assert sum(counts) == dataset.published[split]
    assert set(dataset.published) <= {"train", "valid", "test"}
    assert dataset.home.startswith("https://")


@pytest.mark.parametrize("name", DATASETS)
def test_every_option_is_one_of_the_command_and_is_taken(name, tmp_path):
    dataset = DATASETS[name]
    assert set(dataset.options) <= set(inspect.signature(prepare_command).parameters)
    given = {option: GOOD.get(option, tmp_path) for option in dataset.options}
    with pytest.raises(DataError, match=re.escape(str(tmp_path))):  # the folder is empty
        dataset.open(tmp_path, given)


@pytest.mark.parametrize("name", [name for name in DATASETS if "frames" in DATASETS[name].options])
def test_options_that_cannot_be_are_refused_before_files_are_looked_at(name, tmp_path):
    with pytest.raises(UsageError, match="frames must be a whole number of 1 or more; found 0"):
        DATASETS[name].open(tmp_path / "gone", {"frames": 0})


def test_options_of_another_dataset_are_refused_all_at_once(tmp_path):
    said = "--may-fail, --lists do not apply to utd-mhad-mat, which takes no options"
    with pytest.raises(UsageError, match=f"^{said}$"):
        DATASETS["utd-mhad-mat"].open(tmp_path, {"may_fail": 1, "lists": tmp_path})
    taken = "--fps, --frames, --size, --processes, --may-fail, --cache, --split"
    with pytest.raises(UsageError, match=f"^--lists does not apply to ucf101, which takes {taken}$"):
        DATASETS["ucf101"].open(tmp_path, {"fps": 1, "lists": tmp_path})


@pytest.mark.parametrize(("files", "found"), [((), "none"), (("b.pkl", "a.pkl", "c.txt"), "a.pkl, b.pkl")])
def test_a_folder_must_hold_one_pickle(tmp_path, files, found):
    for name in files:
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(DataError, match=rf"must hold one pickle, or name it with --source; found {found}$"):
        DATASETS["cmu-mosi"].open(tmp_path, {})


def test_a_pickle_is_read_by_itself_and_by_its_folder(tmp_path):
    (tmp_path / "one.pkl").write_bytes(b"no pickle")
    for source in (tmp_path, tmp_path / "one.pkl"):
        with pytest.raises(DataError, match=r"one\.pkl"):
            DATASETS["cmu-mosei"].open(source, {})


@pytest.mark.parametrize("name", ["ave", "ave-clips"])
def test_ave_is_found_by_a_file_of_its_folder_too(tmp_path, name):
    (tmp_path / "audio_feature.h5").write_bytes(b"")
    for source in (tmp_path, tmp_path / "audio_feature.h5"):
        with pytest.raises(DataError, match=r"visual_feature\.h5"):
            DATASETS[name].open(source, {})


def test_films_are_asked_for_where_an_option_of_films_is_given(tmp_path):
    (tmp_path / "audio_feature.h5").write_bytes(b"")
    with pytest.raises(DataError, match=r"trainSet\.txt, valSet\.txt, testSet\.txt"):
        DATASETS["ave-clips"].open(tmp_path, {"fps": 1.0})

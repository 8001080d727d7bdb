import inspect
import re
from dataclasses import replace

import numpy as np
import pytest

from concordant.benchmarks.catalogue import BENCHMARKS, DATASETS, prepare
from concordant.benchmarks.small import DIGITS
from concordant.cli.data import prepare_command
from concordant.errors import DataError, UsageError
from concordant.fusion import FUSIONS

SIZES = {"view0": 20, "view1": 59, "view2": 40}


def write_scenes(folder, **changed):
    """Write a small archive with the shape of scene15.npz; a value of None leaves an array out."""
    draws = np.random.default_rng(0)
    arrays = {"label": np.arange(300) % 15}
    arrays |= {name: draws.normal(size=(300, size)).astype(np.float32) for name, size in SIZES.items()}
    arrays |= changed
    np.savez(folder / "scene15.npz", **{name: x for name, x in arrays.items() if x is not None})
    return folder / "scene15.npz"


def test_every_benchmark_names_a_fusion_of_its_setting_and_says_what_it_is_in_a_line():
    for name, benchmark in ((name, BENCHMARKS[name]) for name in BENCHMARKS):
        assert benchmark.name == name
        assert benchmark.setting in ("vector", "sequence", "convolutional")
        # What joins vectors joins pooled sequences too.
        fits = {"vector": {"vector"}, "sequence": {"sequence", "vector"}, "convolutional": {"convolutional"}}
        assert FUSIONS[benchmark.fusion].setting in fits[benchmark.setting]
        assert benchmark.summary
        assert "\n" not in benchmark.summary
        assert len(benchmark.modalities) >= 2 or name == "own"
        assert benchmark.protocols
        assert set(benchmark.recipe) <= {"*", *benchmark.protocols}


@pytest.mark.parametrize("seed", [0, 1])
def test_training_part_is_standardised(seed):
    task = prepare("digits", seed=seed)
    for x in task.train.inputs.values():
        features = np.moveaxis(x, 1, 0).reshape(x.shape[1], -1).astype(np.float64)
        cut = (np.abs(features) == 6).any(1)
        np.testing.assert_allclose(features[~cut].mean(1), 0, atol=1e-6)
        np.testing.assert_allclose(features[~cut].std(1), 1, atol=1e-6)
        assert np.abs(features).max() <= 6
        assert cut.sum() <= 2


def test_parts_are_disjoint_and_other_seeds_differ():
    tasks = [prepare("digits", seed=seed) for seed in (0, 1)]
    for task in tasks:
        ids = [name for part in (task.train, task.valid, task.test) for name in part.ids.tolist()]
        assert len(ids) == len(set(ids)) == 1797
    assert set(tasks[0].test.ids.tolist()) != set(tasks[1].test.ids.tolist())


def test_modalities_are_kept_in_the_order_in_which_they_are_named():
    everything = prepare("digits", seed=0)
    assert tuple(everything.train.inputs) == ("left", "right", "profile")
    some = prepare("digits", seed=0, modalities=["profile", "left"])
    assert some.layouts == {"profile": "bd", "left": "bchw"}
    assert list(some.layouts) == ["profile", "left"]
    for part, whole in ((some.train, everything.train), (some.valid, everything.valid), (some.test, everything.test)):
        assert list(part.inputs) == ["profile", "left"]
        np.testing.assert_array_equal(part.ids, whole.ids)
        for name, x in part.inputs.items():
            np.testing.assert_array_equal(x, whole.inputs[name])


def test_the_first_protocol_is_the_default_and_the_last_call_stays_in_memory():
    task = prepare("digits", seed=5)
    assert prepare("digits", seed=5) is task
    assert prepare("digits", seed=5, protocol="random", modalities=["left", "right", "profile"]) is task
    assert prepare("digits", seed=6) is not task


def test_a_benchmark_without_files_needs_no_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("CONCORDANT_DATA", str(tmp_path / "lost"))
    assert len(prepare("digits", seed=0).test) == 360
    with pytest.raises(DataError, match=re.escape(f"{tmp_path / 'lost'} is not there (named by CONCORDANT_DATA)")):
        prepare("scene15", seed=0)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"name": "digit"}, "unknown benchmark 'digit'; choose from: " + ", ".join(BENCHMARKS)),
        ({"modalities": ["left", "top"]}, "unknown modality 'top' of digits; choose from: left, right, profile"),
        ({"modalities": []}, "must name one or more of left, right, profile, each once; found ()"),
        ({"modalities": ["left", "left"]}, "each once; found ('left', 'left')"),
        ({"modalities": ["left", "right", "left"]}, "each once; found ('left', 'right', 'left')"),
        ({"protocol": "fixed"}, "unknown protocol 'fixed' of digits; choose from: random"),
    ],
)
def test_wrong_choices_list_the_right_ones(options, text):
    with pytest.raises(UsageError, match=re.escape(text)):
        prepare(**{"name": "digits", "seed": 0, **options})


def test_absent_file_of_a_benchmark_is_named(tmp_path):
    with pytest.raises(DataError, match=re.escape(f"scene15.npz is expected in {tmp_path.resolve()}, and is not")):
        prepare("scene15", seed=0, data=tmp_path)


def test_a_benchmark_is_read_from_the_named_folder(tmp_path):
    write_scenes(tmp_path)
    task = prepare("scene15", seed=0, data=str(tmp_path))
    assert (len(task.train), len(task.valid), len(task.test)) == (216, 24, 60)
    assert {name: x.shape[1] for name, x in task.train.inputs.items()} == SIZES
    assert np.bincount(task.test.labels).tolist() == [4] * 15


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        (
            {"view1": np.full((300, 59), np.nan, np.float32)},
            ": view1 must be finite; found NaN or infinity in 300 rows",
        ),
        ({"label": np.arange(300) % 16}, ": label must be class indices 0 to 14; found 0 to 15"),
        ({"view2": None}, " has no array view2; found label, view0, view1; is it another file"),
        ({"view2": np.ones((300, 41))}, ": view2 must have shape (images, 40) with rows; found (300, 41)"),
        ({"view0": np.ones((299, 20))}, ": view0 and label must have as many rows; found 299 and 300"),
        ({"label": np.ones(300)}, ": label must be of NumPy kind i or u; found float64"),
    ],
)
def test_a_wrong_file_of_a_benchmark_is_refused_with_its_path(tmp_path, changed, text):
    path = write_scenes(tmp_path, **changed).resolve()
    with pytest.raises(DataError, match=re.escape(f"{path}{text}")):
        prepare("scene15", seed=0, data=tmp_path)


pytest.importorskip("datasets")
pytest.importorskip("typer")


GOOD = {"fps": 2.0, "frames": 3, "size": (8, 9), "processes": 1, "may_fail": 0.1, "spectrogram": "pmr", "split": 2}


@pytest.mark.parametrize("name", DATASETS)
def test_numbers_of_the_title_are_those_of_the_splits_and_of_the_classes(name):
    dataset = DATASETS[name]
    total = sum(dataset.published.values())
    assert total in ([int(one.replace(",", "")) for one in re.findall(r"\d+,\d{3}", dataset.title)] or [total])
    for split, counts in dataset.classes.items():
        assert sum(counts) == dataset.published[split]
    assert set(dataset.published) <= {"train", "valid", "test"} or set(dataset.published) == {"all"}
    assert (dataset.archive,) == BENCHMARKS[name].files or BENCHMARKS[name].stored
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


def test_recipe_of_a_protocol_goes_before_the_recipe_of_all():
    benchmark = replace(DIGITS, recipe={"*": {"steps": 10, "dropout": 0.3}, "hard": {"steps": 20}})
    assert benchmark.recipe_for("hard") == {"steps": 20, "dropout": 0.3}
    assert benchmark.recipe_for("random") == {"steps": 10, "dropout": 0.3}
    assert replace(DIGITS, recipe={}).recipe_for("random") == {}

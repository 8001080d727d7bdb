import numpy as np
import pytest

from concordant.benchmarks.emotions import FOLDS, RAVDESS_FILE, load_ravdess, split_ravdess
from concordant.data.archives import DataError


def write(folder, **changes):
    draws = np.random.default_rng(0)
    count = 24
    logmel = -1 - draws.random((count, 400, 64)).astype(np.float16)
    logmel[:, 300:] = 0
    has_audio = np.arange(count) != 5
    logmel[5] = 0
    arrays = {
        "logmel": logmel,
        "action_units": draws.random((count, 35)).astype(np.float32),
        "emotion": np.arange(count) % 8,
        "emotion_names": np.array([f"emotion {k}" for k in range(8)]),
        "actor": np.arange(count) // 2,
        "fold": np.arange(count) // 2 % FOLDS,
        "has_audio": has_audio,
        "name": np.array([f"r{k}" for k in range(count)]),
    }
    np.savez(folder / RAVDESS_FILE, **{**arrays, **changes})
    return {**arrays, **changes}


def test_padding_and_absent_audio_are_marked(tmp_path):
    arrays = write(tmp_path)
    everything = load_ravdess(tmp_path).whole
    np.testing.assert_array_equal(everything.inputs["logmel"], arrays["logmel"].astype(np.float32))
    assert everything.masks["logmel"].sum(1).tolist() == [0 if k == 5 else 300 for k in range(24)]
    assert everything.present["logmel"].tolist() == [k != 5 for k in range(24)]
    assert everything.groups.tolist() == [str(k // 2) for k in range(24)]


@pytest.mark.parametrize("seed", [0, 3, 7])
def test_the_seed_s_fold_tests_and_actors_stay_whole(tmp_path, seed):
    arrays = write(tmp_path)
    parts = split_ravdess(load_ravdess(tmp_path), seed, "folds")
    assert sorted(parts.test.ids.tolist()) == sorted(arrays["name"][arrays["fold"] == seed % 5].tolist())
    actors = [set(part.groups.tolist()) for part in (parts.train, parts.valid, parts.test)]
    assert actors[0].isdisjoint(actors[1] | actors[2])
    assert actors[1].isdisjoint(actors[2])
    assert len(parts.train) + len(parts.valid) + len(parts.test) == 24


def test_labels_outside_the_named_emotions_are_refused(tmp_path):
    write(tmp_path, emotion=np.full(24, 8))
    with pytest.raises(DataError, match="emotion must be class indices 0 to 7; found 8 to 8"):
        load_ravdess(tmp_path)


def test_audio_that_is_announced_but_empty_is_refused(tmp_path):
    write(tmp_path, has_audio=np.ones(24, bool))
    with pytest.raises(DataError, match="1 recordings with audio have an empty logmel"):
        load_ravdess(tmp_path)


@pytest.mark.data
def test_the_published_folds_have_five_or_four_actors_each(data_folder):
    recordings = load_ravdess(data_folder)
    everything, fold, classes = recordings
    assert len(classes) == 8
    assert classes[0] == "neutral"
    assert len(everything) == 1440
    assert everything.present["logmel"].sum() == 1424
    assert [len(np.unique(everything.groups[fold == k])) for k in range(5)] == [5, 5, 5, 5, 4]
    tested = [name for seed in range(5) for name in split_ravdess(recordings, seed, "folds").test.ids.tolist()]
    assert sorted(tested) == sorted(everything.ids.tolist())
    # A step is either there in all bands or in none.
    values = everything.inputs["logmel"][everything.masks["logmel"]]
    assert (values < 0).mean() > 0.99

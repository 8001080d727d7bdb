import re

import numpy as np
import pytest

from concordant.benchmarks.sentiment import SIZES, UTTERANCES, load_utterances, split_utterances
from concordant.errors import DataError


@pytest.fixture(scope="module")
def published(data_folder):
    return load_utterances(data_folder)


def write_archive(folder, **changed):
    arrays = {}
    for part, count in (("train", 60), ("test", 40)):
        arrays |= {f"{name}_{part}": np.full((count, size), 0.5, np.float32) for name, size in SIZES.items()}
        arrays[f"y_{part}"] = np.arange(count) % 2
        arrays[f"id_{part}"] = np.array([f"_{part}_{row // 4}_{row % 4}" for row in range(count)])
    np.savez(folder / UTTERANCES, **{**arrays, **changed})


def test_the_video_of_an_utterance_is_all_before_its_last_underscore(tmp_path):
    write_archive(tmp_path)
    found = load_utterances(tmp_path)
    assert found["train"].groups[:5].tolist() == ["_train_0"] * 4 + ["_train_1"]
    assert found["test"].ids[:2].tolist() == ["_test_0_0", "_test_0_1"]


def test_a_third_sentiment_is_refused(tmp_path):
    write_archive(tmp_path, y_test=np.arange(40) % 3)
    with pytest.raises(
        DataError, match=re.escape(f"{tmp_path / UTTERANCES}: y_test must be class indices 0 to 1; found 0")
    ):
        load_utterances(tmp_path)


@pytest.mark.data
@pytest.mark.parametrize("seed", range(3))
def test_given_protocol_keeps_the_published_parts(published, seed):
    parts = split_utterances(published, seed, "given")
    assert parts.test is published["test"]
    assert len(parts.test) == 752
    ids = parts.train.ids.tolist() + parts.valid.ids.tolist()
    assert sorted(ids) == sorted(published["train"].ids.tolist())
    assert len(set(ids)) == 1447
    videos = [set(part.groups.tolist()) for part in (parts.train, parts.valid, parts.test)]
    assert [len(some) for some in videos] == [52, 10, 31]  # 15 % of 62 videos validate, rounded up
    assert len(set.union(*videos)) == 93


@pytest.mark.data
def test_given_protocol_changes_the_validation_videos_with_the_seed(published):
    found = [set(split_utterances(published, seed, "given").valid.groups.tolist()) for seed in (0, 0, 1)]
    assert found[0] == found[1] != found[2]


@pytest.mark.data
@pytest.mark.parametrize("first", [0, 5])
def test_five_seeds_test_every_utterance_of_the_folds_once(published, first):
    tested = []
    for seed in range(first, first + 5):
        parts = split_utterances(published, seed, "test-folds")
        sides = (parts.train, parts.valid, parts.test)
        assert sorted(name for side in sides for name in side.ids.tolist()) == sorted(published["test"].ids.tolist())
        videos = [set(side.groups.tolist()) for side in sides]
        assert sum(len(some) for some in videos) == len(set.union(*videos)) == 31
        assert len(videos[2]) in (6, 7)
        tested += parts.test.ids.tolist()
    assert sorted(tested) == sorted(published["test"].ids.tolist())


@pytest.mark.data
def test_the_next_five_seeds_have_other_folds(published):
    folds = [set(split_utterances(published, seed, "test-folds").test.groups.tolist()) for seed in range(10)]
    assert all(one not in folds[:5] for one in folds[5:])


@pytest.mark.data
def test_values_labels_and_names_are_those_of_the_file(published, data_folder):
    with np.load(data_folder / UTTERANCES) as archive:
        for part in ("train", "test"):
            rows = np.argsort(archive[f"id_{part}"])
            mine = np.argsort(published[part].ids)
            np.testing.assert_array_equal(published[part].labels[mine], archive[f"y_{part}"][rows])
            for name, size in SIZES.items():
                x = archive[f"{name}_{part}"]
                assert x.shape[1] == size
                np.testing.assert_array_equal(published[part].inputs[name][mine], x[rows])

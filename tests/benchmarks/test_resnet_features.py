from itertools import chain

import numpy as np
import pytest

from concordant.benchmarks.emotions import CREMAD_FEATURES
from concordant.benchmarks.events import AVE_FEATURES
from concordant.data.archives import DataError


def write(folder, file, count=60, **changes):
    draws = np.random.default_rng(0)
    arrays = {
        f"{name}_{kind}": draws.random((count, 512)).astype(np.float32)
        for name in ("audio", "visual")
        for kind in ("normal", "ogm_ge")
    }
    arrays |= {
        "label": np.arange(count) % 3,
        "id": np.array([f"{1001 + k // 4}_{k}" for k in range(count)]),
        "class_names": np.array(["a", "b", "c"]),
    }
    np.savez(folder / file, **{**arrays, **changes})
    return {**arrays, **changes}


@pytest.mark.parametrize(("protocol", "kind"), [("normal", "normal"), ("ogm-ge", "ogm_ge")])
@pytest.mark.parametrize("benchmark", [CREMAD_FEATURES, AVE_FEATURES], ids=lambda benchmark: benchmark.name)
def test_a_protocol_chooses_the_features(tmp_path, benchmark, protocol, kind):
    arrays = write(tmp_path, benchmark.files[0])
    parts = benchmark.split(benchmark.load(tmp_path), 1, protocol)
    place = {name: row for row, name in enumerate(arrays["id"].tolist())}
    for part in (parts.train, parts.valid, parts.test):
        rows = [place[name] for name in part.ids.tolist()]
        for name in ("audio", "visual"):
            np.testing.assert_array_equal(part.inputs[name], arrays[f"{name}_{kind}"][rows])
        np.testing.assert_array_equal(part.labels, arrays["label"][rows])
    assert parts.classes == ("a", "b", "c")


@pytest.mark.parametrize("benchmark", [CREMAD_FEATURES, AVE_FEATURES], ids=lambda benchmark: benchmark.name)
def test_five_seeds_test_every_clip_once_and_the_next_five_in_other_folds(tmp_path, benchmark):
    write(tmp_path, benchmark.files[0])
    clips = benchmark.load(tmp_path)
    tests = [benchmark.split(clips, seed, "normal").test.ids.tolist() for seed in range(10)]
    for five in (tests[:5], tests[5:]):
        assert sorted(chain.from_iterable(five)) == sorted(clips.by_protocol["normal"].ids.tolist())
    assert {tuple(sorted(test)) for test in tests[:5]} != {tuple(sorted(test)) for test in tests[5:]}


def test_actors_stay_whole(tmp_path):
    write(tmp_path, CREMAD_FEATURES.files[0])
    parts = CREMAD_FEATURES.split(CREMAD_FEATURES.load(tmp_path), 0, "normal")
    actors = [{name[:4] for name in part.ids.tolist()} for part in (parts.train, parts.valid, parts.test)]
    assert actors[0].isdisjoint(actors[1] | actors[2])
    assert actors[1].isdisjoint(actors[2])


def test_classes_are_spread_evenly_where_there_are_no_groups(tmp_path):
    write(tmp_path, AVE_FEATURES.files[0])
    clips = AVE_FEATURES.load(tmp_path)
    for seed in range(5):
        assert np.bincount(AVE_FEATURES.split(clips, seed, "normal").test.labels).tolist() == [4, 4, 4]


def test_labels_without_a_name_are_refused(tmp_path):
    write(tmp_path, AVE_FEATURES.files[0], label=np.full(60, 3))
    with pytest.raises(DataError, match=r"ave_features\.npz: label must be class indices 0 to 2; found 3 to 3"):
        AVE_FEATURES.load(tmp_path)


@pytest.mark.data
@pytest.mark.parametrize(
    ("benchmark", "count", "classes"),
    [(CREMAD_FEATURES, 744, 6), (AVE_FEATURES, 402, 28)],
    ids=lambda value: getattr(value, "name", None),
)
def test_the_published_clips(data_folder, benchmark, count, classes):
    clips = benchmark.load(data_folder)
    assert len(clips.classes) == classes
    for protocol in benchmark.protocols:
        for seed in range(5):
            parts = benchmark.split(clips, seed, protocol)
            assert len(parts.train) + len(parts.valid) + len(parts.test) == count
            assert set(parts.train.labels.tolist()) == set(range(classes))

import pickle
import re

import numpy as np
import pytest

from concordant.data.formats.utterances import read_utterances
from concordant.errors import DataError

SIZES = {"text": 5, "audio": 3, "video": 4}


def publish(folder, modality, values, labels, lengths, name="{}_2way.pickle", **changed):
    """Write one modality as published: (values, labels) of train and of test padded to one length, then the lengths."""
    parts = {}
    longest = max(max(one) for one in lengths.values())
    for split in ("train", "test"):
        padded = np.zeros((len(lengths[split]), longest, values[split].shape[1]))
        marks = np.zeros(padded.shape[:2])
        inside = np.arange(longest) < np.array(lengths[split])[:, None]
        padded[inside], marks[inside] = values[split], labels[split]
        parts[split] = [padded, marks]
    content = (*parts["train"], *parts["test"], longest, list(lengths["train"]), list(lengths["test"]))
    plain = pickle.dumps(changed.get("content", content), protocol=2)
    (folder / name.format(modality)).write_bytes(
        plain.replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")
    )


def drawn():
    draws = np.random.default_rng(0)
    lengths = {"train": [2, 4, 1], "test": [3, 2]}
    labels = {split: draws.integers(0, 2, sum(one)) for split, one in lengths.items()}
    values = {
        m: {s: draws.normal(size=(len(labels[s]), d)).astype(np.float32) for s in labels} for m, d in SIZES.items()
    }
    return values, labels, lengths


@pytest.mark.parametrize("name", ["{}_2way.pickle", "{}.pickle"])
def test_padding_is_removed_and_utterances_are_numbered(tmp_path, name):
    values, labels, lengths = drawn()
    for modality in SIZES:
        publish(tmp_path, modality, values[modality], labels, lengths, name)
    found = read_utterances(tmp_path)
    for split in lengths:
        np.testing.assert_array_equal(found[f"y_{split}"], labels[split])
        for modality in SIZES:
            np.testing.assert_array_equal(found[f"{modality}_{split}"], values[modality][split])
    assert found["id_train"].tolist()[:3] == ["train000_000", "train000_001", "train001_000"]
    assert [one.rpartition("_")[0] for one in found["id_test"].tolist()] == ["test000"] * 3 + ["test001"] * 2


@pytest.mark.data
def test_rows_are_those_of_the_archive(data_folder, tmp_path):
    with np.load(data_folder / "cmu_mosi_utterance.npz") as archive:
        arrays = dict(archive)
    videos = {s: [one.rpartition("_")[0] for one in arrays[f"id_{s}"].tolist()] for s in ("train", "test")}
    lengths = {s: [one.count(video) for video in dict.fromkeys(one)] for s, one in videos.items()}
    labels = {s: arrays[f"y_{s}"] for s in videos}
    for modality in SIZES:
        publish(tmp_path, modality, {s: arrays[f"{modality}_{s}"] for s in videos}, labels, lengths)
    found = read_utterances(tmp_path)
    for key, rows in found.items():
        if not key.startswith("id_"):
            assert rows.dtype == arrays[key].dtype
            np.testing.assert_array_equal(rows, arrays[key])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ([1], "must hold a tuple of 7, as published; found list"),
        (([[1], [1, 2]], 1, 1, 1, 1, 1, 1), "must be arrays; found rows that differ in length"),
        ((np.ones((2, 3)), 1, 1, 1, 1, 1, 1), "values (V, U, D), labels (V, U) and lengths (V,) must be numbers"),
    ],
)
def test_other_pickles_are_refused(tmp_path, content, said):
    publish(tmp_path, "text", *[drawn()[0]["text"], *drawn()[1:]], content=content)
    with pytest.raises(DataError, match=re.escape(said)):
        read_utterances(tmp_path)


def test_modalities_must_fit_each_other(tmp_path):
    values, labels, lengths = drawn()
    publish(tmp_path, "text", values["text"], labels, lengths)
    with pytest.raises(DataError, match=r"has neither audio_2way\.pickle nor audio\.pickle"):
        read_utterances(tmp_path)
    publish(tmp_path, "audio", values["audio"], {**labels, "test": 1 - labels["test"]}, lengths)
    with pytest.raises(DataError, match="labels and lengths must be those of the text"):
        read_utterances(tmp_path)

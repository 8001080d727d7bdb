import re

import numpy as np
import pytest

pytest.importorskip("datasets")

from hypothesis import given, settings
from hypothesis import strategies as st

from concordant.data.formats.own_numpy import read_numpy
from concordant.data.store import Store
from concordant.data.writing import write_store
from concordant.errors import DataError


def stored(path, folder, **options):
    reading = read_numpy(path, **options)
    write_store(folder, reading.card, reading.instances, findings=reading.findings)
    return Store(folder)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 4)), min_size=2, max_size=6), st.booleans())
def test_what_is_written_in_the_convention_is_stored_at_its_true_length(tmp_path_factory, lengths, as_folder):
    folder = tmp_path_factory.mktemp("own")
    draws = np.random.default_rng(0)
    padded, ragged = np.array(lengths).T
    count = len(lengths)
    arrays = {
        "label": np.arange(count) % 2,
        "split": np.array([("train", "test")[k % 2] for k in range(count)]),
        "group": np.arange(count) // 2,
        "id": np.array([f"i{k}" for k in range(count)]),
        "classes": np.array(["no", "yes"]),
        "sensor": draws.standard_normal((count, 3)),
        "audio": draws.standard_normal((count, 5, 2)).astype(np.float32),
        "audio_length": padded,
        "pose": draws.standard_normal((int(ragged.sum()), 4)).astype(np.float32),
        "pose_offsets": np.cumsum([0, *ragged]),
        "image": draws.integers(0, 255, (count, 1, 2, 3), dtype=np.uint8),
        "film": draws.standard_normal((count, 2, 3, 1, 2)).astype(np.float32),
        "film_present": np.arange(count) % 3 != 0,
    }
    arrays["sensor"][1] = np.nan
    if as_folder:
        (folder / "mine").mkdir()
        for key, values in arrays.items():
            np.save(folder / "mine" / f"{key}.npy", values)
        store = stored(folder / "mine", folder / "store")
    else:
        np.savez(folder / "mine.npz", **arrays)
        store = stored(folder / "mine.npz", folder / "store")
    assert store.card.name == "mine"
    assert {name: one.layout for name, one in store.card.modalities.items()} == {
        "sensor": "bd",
        "audio": "btd",
        "pose": "btd",
        "image": "bchw",
        "film": "bcthw",
    }
    start = 0
    for row, one in enumerate(store):
        assert (one.id, one.label, one.group) == (f"i{row}", row % 2, str(row // 2))
        wanted = {
            "sensor": None if row == 1 else arrays["sensor"][row].astype(np.float32),
            "audio": arrays["audio"][row, : padded[row]] if padded[row] else None,
            "pose": arrays["pose"][start : start + ragged[row]] if ragged[row] else None,
            "image": arrays["image"][row].astype(np.float32),
            "film": arrays["film"][row] if row % 3 else None,
        }
        start += ragged[row]
        for name, values in wanted.items():
            if values is None:
                assert one.features[name] is None
            else:
                np.testing.assert_array_equal(one.features[name], values)


GOOD = {"label": np.array([0, 1, 1]), "audio": np.ones((3, 4, 2), np.float32), "video": np.ones((3, 5), np.float32)}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"label": None}, "has no array label; found audio, video (docs/own-data.md)"),
        ({"label": np.zeros((3, 1), int)}, "label must have shape (N,) with rows; found (3, 1)"),
        ({"audio": np.ones((2, 4, 2))}, "audio must have 3 rows, as label has; found 2"),
        (
            {"audio": np.ones(3)},
            "audio must be numbers (N, D), (N, T, D), (N, C, H, W) or (N, C, T, H, W); found float64 (3,)",
        ),
        ({"audio": np.array([["a"]] * 3)}, "audio must be numbers"),
        ({"audio_length": np.array([1, 2, 5])}, "audio_length must be 3 whole numbers from 0 to 4, the steps of audio"),
        ({"video_length": np.array([1, 2, 3])}, "video_length must be 3 whole numbers from 0 to 0, the steps of video"),
        ({"audio_present": np.array([1, 0, 1])}, "audio_present must be 3 truth values; found int64 (3,)"),
        (
            {"video_offsets": np.array([0, 1, 2, 4])},
            "video_offsets must rise from 0 to 3, the steps of video, in 4 numbers; found (4,)",
        ),
        (
            {"split": np.array(["train", "test"])},
            "split must be text or whole numbers (3,), as label has rows; found (2,)",
        ),
        ({"split": np.array(["train", "dev", "test"])}, "split must be one of train, valid, test; found dev"),
        ({"audio": None, "video": None}, "has no modality; docs/own-data.md says how columns are named"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(tmp_path, change, said):
    np.savez(tmp_path / "x.npz", **{key: x for key, x in {**GOOD, **change}.items() if x is not None})
    with pytest.raises(DataError, match=re.escape(said)):
        read_numpy(tmp_path / "x.npz")


def test_files_that_are_no_arrays_are_refused(tmp_path):
    for content in (b"", b"PK\x03\x04broken", b"text"):
        (tmp_path / "x.npz").write_bytes(content)
        with pytest.raises(DataError, match=r"x\.npz cannot be read as NumPy arrays"):
            read_numpy(tmp_path / "x.npz")
    np.save(tmp_path / "x.npy", np.ones(3))
    with pytest.raises(
        DataError, match=r"must be an archive \(\.npz\) or a folder of \.npy files; found a single array"
    ):
        read_numpy(tmp_path / "x.npy")
    with pytest.raises(DataError, match=r"gone\.npz cannot be read as NumPy arrays"):
        read_numpy(tmp_path / "gone.npz")
    np.savez(tmp_path / "o.npz", label=np.array([0, 1]), audio=np.array([{}, {}], object))
    with pytest.raises(DataError, match=r"o\.npz cannot be read as NumPy arrays \(Object arrays cannot be loaded"):
        read_numpy(tmp_path / "o.npz")


def test_single_values_that_are_not_finite_are_counted(tmp_path):
    audio = GOOD["audio"].copy()
    audio[0, 0, 0] = np.inf
    np.savez(tmp_path / "x.npz", **{**GOOD, "audio": audio})
    card = stored(tmp_path / "x.npz", tmp_path / "store", name="own").card
    assert card.name == "own"
    assert card.repairs == {"audio": "1 of 24 values replaced by 0 (1 infinite)"}


@pytest.mark.data
def test_real_vectors_come_back_bit_for_bit(data_folder, tmp_path):
    with np.load(data_folder / "cmu_mosi_utterance.npz") as found:
        arrays = {"label": found["y_test"], "id": found["id_test"]}
        arrays |= {name: found[f"{name}_test"] for name in ("text", "audio", "video")}
    np.savez(tmp_path / "mosi.npz", **arrays)
    store = stored(tmp_path / "mosi.npz", tmp_path / "store")
    for name in ("text", "audio", "video"):
        np.testing.assert_array_equal(np.stack([one.features[name] for one in store]), arrays[name])

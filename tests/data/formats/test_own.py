import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from concordant.data.card import ModalityCard
from concordant.data.formats.own import label_card, own_card, read_numpy, splits_of
from concordant.data.store import Store
from concordant.data.writing import write_store
from concordant.errors import DataError


@pytest.mark.parametrize(
    ("values", "classes", "wanted", "names"),
    [
        (np.array([0, 2, 1]), (), [0, 2, 1], ("0", "1", "2")),
        (np.array([7, -1, 7]), (), [1, 0, 1], ("-1", "7")),
        (np.array(["b", "a"]), (), [1, 0], ("a", "b")),
        (np.array(["b", "a"]), ("b", "a"), [0, 1], ("b", "a")),
        (np.array([True, False]), (), [1, 0], ("False", "True")),
        (np.array([0, 0]), ("no", "yes"), [0, 0], ("no", "yes")),
        (np.array([0.5, -1.0]), (), [0.5, -1.0], ()),
        (np.array([2.0, -1.0]), (), [1, 0], ("-1", "2")),
        (np.array([0.0, 1.0]), ("a", "b"), [0, 1], ("a", "b")),
        (np.array([b"b", b"a"]), (), [1, 0], ("a", "b")),
    ],
)
def test_labels_become_class_indices_or_numbers(values, classes, wanted, names):
    found, card = label_card(values, "here", classes)
    assert found.tolist() == wanted
    assert card.classes == names
    assert card.kind == ("class" if names else "real")


@pytest.mark.parametrize(
    ("values", "classes", "said"),
    [
        (np.array([0.5, np.nan]), (), "here: every label must be finite as float32; found 1 that are not"),
        (np.array([0.5, 1e39, -1e300, np.inf]), (), "here: every label must be finite as float32; found 3 that are"),
        (np.array([0.5, 1.0]), ("a", "b"), "here: labels are float64, which do not go with classes"),
        (np.array([b"\xff", b"a"]), (), "here holds bytes that are no UTF-8 text"),
        (np.array([0.5, 0.5]), (), "here: every label is 0.5: there is nothing to learn"),
        (np.array([1, 1]), (), "here: labels must be of two classes at least; found only [1]"),
        (np.array([0, 2]), ("a", "b"), "here: labels must be 0 to 1; found 0 to 2"),
        (np.array(["a", "c"]), ("a", "b"), "here: c is no class; choose from: a, b"),
        (np.array([0, 0]), ("a",), "here: classes: a label of kind 'class' needs two classes or more; found 1"),
        (np.array([0, 1]), ("a", "a"), "here: classes: every class may be named once; found 'a' again"),
        (np.array(["b", "a"]), ("a", "b", "a"), "here: classes: every class may be named once; found 'a' again"),
        (np.array([1j]), (), "here: labels must be whole numbers, text, or floating point; found complex128"),
    ],
)
def test_labels_that_cannot_be_used_are_refused(values, classes, said):
    with pytest.raises(DataError, match=re.escape(said)):
        label_card(values, "here", classes)


def card(modalities, splits=None):
    label = label_card(np.array([0, 1]), "here")[1]
    return own_card("own", modalities, label, splits, grouped=False, sources=(), where="here")


def test_cards_say_which_splits_there_are():
    audio = {"audio": ModalityCard(layout="bd", shape=(3,))}
    assert card(audio).splits == ("all",)
    assert card(audio).notes == ("the data have no splits: every seed tests on one of five folds",)
    assert card(audio, ["test", "train"]).splits == ("train", "test")
    folds = card(audio, ["fold 10", "fold 2", "fold 2"])
    assert folds.splits == ("fold 2", "fold 10")
    assert folds.notes == ("the data have 2 folds: seed s tests on the one at place s modulo 2",)


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        ({"split": ["dev", "train"]}, "here: split must be one of train, valid, test; found 'dev'"),
        ({"split": ["train"], "fold": [1]}, "here has split and fold; leave one of them out"),
        ({"fold": ["1", "1"]}, "here: fold must be whole numbers from 0 up, two of them at least; found 1"),
        ({"fold": ["a", "1"]}, "here: fold must be whole numbers from 0 up, two of them at least; found 1, a"),
    ],
)
def test_splits_and_folds_that_cannot_be_are_refused(texts, said):
    with pytest.raises(DataError, match=re.escape(said)):
        splits_of(texts, "here")


def test_modalities_need_a_name_that_is_free():
    with pytest.raises(DataError, match=r"here has no modality; docs/own-data\.md says how"):
        card({})
    with pytest.raises(
        DataError, match=r"here: modalities: a modality cannot be called 'label'; these names are taken"
    ):
        card({"label": ModalityCard(layout="bd", shape=(3,))})
    for name in ("a.b", "../a", "a/b", "type", "_a", "a ", "\x1b[31m", "", "x" * 101):
        with pytest.raises(DataError, match=r"a modality cannot be called .*: use a plain word, unknown to PyTorch"):
            card({name: ModalityCard(layout="bd", shape=(3,))})


pytest.importorskip("datasets")


def stored_arrays(path, folder, **options):
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
        store = stored_arrays(folder / "mine", folder / "store")
    else:
        np.savez(folder / "mine.npz", **arrays)
        store = stored_arrays(folder / "mine.npz", folder / "store")
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
        ({"label": np.zeros((3, 1), int)}, "label must have shape (N,) with rows; found (3, 1)"),
        ({"audio": np.ones((2, 4, 2))}, "audio must have 3 rows, as label has; found 2"),
        ({"audio": np.ones((2, 3))}, "audio must have 3 rows, as label has; found 2; transpose it?"),
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
            "split must be text or whole numbers (3,), as label has rows; found <U5 (2,)",
        ),
        ({"split": np.array(["train", "dev", "test"])}, "split must be one of train, valid, test; found 'dev'"),
        ({"group": np.array(["g", "", ""])}, "group is empty in 2 rows; give it, or leave the array out"),
        (
            {"group": np.array([0.5, 1, 1])},
            "group must be text or whole numbers (3,), as label has rows; found float64",
        ),
        ({"id": np.array([1, 2, 3], "M8[s]")}, "Object arrays, dates and records cannot be loaded"),
        ({"id": np.array([b"a", b"b", b"\xff"])}, "id holds bytes that are no UTF-8 text"),
        ({"type": np.ones((3, 2))}, "a modality cannot be called 'type'"),
        ({"a/b": np.ones((3, 2))}, "a modality cannot be called 'a/b'"),
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
    with pytest.raises(DataError, match=r"x\.npy must be a NumPy archive \(\.npz\); found a single array"):
        read_numpy(tmp_path / "x.npy")
    with pytest.raises(DataError, match=r"gone\.npz cannot be read as NumPy arrays"):
        read_numpy(tmp_path / "gone.npz")
    np.savez(tmp_path / "o.npz", label=np.array([0, 1]), audio=np.array([{}, {}], object))
    with pytest.raises(DataError, match=r"o\.npz cannot be read as NumPy arrays \(Object arrays, dates and records"):
        read_numpy(tmp_path / "o.npz")


def test_bytes_and_whole_numbers_name_things(tmp_path):
    names = {"id": np.array([b"a", b"b", b"c"]), "group": np.array([1.0, 1, 2]), "classes": np.array([b"no", b"yes"])}
    np.savez(tmp_path / "x.npz", **GOOD, **names)
    store = stored_arrays(tmp_path / "x.npz", tmp_path / "store")
    assert store.ids.tolist() == ["a", "b", "c"]
    assert store.groups.tolist() == ["1", "1", "2"]
    assert store.card.label.classes == ("no", "yes")


@pytest.mark.parametrize(("shape", "wanted"), [((8, 9, 3), (3, 8, 9)), ((5, 8, 9, 3), (3, None, 8, 9))])
def test_channels_that_come_last_are_moved_and_noted(tmp_path, shape, wanted):
    image = np.arange(2 * np.prod(shape)).reshape(2, *shape).astype(np.float32)
    np.savez(tmp_path / "x.npz", label=np.array([0, 1]), image=image)
    store = stored_arrays(tmp_path / "x.npz", tmp_path / "store")
    assert store.card.modalities["image"].shape == wanted
    np.testing.assert_array_equal(store[1].features["image"], np.moveaxis(image[1], -1, 0))
    assert any("image has its channels last" in note for note in store.card.notes)


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 2, 3), (3, 4, 4), (8, 4, 3), (2, 3, 8, 8)])
def test_channels_that_come_first_stay(tmp_path, shape):
    np.savez(tmp_path / "x.npz", label=np.array([0, 1]), image=np.zeros((2, *shape), np.float32))
    card = read_numpy(tmp_path / "x.npz").card
    assert [
        known if size is None else size for size, known in zip(card.modalities["image"].shape, shape, strict=True)
    ] == list(shape)


def test_arrays_without_labels_are_read_for_prediction(tmp_path):
    np.savez(tmp_path / "x.npz", a_offsets=np.array([0, 2, 3]), a=np.zeros((3, 2)), b=np.zeros((2, 2)))
    assert len(stored_arrays(tmp_path / "x.npz", tmp_path / "store")) == 2


def test_single_values_that_are_not_finite_are_counted(tmp_path):
    audio = GOOD["audio"].copy()
    audio[0, 0, 0] = np.inf
    np.savez(tmp_path / "x.npz", **{**GOOD, "audio": audio})
    card = stored_arrays(tmp_path / "x.npz", tmp_path / "store", name="own").card
    assert card.name == "own"
    assert card.repairs == {"audio": "1 of 24 values replaced by 0 (1 infinite)"}


@pytest.mark.data
def test_real_arrays_come_back_bit_for_bit(data_folder, tmp_path):
    with np.load(data_folder / "cmu_mosi_utterance.npz") as found:
        arrays = {"label": found["y_test"], "id": found["id_test"]}
        arrays |= {name: found[f"{name}_test"] for name in ("text", "audio", "video")}
    np.savez(tmp_path / "mosi.npz", **arrays)
    store = stored_arrays(tmp_path / "mosi.npz", tmp_path / "store")
    for name in ("text", "audio", "video"):
        np.testing.assert_array_equal(np.stack([one.features[name] for one in store]), arrays[name])


@pytest.mark.parametrize("turned", [False, True])
def test_a_matlab_file_with_a_cell_array_of_views(tmp_path, turned):
    from scipy.io import savemat

    draws = np.random.default_rng(0)
    views = [draws.normal(size=(6, size)).astype(np.float32) for size in (4, 3)]
    cells = np.empty((1, 2), object)
    cells[0, :] = [view.T if turned else view for view in views]
    columns = {"gt": np.array([[1.0, 2, 1, 2, 1, 2]]).T, "fold": np.array([[1.0, 1, 2, 2, 3, 3]])}
    savemat(tmp_path / "x.mat", {"X": cells, **columns, "who": np.ones((6, 2)), "who_present": np.arange(6.0) > 1})
    store = stored_arrays(tmp_path / "x.mat", tmp_path / "store")
    assert list(store.card.modalities) == ["X1", "X2", "who"]
    assert store.card.label.classes == ("1", "2")
    assert store.card.splits == ("fold 1", "fold 2", "fold 3")
    for row, one in enumerate(store):
        assert one.split == f"fold {1 + row // 2}"
        np.testing.assert_array_equal(one.features["X1"], views[0][row])
        np.testing.assert_array_equal(one.features["X2"], views[1][row])
        assert (one.features["who"] is None) == (row < 2)
    assert ("X1, X2 had instances in columns, as 6 labels show; transposed" in store.card.notes) == turned


def test_a_matlab_file_without_labels_shows_by_its_views_where_instances_are(tmp_path):
    from scipy.io import savemat

    savemat(tmp_path / "x.mat", {"a": np.ones((3, 6)), "b": np.ones((4, 6))})
    assert len(stored_arrays(tmp_path / "x.mat", tmp_path / "store")) == 6


def test_two_variables_that_may_be_the_labels_are_refused(tmp_path):
    from scipy.io import savemat

    savemat(tmp_path / "x.mat", {"gt": np.ones((6, 1)), "Y": np.ones((1, 6)), "a": np.ones((6, 3))})
    with pytest.raises(DataError, match=r"x\.mat has gt and Y, each of which may be the labels; keep one, or rename"):
        read_numpy(tmp_path / "x.mat")
    savemat(tmp_path / "x.mat", {"gt": np.array([[0, 1] * 3]).T, "Y": np.ones((6, 3)), "info": {"a": 1}})
    card = stored_arrays(tmp_path / "x.mat", tmp_path / "store").card
    assert list(card.modalities) == ["Y"]
    assert "info (struct) was left out; real matrices, text and cell arrays of them are read" in card.notes


@pytest.mark.parametrize("shape", [(4, 5, 3), (4, 2, 5, 6, 6)])
def test_steps_of_nan_at_the_end_are_padding(tmp_path, shape):
    values = np.random.default_rng(0).standard_normal(shape)
    axis = 1 if len(shape) == 3 else 2
    for row, steps in enumerate((5, 3, 1)):
        np.moveaxis(values, axis, 1)[row, steps:] = np.nan
    values[3] = np.nan
    np.moveaxis(values, axis, 1)[0, 2] = np.nan  # within the sequence
    np.savez(tmp_path / "x.npz", label=np.array([0, 1, 0, 1]), a=values)
    store = stored_arrays(tmp_path / "x.npz", tmp_path / "store")
    found = [one.features["a"] for one in store]
    assert [None if one is None else one.shape[axis - 1] for one in found] == [5, 3, 1, None]
    assert store.card.repairs["a"].startswith(f"{np.moveaxis(values, axis, 1)[0, 2].size} of ")

import json
import pickle

import numpy as np
import pytest

pytest.importorskip("datasets")

from hypothesis import given, settings
from hypothesis import strategies as st

from concordant.data.card import Card, LabelCard, ModalityCard, read_card
from concordant.data.store import Instance, Store
from concordant.data.stored import everything
from concordant.data.writing import write_store
from concordant.errors import DataError, UsageError

CARD = Card(
    name="toy",
    modalities={
        "audio": ModalityCard(kind="audio", layout="btd", shape=(None, 3), unit="log power", rate=100),
        "video": ModalityCard(kind="vision", layout="bcthw", shape=(2, None, 4, 5), dtype="float16"),
        "text": ModalityCard(kind="text", layout="bd", shape=(6,)),
    },
    label=LabelCard(classes=("no", "yes")),
    groups="speaker",
)


def instances(lengths, seed=0, absent=()):
    draws = np.random.default_rng(seed)
    for row, (audio, video) in enumerate(lengths):
        features = {
            "audio": draws.standard_normal((audio, 3)).astype(np.float32),
            "video": draws.standard_normal((2, video, 4, 5)).astype(np.float16),
            "text": draws.standard_normal(6),  # float64, stored as float32
        }
        features |= {name: None for place, name in absent if place == row}
        yield Instance(f"i{row}", ("train", "valid", "test")[row % 3], row % 2, features, f"s{row // 2}")


def one(**changes):
    (first,) = instances([(2, 3)])
    return Instance(**{**vars(first), **changes})


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 7), st.integers(1, 4)), min_size=1, max_size=9),
    st.sets(st.tuples(st.integers(0, 8), st.sampled_from(["audio", "video", "text"]))),
    st.sampled_from([1, 300, 1 << 20]),
)
def test_what_is_written_is_read_bit_for_bit(tmp_path_factory, lengths, absent, shard):
    folder = tmp_path_factory.mktemp("store") / "toy"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("concordant.data.writing.BATCH_BYTES", shard)
        card = write_store(folder, CARD, instances(lengths, absent=absent), shard_bytes=2 * shard)
    store = Store(folder)
    assert card.rows == len(store) == len(lengths)
    for found, wanted in zip(store, instances(lengths, absent=absent), strict=True):
        assert (found.id, found.split, found.group, found.label) == (
            wanted.id,
            wanted.split,
            wanted.group,
            wanted.label,
        )
        for name, values in wanted.features.items():
            if values is None:
                assert found.features[name] is None
            else:
                stored = values.astype(CARD.modalities[name].dtype)
                assert found.features[name].dtype == stored.dtype
                np.testing.assert_array_equal(found.features[name], stored)
    gone = {row for row, name in absent if name == "audio"}
    assert store.lengths("audio").tolist() == [0 if row in gone else t for row, (t, _) in enumerate(lengths)]


@pytest.fixture
def store(tmp_path):
    write_store(tmp_path / "toy", CARD, instances([(2, 1), (5, 3), (1, 2), (4, 4)], absent=[(2, "audio"), (3, "text")]))
    return Store(tmp_path / "toy")


def test_datasets_opens_the_folder_as_its_own(store):
    from datasets import load_from_disk

    opened = load_from_disk(str(store.folder))
    assert opened.column_names == ["id", "split", "group", "label", "audio", "video", "text"]
    assert opened[2]["audio"] is None
    np.testing.assert_array_equal(np.float32(opened[1]["audio"]).reshape(-1, 3), store[1].features["audio"])


def test_several_files_are_read_as_one(tmp_path, monkeypatch):
    monkeypatch.setattr("concordant.data.writing.BATCH_BYTES", 1)
    write_store(tmp_path / "toy", CARD, instances([(2, 1)] * 7), shard_bytes=1)
    assert len(list((tmp_path / "toy").glob("*.arrow"))) == 7
    store = Store(tmp_path / "toy")
    assert store[-1].id == store[6].id == "i6"
    with pytest.raises(IndexError, match="row 7 of a dataset of 7"):
        store[7]


def test_views_stay_right_when_their_pages_are_given_back(store):
    values = store[1].features["audio"]
    before = values.copy()
    store.release()
    np.testing.assert_array_equal(values, before)
    with pytest.raises(ValueError, match="read-only"):
        values[0, 0] = 1


def test_a_worker_process_gets_the_folder_not_the_data(store):
    sent = pickle.dumps(store)
    assert len(sent) < 1000
    np.testing.assert_array_equal(pickle.loads(sent)[3].features["video"], store[3].features["video"])


def test_splits_groups_and_labels_are_at_hand(store):
    assert store.rows("train").tolist() == [0, 3]
    assert store.groups.tolist() == ["s0", "s0", "s1", "s1"]
    assert store.labels.tolist() == [0, 1, 0, 1]
    with pytest.raises(UsageError, match="unknown split 'dev' of toy; choose from: train, valid, test"):
        store.rows("dev")


def test_batches_are_padded_with_masks_in_the_order_in_which_they_came(store):
    rows = [1, 2, 0, 3]
    batch = everything(store).take(rows)
    assert batch.ids.tolist() == ["i1", "i2", "i0", "i3"]
    assert batch.inputs["audio"].shape == (4, 5, 3)
    assert batch.inputs["video"].shape == (4, 2, 4, 4, 5)
    assert batch.masks["audio"].sum(1).tolist() == [5, 0, 2, 4]
    assert batch.masks["video"].sum(1).tolist() == [3, 2, 1, 4]
    assert "text" not in batch.masks
    assert batch.present["audio"].tolist() == [True, False, True, True]
    assert batch.present["text"].tolist() == [True, True, True, False]
    assert "video" not in batch.present
    for place, row in enumerate(rows):
        audio = store[row].features["audio"]
        if audio is not None:
            np.testing.assert_array_equal(batch.inputs["audio"][place, : len(audio)], audio)
            assert not batch.inputs["audio"][place, len(audio) :].any()
        video = store[row].features["video"]
        np.testing.assert_array_equal(batch.inputs["video"][place, :, : video.shape[1]], video.astype(np.float32))
    assert not batch.inputs["audio"][1].any()
    assert not batch.inputs["text"][3].any()


@pytest.mark.parametrize("kind", ["real", "segments"])
def test_labels_may_be_numbers_or_segments(tmp_path, kind):
    card = Card(
        name="toy",
        modalities={"a": ModalityCard(layout="bd", shape=(2,))},
        label=LabelCard(kind=kind, classes=() if kind == "real" else ("x", "y", "z")),
    )
    labels = [1.5, -2.0, 0.0] if kind == "real" else [np.array([0, 2]), np.array([1]), np.array([2, 2])]
    rows = [Instance(f"i{n}", "train", label, {"a": np.ones(2)}) for n, label in enumerate(labels)]
    write_store(tmp_path / "toy", card, rows)
    store = Store(tmp_path / "toy")
    assert store.groups is None
    assert store[0].group is None
    assert [np.asarray(one.label).tolist() for one in store] == [np.asarray(label).tolist() for label in labels]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"split": "dev"}, "split must be one of train, valid, test; found 'dev'"),
        ({"group": None}, "group must be named"),
        ({"label": 2}, "label must be class indices 0 to 1; found 2"),
        ({"label": np.array([1, 0])}, r"label must be one class index; found shape \(2,\)"),
        ({"label": 0.5}, "label must be class indices 0 to 1; found 0.5"),
        ({"features": {"audio": None}}, "must have audio, video, text; found audio"),
        ({"audio": np.ones((2, 4))}, r"audio must have shape \(T, 3\) with T of 1 or more; found \(2, 4\)"),
        ({"audio": np.ones((0, 3))}, r"found \(0, 3\); absent is None"),
        ({"audio": np.ones((2, 3), int)}, "audio must be floating point; found int64"),
        ({"audio": np.full((2, 3), np.nan)}, "audio must be finite as float32"),
        ({"audio": np.full((2, 3), 1e39)}, "audio must be finite as float32"),
        ({"video": np.full((2, 1, 4, 5), 70000.0)}, "video must be finite as float16"),
    ],
)
def test_instances_that_do_not_fit_the_card_are_refused_and_nothing_is_left(tmp_path, changes, said):
    features = dict(one().features) | {name: changes.pop(name) for name in ("audio", "video") if name in changes}
    with pytest.raises(DataError, match=f"toy, instance 'i0'.*{said}"):
        write_store(tmp_path / "toy", CARD, [one(**{"features": features, **changes})])
    assert list(tmp_path.iterdir()) == []


def test_an_id_may_occur_once(tmp_path):
    with pytest.raises(DataError, match="every id may occur once"):
        write_store(tmp_path / "toy", CARD, [one(), one()])


def test_a_dataset_needs_an_instance(tmp_path):
    with pytest.raises(DataError, match="not a single instance"):
        write_store(tmp_path / "toy", CARD, [])


def test_what_is_there_already_is_kept(tmp_path):
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy" / "thesis.tex").write_text("dear")
    with pytest.raises(UsageError, match="is there already and is not empty"):
        write_store(tmp_path / "toy", CARD, [one()])
    assert (tmp_path / "toy" / "thesis.tex").read_text() == "dear"


def test_a_truncated_arrow_file_is_named(store):
    file = store.folder / "data-00000.arrow"
    file.write_bytes(file.read_bytes()[:300])
    with pytest.raises(DataError, match=r"data-00000\.arrow cannot be read as Arrow"):
        Store(store.folder)


def test_lost_rows_are_noticed(store):
    path = store.folder / "concordant.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "rows": 5}))
    with pytest.raises(DataError, match="announces 5 instances, the Arrow files hold 4"):
        Store(store.folder)


def test_state_may_not_name_files_elsewhere(store):
    (store.folder / "state.json").write_text('{"_data_files": [{"filename": "../../etc/passwd"}]}')
    with pytest.raises(DataError, match="must name files of this folder"):
        Store(store.folder)


def test_a_folder_without_a_card_is_no_dataset(tmp_path):
    with pytest.raises(DataError, match=r"is no dataset of Concordant: concordant\.json is not there"):
        Store(tmp_path)
    with pytest.raises(DataError, match="is not there"):
        Store(tmp_path / "none")


def test_all_faults_of_a_card_are_said_at_once(store):
    path = store.folder / "concordant.json"
    card = json.loads(path.read_text())
    card["modalities"]["audio"]["shape"] = [3]
    card["label"]["classes"] = ["one"]
    path.write_text(json.dumps(card))
    with pytest.raises(DataError) as caught:
        read_card(store.folder)
    assert "modalities.audio: shape must have a size of 1 or more for each axis of 'td', and None for t" in str(
        caught.value
    )
    assert "label: a label of kind 'class' needs two classes or more; found 1" in str(caught.value)


def test_cards_of_another_version_are_refused(store):
    path = store.folder / "concordant.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "version": 9}))
    with pytest.raises(DataError, match="is of version 9; this Concordant reads version 1"):
        Store(store.folder)


def rewritten(folder, change, **options):
    """Write the Arrow file of a dataset again, with its table changed."""
    import pyarrow as pa

    (path,) = folder.glob("*.arrow")
    table = change(pa.ipc.open_stream(path.read_bytes()).read_all())
    with pa.ipc.new_stream(str(path), table.schema, options=pa.ipc.IpcWriteOptions(**options)) as stream:
        stream.write_table(table)


@pytest.mark.parametrize("codec", ["zstd", "lz4"])
def test_compressed_batches_are_refused_before_they_are_unpacked(tmp_path, codec):
    write_store(tmp_path / "toy", CARD, [one()])
    rewritten(tmp_path / "toy", lambda table: table)
    assert len(Store(tmp_path / "toy")) == 1
    rewritten(tmp_path / "toy", lambda table: table, compression=codec)
    with pytest.raises(DataError, match="cannot be read as Arrow \\(its batches are compressed\\)"):
        Store(tmp_path / "toy")


@pytest.mark.parametrize("name", ["../x.arrow", "/etc/passwd", "..", "", "a\\b", 3, None])
def test_names_of_arrow_files_are_no_paths(tmp_path, name):
    write_store(tmp_path / "toy", CARD, [one()])
    (tmp_path / "toy" / "state.json").write_text(json.dumps({"_data_files": [{"filename": name}]}))
    with pytest.raises(DataError, match="must name files of this folder"):
        Store(tmp_path / "toy")

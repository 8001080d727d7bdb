import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from concordant.benchmarks.catalogue import prepare
from concordant.benchmarks.prepared import find_store, split
from concordant.data.card import Card, LabelCard, ModalityCard
from concordant.data.scaling import fit, fit_chunks
from concordant.data.split import Split
from concordant.data.store import Instance, Store
from concordant.data.stored import StoredSplit, everything, memory_budget, pad
from concordant.data.writing import write_store
from concordant.errors import DataError, UsageError

pytest.importorskip("datasets")


def make(folder, *, kind="class", count=60, splits=("train", "valid", "test"), groups="speaker", name="own"):
    """Write a dataset of a vector, a sequence that is sometimes absent, and a film."""
    draws = np.random.default_rng(0)
    label = LabelCard(kind=kind) if kind == "real" else LabelCard(kind=kind, classes=("a", "b", "c"))
    card = Card(
        name=name,
        modalities={
            "sensor": ModalityCard(layout="bd", shape=(4,)),
            "audio": ModalityCard(layout="btd", shape=(None, 3)),
            "film": ModalityCard(layout="bcthw", shape=(2, None, 3, 3)),
        },
        label=label,
        splits=splits,
        groups=groups,
    )

    def instances():
        for row in range(count):
            steps = 5 if kind == "segments" else int(draws.integers(1, 6))
            value = {"class": row % 3, "real": float(row % 7) - 3, "segments": np.arange(steps) % 3}[kind]
            features = {
                "sensor": draws.standard_normal(4) + row % 3,
                "audio": None if row % 10 == 9 else draws.standard_normal((steps, 3)) + 2,
                "film": draws.standard_normal((2, steps, 3, 3)),
            }
            group = None if groups is None else f"g{row // 4}"
            yield Instance(f"i{row}", splits[row // 4 % len(splits)], value, features, group)

    write_store(folder, card, instances())
    return folder


@pytest.mark.parametrize("kind", ["class", "real", "segments"])
def test_what_is_read_as_needed_equals_what_is_held_in_memory(tmp_path, monkeypatch, kind):
    folder = make(tmp_path / "store", kind=kind)
    held = prepare("own", seed=0, data=folder)
    monkeypatch.setenv("CONCORDANT_MEMORY", "1")
    prepare.__globals__["_prepare"].cache_clear()
    read = prepare("own", seed=0, data=folder)
    assert isinstance(held.train, Split)
    assert isinstance(read.train, StoredSplit)
    assert held.kind == read.kind == ("real" if kind == "real" else "class")
    assert held.layouts == read.layouts
    assert held.outputs == (1 if kind == "real" else 3)
    for one, other in ((held.train, read.train), (held.valid, read.valid), (held.test, read.test)):
        assert one.ids.tolist() == other.ids.tolist()
        assert one.groups.tolist() == other.groups.tolist()
        np.testing.assert_array_equal(one.labels, other.labels)
        rows = np.array([3, 0, len(one) - 1])
        few, same = one.take(rows), other.take(rows)
        for name, x in same.inputs.items():
            # Padding goes to the longest of what was asked for.
            cut = tuple(slice(size) for size in x.shape)
            np.testing.assert_allclose(few.inputs[name][cut], x, atol=1e-5)
            if name in same.masks:
                np.testing.assert_array_equal(few.masks[name][:, : same.masks[name].shape[1]], same.masks[name])
        everyone = np.concatenate([piece.labels for piece in other.chunks()])
        np.testing.assert_array_equal(everyone, other.labels)
    prepare.__globals__["_prepare"].cache_clear()


def test_scales_of_pieces_are_those_of_the_whole(tmp_path, monkeypatch):
    monkeypatch.setattr("concordant.data.stored.CHUNK_BYTES", 1)
    monkeypatch.setattr("concordant.data.stored.LEAST_CHUNK", 7)
    whole = everything(Store(make(tmp_path / "store")))
    assert len(list(whole.chunks())) == 9
    scales = fit_chunks(whole.chunks(), whole.layouts)
    part = whole.take(slice(None))
    for name, layout in whole.layouts.items():
        wanted = fit(part.inputs[name], layout, part.masks.get(name, part.present.get(name)))
        np.testing.assert_allclose(scales[name].mean, wanted.mean, rtol=1e-9)
        np.testing.assert_allclose(scales[name].std, wanted.std, rtol=1e-9)


def test_every_segment_is_an_instance_with_its_own_step(tmp_path):
    store = Store(make(tmp_path / "store", kind="segments"))
    whole = everything(store)
    assert whole.layouts == {"sensor": "bd", "audio": "bd", "film": "bchw"}
    assert whole.ids[:6].tolist() == ["i0@0", "i0@1", "i0@2", "i0@3", "i0@4", "i1@0"]
    assert len(whole) == 5 * 60
    part = whole.take(np.array([7, 2]))
    np.testing.assert_array_equal(part.inputs["audio"][0], store[1].features["audio"][2])
    np.testing.assert_array_equal(part.inputs["film"][1], store[0].features["film"][:, 2])
    np.testing.assert_array_equal(part.inputs["sensor"][1], store[0].features["sensor"])
    assert part.labels.tolist() == [2, 2]
    assert whole.groups[5] == "g0"


def test_clips_without_groups_keep_their_segments_together(tmp_path):
    whole = everything(Store(make(tmp_path / "store", kind="segments", groups=None)))
    assert whole.groups[:6].tolist() == ["i0"] * 5 + ["i1"]


@pytest.mark.parametrize("groups", ["speaker", None])
@pytest.mark.parametrize("kind", ["class", "real"])
def test_validation_is_cut_off_training_where_none_is_published(tmp_path, kind, groups):
    whole = everything(Store(make(tmp_path / "store", kind=kind, splits=("train", "test"), groups=groups)))
    parts = split(whole, 0, "given")
    published = set(whole.ids[whole.store.splits == "test"].tolist())
    assert set(parts.test.ids.tolist()) == published
    assert len(parts.train) + len(parts.valid) + len(parts.test) == 60
    assert len(parts.valid) >= 4
    if groups:
        assert set(parts.train.groups).isdisjoint(parts.valid.groups)
    again = split(whole, 1, "given")
    assert set(again.valid.ids.tolist()) != set(parts.valid.ids.tolist())


@pytest.mark.parametrize("groups", ["speaker", None])
@pytest.mark.parametrize(("splits", "protocol"), [(("all",), "given"), (("train", "test"), "folds")])
def test_five_folds_test_everything_once(tmp_path, splits, protocol, groups):
    whole = everything(Store(make(tmp_path / "store", splits=splits, groups=groups)))
    parts = [split(whole, seed, protocol) for seed in range(5)]
    assert sorted(name for one in parts for name in one.test.ids.tolist()) == sorted(whole.ids.tolist())
    if groups:
        for one in parts:
            assert set(one.test.groups).isdisjoint({*one.train.groups, *one.valid.groups})


@pytest.mark.parametrize(
    ("options", "protocol", "said"),
    [
        ({"splits": ("train", "valid")}, "given", "no instance is in the split 'test' (found: train, valid)"),
        ({"count": 8}, "folds", "5 folds need 5 groups; found 2"),
        ({"count": 8, "groups": None}, "folds", "5 folds need 10 instances; found 8"),
        (
            {"count": 8, "splits": ("train", "test")},
            "given",
            "no validation split can be held out of the training split: it has 4 instances of one group",
        ),
    ],
)
def test_what_cannot_be_split_is_said(tmp_path, options, protocol, said):
    whole = everything(Store(make(tmp_path / "store", **options)))
    with pytest.raises(DataError, match=re.escape(said)):
        split(whole, 0, protocol)


def test_a_dataset_is_found_by_its_folder_or_within_one(tmp_path):
    folder = make(tmp_path / "data" / "cmu-mosi", kind="real", name="cmu-mosi")
    assert find_store("cmu-mosi", folder) == find_store("cmu-mosi", tmp_path / "data") == folder
    with pytest.raises(
        DataError, match=r"no prepared dataset ave is in .*; make one with `concordant data prepare ave"
    ):
        find_store("ave", tmp_path / "data")
    with pytest.raises(DataError, match=r"cmu-mosi holds cmu-mosi, not ave; name another folder with --data"):
        prepare("ave", seed=0, data=folder)
    with pytest.raises(UsageError, match=r"unknown modality 'smell' of own; choose from: sensor, audio, film"):
        prepare("own", seed=0, data=folder, modalities=["smell"])


@pytest.mark.parametrize(("text", "wanted"), [("1024", 1024), ("2KiB", 2048), ("1.5 MB", 1572864), ("1GiB", 1 << 30)])
def test_the_memory_budget_is_a_size(monkeypatch, text, wanted):
    monkeypatch.setenv("CONCORDANT_MEMORY", text)
    assert memory_budget() == wanted


def test_a_budget_that_is_no_size_is_refused(monkeypatch):
    monkeypatch.setenv("CONCORDANT_MEMORY", "much")
    with pytest.raises(UsageError, match='CONCORDANT_MEMORY must be a size such as "512MiB" or "4GiB"; found \'much\''):
        memory_budget()


def card(kind="class"):
    return Card(
        name="toy",
        modalities={
            "film": ModalityCard(layout="bcthw", shape=(2, None, 1, 3), dtype="float16"),
            "map": ModalityCard(layout="bchw", shape=(1, 2, 3)),
            "words": ModalityCard(layout="btd", shape=(None, 2)),
        },
        label=LabelCard(kind=kind, classes=() if kind == "real" else ("a", "b", "c")),
    )


def instance(name, film, words, here, label=0):
    """Return an instance whose values are 1, 2, ...; 0 steps: absent."""

    def values(*shape):
        return 1 + np.arange(np.prod(shape), dtype=np.float32).reshape(shape)

    features = {
        "words": values(words, 2) if words else None,  # in another order than the card's
        "film": values(2, film, 1, 3).astype(np.float16) if film else None,
        "map": values(1, 2, 3) if here else None,
    }
    return Instance(name, "train", label, features)


ROWS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 5), st.booleans()), min_size=1, max_size=5)


@settings(deadline=None, max_examples=40)
@given(ROWS)
def test_valid_steps_hold_the_values_and_all_others_are_0(rows):
    instances = [instance(f"i{row}", *sizes) for row, sizes in enumerate(rows)]
    for name, known in card().modalities.items():
        x, mask = pad([one.features[name] for one in instances], known)
        assert x.dtype == np.float32
        kept = [one.features[name].ravel() for one in instances if one.features[name] is not None]
        # A value never is 0, so as many places hold one as there are values, and in the order of the instances.
        np.testing.assert_array_equal(x[x != 0], np.concatenate([np.zeros(0), *kept]))
        assert (mask is None) == (name == "map")
        if mask is not None:
            lengths = [row[("film", "words").index(name)] for row in rows]
            assert mask.sum(1).tolist() == lengths
            assert mask.shape == (len(rows), max(1, *lengths))
            assert x.shape[{"film": 2, "words": 1}[name]] == max(1, *lengths)
            assert (np.diff(mask.astype(int)) <= 0).all()  # ones and then zeros


@settings(deadline=None, max_examples=40)
@given(ROWS)
def test_an_instance_is_the_same_alone_and_among_others(rows):
    instances = [instance(f"i{row}", *sizes) for row, sizes in enumerate(rows)]
    for name, known in card().modalities.items():
        whole, _ = pad([one.features[name] for one in instances], known)
        for row, one in enumerate(instances):
            alone, _ = pad([one.features[name]], known)
            cut = tuple(slice(size) for size in alone.shape[1:])
            np.testing.assert_array_equal(alone[0], whole[row][cut])


def test_seeds_whose_splits_are_equal_share_the_data(tmp_path):
    folder = make(tmp_path / "store", splits=("train", "valid", "test"))
    assert prepare("own", seed=1, data=folder) is prepare("own", seed=4, data=folder)
    assert prepare("own", seed=1, data=folder, protocol="folds") is not prepare(
        "own", seed=4, data=folder, protocol="folds"
    )
    prepare.__globals__["_prepare"].cache_clear()

import re
from collections import Counter

import numpy as np
import pytest

pytest.importorskip("datasets")

from hypothesis import given, settings
from hypothesis import strategies as st

from concordant.benchmarks.catalogue import BENCHMARKS, DATASETS, stored_as
from concordant.benchmarks.prepared import (
    OWN,
    PROTOCOLS,
    find_store,
    recipe_for,
    split,
    stored_benchmark,
    training_rows,
)
from concordant.data.card import Card, LabelCard, ModalityCard
from concordant.data.store import Instance, Store
from concordant.data.stored import everything
from concordant.data.writing import write_store
from concordant.errors import DataError


def whole(folder, labels, *, splits=None, groups=None, kind="class", name="own"):
    """Write a dataset of a vector, one instance a label, and return all of it."""
    places = splits if splits is not None else ["all"] * len(labels)
    card = Card(
        name=name,
        modalities={"x": ModalityCard(layout="bd", shape=(1,))},
        label=LabelCard(kind=kind, classes=() if kind == "real" else ("a", "b", "c", "d")),
        splits=tuple(dict.fromkeys(places)),
        groups=None if groups is None else "speaker",
    )
    write_store(
        folder,
        card,
        (
            Instance(f"i{row}", places[row], label, {"x": np.ones(1)}, None if groups is None else f"g{groups[row]}")
            for row, label in enumerate(labels)
        ),
    )
    return everything(Store(folder))


def names(part):
    return part.ids.tolist()


def sides(parts):
    return parts.train, parts.valid, parts.test


def is_partition(parts, ids):
    return sorted(name for side in sides(parts) for name in names(side)) == sorted(ids) and all(
        len(side) for side in sides(parts)
    )


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 8)), min_size=12, max_size=60).filter(
        lambda rows: len({group for _, group in rows}) >= 5
    ),
    st.integers(0, 30),
    st.booleans(),
)
def test_folds_are_a_partition_of_whole_groups_where_there_are_groups(tmp_path_factory, rows, seed, grouped):
    labels, groups = zip(*rows, strict=True)
    if not grouped:
        labels = tuple(row % 2 for row in range(len(rows)))
    data = whole(tmp_path_factory.mktemp("data") / "x", labels, groups=groups if grouped else None)
    parts = split(data, seed, "folds")
    assert is_partition(parts, names(data))
    if grouped:
        of = [set(side.groups.tolist()) for side in sides(parts)]
        assert len(of[0] | of[1] | of[2]) == len(of[0]) + len(of[1]) + len(of[2])
        assert len(of[2]) in (len(set(groups)) // 5, -(-len(set(groups)) // 5))
        assert len(of[1]) == -(-15 * (len(of[0]) + len(of[1])) // 100)
    again = split(data, seed, "folds")
    assert [names(side) for side in sides(again)] == [names(side) for side in sides(parts)]


@pytest.mark.parametrize("groups", [None, [row // 3 for row in range(60)]])
@pytest.mark.parametrize("kind", ["class", "real"])
def test_every_five_seeds_test_everything_once_and_the_next_five_otherwise(tmp_path, groups, kind):
    labels = [row % 4 if kind == "class" else row / 7 for row in range(60)]
    data = whole(tmp_path / "x", labels, groups=groups, kind=kind)
    folds = [[frozenset(names(split(data, seed, "given").test)) for seed in range(5 * k, 5 * k + 5)] for k in (0, 1)]
    for five in folds:
        assert sorted(name for fold in five for name in fold) == sorted(names(data))
        assert {len(fold) for fold in five} == {12}
    assert set(folds[0]) != set(folds[1])


def test_folds_and_what_is_cut_off_for_validation_have_their_share_of_each_class(tmp_path):
    data = whole(tmp_path / "x", [0] * 50 + [1] * 30 + [2] * 20)
    parts = split(data, 3, "folds")
    assert Counter(parts.test.labels.tolist()) == {0: 10, 1: 6, 2: 4}
    assert Counter(parts.valid.labels.tolist()) == {0: 6, 1: 4, 2: 2}  # 15 % of 80, by class as nearly as can be


@pytest.mark.parametrize("labels", [[0, 1, 2, 3], [0] * 9 + [1], [0, 1]])
def test_classes_too_small_to_be_shared_out_are_cut_at_random(tmp_path, labels):
    data = whole(tmp_path / "x", [*labels, 0], splits=["train"] * len(labels) + ["test"])
    parts = split(data, 0, "given")
    assert is_partition(parts, names(data))
    assert len(parts.valid) == -(-15 * len(labels) // 100)


def test_what_is_published_stays_whatever_the_seed(tmp_path):
    places = ["train", "valid", "test", "train"] * 10
    data = whole(tmp_path / "x", [row % 3 for row in range(40)], splits=places)
    found = [split(data, seed, "given") for seed in (0, 1, 9)]
    for parts in found:
        for side, name in zip(sides(parts), ("train", "valid", "test"), strict=True):
            assert {int(one[1:]) for one in names(side)} == {row for row, place in enumerate(places) if place == name}
    assert names(found[0].test) == names(found[1].test) == names(found[2].test)
    assert names(found[0].test) != sorted(names(found[0].test), key=lambda one: int(one[1:]))


@pytest.mark.parametrize("groups", [None, [row // 3 for row in range(40)]])
def test_published_folds_test_one_after_the_other(tmp_path, groups):
    places = [f"fold {row % 3 + 1}" for row in range(40)]
    data = whole(tmp_path / "x", [row % 4 for row in range(40)], splits=places, groups=groups)
    for seed in range(4):
        parts = split(data, seed, "given")
        assert {places[int(one[1:])] for one in names(parts.test)} == {f"fold {seed % 3 + 1}"}
        assert is_partition(parts, names(data))


def test_numbers_have_two_signs_for_classes(tmp_path):
    parts = split(whole(tmp_path / "x", [row / 3 for row in range(-10, 10)], kind="real"), 0, "given")
    assert (parts.kind, parts.classes) == ("real", ("negative", "not negative"))
    assert parts.test.labels.dtype == np.float32


@pytest.mark.parametrize(
    ("splits", "groups", "said"),
    [
        (["train", "test", "test"], None, "it has 1 instance; give it more, or a split 'valid'"),
        (["train", "train", "test"], [0, 0, 1], "it has 2 instances of one group; give it more, or a split 'valid'"),
        (["valid", "test", "test"], None, "no instance is in the split 'train' (found: test, valid); use --protocol"),
        (["one", "two", "one"], None, "no instance is in the split 'train' (found: one, two); use --protocol folds"),
    ],
)
def test_what_cannot_be_split_as_published_is_said(tmp_path, splits, groups, said):
    data = whole(tmp_path / "x", [0, 1, 0], splits=splits, groups=groups)
    with pytest.raises(DataError, match=re.escape(said)):
        split(data, 0, "given")


def test_nine_instances_make_no_folds_and_ten_do(tmp_path):
    with pytest.raises(DataError, match=r"5 folds need 10 instances; found 9$"):
        split(whole(tmp_path / "nine", [0, 1, 2] * 3), 0, "folds")
    ten = whole(tmp_path / "ten", [0, 1, 2] * 3 + [3])  # no class has an instance a fold
    assert all(is_partition(split(ten, seed, "folds"), names(ten)) for seed in range(5))


def test_every_dataset_that_can_be_prepared_is_a_benchmark_and_no_other_but_one_s_own():
    stored = [BENCHMARKS[name] for name in BENCHMARKS if BENCHMARKS[name].stored]
    assert [one.name for one in stored if one.name != OWN] == [name for name in DATASETS if not DATASETS[name].archive]
    for one in stored:
        assert (one.stored, one.protocols, one.files) == (True, PROTOCOLS, ("concordant.json",))
        assert one.recipe_for("folds") == one.recipe_for("given") == one.recipe["*"]


def test_a_folder_of_another_dataset_is_refused_and_one_s_own_takes_any(tmp_path):
    whole(tmp_path / "x", [0, 1], name="mine")
    options = {"setting": "vector", "summary": "", "fusion": "sum", "modalities": (), "steps": 1}
    assert len(stored_benchmark("mine", **options).load(tmp_path / "x")) == 2
    assert len(stored_benchmark(OWN, **options).load(tmp_path / "x")) == 2
    with pytest.raises(DataError, match=r"x holds mine, not ave; name another folder with --data$"):
        stored_benchmark("ave", **options).load(tmp_path / "x")


def test_where_there_is_no_dataset_it_is_said_how_one_is_made(tmp_path):
    with pytest.raises(
        DataError, match=r"^no prepared dataset ucf101 is in .*make one with `concordant data prepare ucf"
    ):
        find_store("ucf101", tmp_path)
    with pytest.raises(
        DataError, match=r"^no prepared dataset is in .*`concordant data from-csv` \(docs/own-data.md\)"
    ):
        find_store(OWN, tmp_path)


@pytest.mark.parametrize(
    ("splits", "protocol"),
    [(None, "folds"), (["train"] * 80 + ["test"] * 20, "given"), ([f"fold {n % 4}" for n in range(100)], "given")],
)
def test_the_training_rows_are_known_before_the_data_are_split(tmp_path, splits, protocol):
    data = whole(tmp_path / "own", [n % 2 for n in range(100)], splits=splits)
    assert training_rows(data.store, protocol) == pytest.approx(len(split(data, 0, protocol).train), abs=1)
    assert stored_as(data.store.folder).recipe == recipe_for(training_rows(data.store, protocol), 1)


def test_the_recipe_follows_the_protocol_that_is_chosen(tmp_path):
    data = whole(tmp_path / "own", [n % 2 for n in range(3000)], splits=["train"] * 1200 + ["test"] * 1800)
    assert stored_as(data.store.folder).recipe["steps"] == recipe_for(1020, 1)["steps"]
    assert stored_as(data.store.folder, "folds").recipe["steps"] == recipe_for(2040, 1)["steps"]


def test_features_that_outnumber_the_rows_get_strong_dropout_and_few_steps():
    assert recipe_for(90, 91) == {"steps": 200, "dropout": 0.5}
    assert recipe_for(400, 401) == {"steps": 420, "dropout": 0.5}
    assert recipe_for(400, 400) == {"steps": 700, "dropout": 0.1}
    assert recipe_for(1600, 400) == {"steps": 840, "dropout": 0.1}
    assert recipe_for(10**6, 10**7) == {"steps": 3000, "dropout": 0.5}

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from concordant.data.split import Split, by_group, class_folds, group_folds, shuffled, stratified


def a_split():
    return Split(
        inputs={
            "x": np.arange(8, dtype=np.float32).reshape(4, 2),
            "y": np.arange(12, dtype=np.float32).reshape(4, 3, 1),
        },
        labels=np.array([0, 1, 2, 3]),
        ids=np.array(list("abcd")),
        groups=np.array(list("ssuv")),
        masks={"y": np.tri(4, 3, dtype=np.bool_)},
        present={"x": np.array([True, False, True, True])},
    )


def test_take_returns_everything_of_the_rows_in_their_order():
    whole, rows = a_split(), np.array([3, 0, 0])
    taken = whole.take(rows)
    assert len(whole) == 4
    assert len(taken) == 3
    assert taken.ids.tolist() == ["d", "a", "a"]
    assert taken.labels.tolist() == [3, 0, 0]
    assert taken.groups.tolist() == ["v", "s", "s"]
    np.testing.assert_array_equal(taken.inputs["x"], [[6, 7], [0, 1], [0, 1]])
    np.testing.assert_array_equal(taken.inputs["y"][:, :, 0], [[9, 10, 11], [0, 1, 2], [0, 1, 2]])
    np.testing.assert_array_equal(taken.masks["y"], [[True, True, True], [True, False, False], [True, False, False]])
    assert taken.present["x"].tolist() == [True, True, True]


def test_take_keeps_that_there_are_no_groups():
    whole = Split({"x": np.zeros((2, 1), np.float32)}, np.zeros(2, np.int64), np.array(["a", "b"]))
    taken = whole.take(np.array([1]))
    assert taken.groups is None
    assert taken.masks == {}
    assert taken.present == {}


def test_with_inputs_changes_the_inputs_alone():
    whole = a_split()
    new = {"x": np.ones((4, 2), np.float32)}
    changed = whole.with_inputs(new)
    assert changed.inputs is new
    assert set(whole.inputs) == {"x", "y"}
    for name in ("labels", "ids", "groups", "masks", "present"):
        assert getattr(changed, name) is getattr(whole, name)


SEEDS = st.integers(0, 2**31)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(10, 40), min_size=2, max_size=5), st.floats(0.2, 0.6), SEEDS)
def test_stratified_sides_are_disjoint_complete_and_have_every_class_by_its_share(counts, share, seed):
    labels = np.repeat(np.arange(len(counts)), counts)
    rows = 3 * np.arange(len(labels)) + 7
    first, second = stratified(rows, labels, share, seed, "test")
    np.testing.assert_array_equal(np.sort(np.concatenate([first, second])), rows)
    assert (np.diff(first) > 0).all()
    assert (np.diff(second) > 0).all()
    label_of = dict(zip(rows.tolist(), labels.tolist(), strict=True))
    found = np.bincount([label_of[row] for row in second.tolist()], minlength=len(counts))
    assert (np.abs(found - share * np.array(counts)) <= 1.5).all()
    assert len(second) == np.ceil(share * len(rows))


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(1, 6), min_size=2, max_size=12), st.floats(0.05, 0.8), SEEDS)
def test_groups_stay_whole(counts, share, seed):
    groups = np.repeat([f"g{i}" for i in range(len(counts))], counts)
    groups = np.random.default_rng(seed).permutation(groups)
    rows = np.arange(len(groups)) + 100
    held = int(np.ceil(share * len(counts)))
    if held == len(counts):
        return
    first, second = by_group(rows, groups, share, seed, "test")
    np.testing.assert_array_equal(np.sort(np.concatenate([first, second])), rows)
    assert not set(groups[first - 100]) & set(groups[second - 100])
    assert len(set(groups[second - 100])) == held >= 1
    assert (np.diff(first) > 0).all()
    assert (np.diff(second) > 0).all()


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(1, 6), min_size=5, max_size=23), st.integers(2, 5), SEEDS)
def test_folds_hold_whole_groups_as_many_each_as_numbers_allow(counts, folds, seed):
    groups = np.repeat([f"g{i}" for i in range(len(counts))], counts)
    found = group_folds(groups, folds, seed, "test")
    assert found.shape == groups.shape
    fold_of = {group: set(found[groups == group].tolist()) for group in set(groups.tolist())}
    assert all(len(one) == 1 for one in fold_of.values())
    sizes = np.bincount([one.pop() for one in fold_of.values()], minlength=folds)
    assert len(sizes) == folds
    assert sizes.max() - sizes.min() <= 1


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 30), SEEDS)
def test_shuffled_keeps_every_value(count, seed):
    values = np.arange(count)
    found = shuffled(values, seed, "test")
    np.testing.assert_array_equal(np.sort(found), values)
    np.testing.assert_array_equal(values, np.arange(count))


def split_stratified(seed, *names):
    return stratified(np.arange(200), np.arange(200) % 4, 0.25, seed, *names)[1]


def split_by_group(seed, *names):
    return by_group(np.arange(200), (np.arange(200) // 4).astype(np.str_), 0.25, seed, *names)[1]


def split_in_folds(seed, *names):
    return group_folds((np.arange(200) // 4).astype(np.str_), 5, seed, *names)


def split_shuffled(seed, *names):
    return shuffled(np.arange(200), seed, *names)


@pytest.mark.parametrize("split", [split_stratified, split_by_group, split_in_folds, split_shuffled])
def test_a_split_depends_on_the_seed_and_the_names_of_its_stream_alone(split):
    found = split(3, "a", "b")
    np.random.default_rng(0).random(5)
    np.random.random(5)  # noqa: NPY002 - the global stream must not matter
    np.testing.assert_array_equal(split(3, "a", "b"), found)
    for other in (split(4, "a", "b"), split(3, "a", "c"), split(3, "a")):
        assert not np.array_equal(other, found)


@settings(deadline=None, max_examples=20)
@given(st.lists(st.integers(5, 20), min_size=2, max_size=6), SEEDS)
def test_class_folds_hold_a_fifth_of_each_class(counts, seed):
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))
    folds = class_folds(labels, 5, seed, "test")
    for label, count in enumerate(counts):
        found = np.bincount(folds[labels == label], minlength=5)
        assert set(found.tolist()) <= {count // 5, -(-count // 5)}

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from concordant.data.card import Card, LabelCard, ModalityCard
from concordant.data.collate import Collate
from concordant.data.store import Instance


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
    batch = Collate(card())(instances)
    assert list(batch.inputs) == list(batch.present) == ["film", "map", "words"]
    assert list(batch.masks) == ["film", "words"]
    for name, x in batch.inputs.items():
        assert x.dtype == torch.float32
        sizes = [one.features[name] for one in instances]
        assert batch.present[name].tolist() == [values is not None for values in sizes]
        kept = [values.astype(np.float32) for values in sizes if values is not None]
        # A value never is 0, so as many places hold one as there are values, and in the order of the instances.
        flat = np.concatenate([values.ravel() for values in kept]) if kept else np.zeros(0)
        np.testing.assert_array_equal(x[x != 0].numpy(), flat)
    for place, (name, column) in enumerate((("film", 0), ("words", 1))):
        lengths = [row[column] for row in rows]
        assert batch.masks[name].sum(1).tolist() == lengths
        assert batch.masks[name].shape == (len(rows), max(1, *lengths))
        assert batch.inputs[name].shape[2 - place] == max(1, *lengths)
        assert batch.masks[name].int().diff(dim=1).le(0).all()  # ones and then zeros


@settings(deadline=None, max_examples=40)
@given(ROWS)
def test_an_instance_is_the_same_alone_and_among_others(rows):
    instances = [instance(f"i{row}", *sizes) for row, sizes in enumerate(rows)]
    whole = Collate(card())(instances)
    for row, one in enumerate(instances):
        alone = Collate(card())([one])
        for name, x in alone.inputs.items():
            cut = tuple(slice(size) for size in x.shape[1:])
            assert torch.equal(x[0], whole.inputs[name][row][cut])


@pytest.mark.parametrize(
    ("kind", "labels", "dtype", "wanted"),
    [
        ("class", [2, np.int32(0), np.int64(1)], torch.int64, [2, 0, 1]),
        ("real", [0.5, 1, np.float64(-2)], torch.float32, [0.5, 1, -2]),
        ("segments", [np.array([2, 1]), np.array([0]), [1, 1, 2]], torch.int64, [[2, 1, -1], [0, -1, -1], [1, 1, 2]]),
    ],
)
def test_labels_are_of_one_type_whatever_they_came_as(kind, labels, dtype, wanted):
    batch = Collate(card(kind))([instance(f"i{row}", 1, 1, True, label) for row, label in enumerate(labels)])
    assert batch.labels.dtype == dtype
    assert batch.labels.tolist() == wanted


def test_a_batch_owns_its_values():
    one = instance("i", 2, 3, True)
    batch = Collate(card())([one])
    for x in batch.inputs.values():
        x.zero_()
    assert all(values.all() for values in one.features.values())


def test_all_of_a_batch_moves():
    batch = Collate(card())([instance("i", 2, 0, True), instance("j", 1, 2, False)])
    assert len(batch) == 2
    moved = batch.to("meta")
    tensors = [moved.labels, *moved.inputs.values(), *moved.masks.values(), *moved.present.values()]
    assert len(tensors) == 9
    assert {x.device.type for x in tensors} == {"meta"}
    assert {name: x.shape for name, x in moved.inputs.items()} == {name: x.shape for name, x in batch.inputs.items()}
    assert moved.ids == batch.ids == ("i", "j")
    assert batch.labels.device.type == "cpu"

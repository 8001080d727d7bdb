import re
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("datasets")

from concordant.data.card import Card, LabelCard, ModalityCard
from concordant.data.store import Instance, Store
from concordant.data.stored import everything
from concordant.data.writing import write_store
from concordant.deploy.deployed import read_description
from concordant.deploy.raw import all_instances, raw_parts
from concordant.errors import DataError

SEQUENCES = {"a": ("btd", (20, 5)), "b": ("bd", (6,)), "c": ("bcthw", (1, 9, 4, 4))}


def store(folder, modalities, *, kind="class", count=3):
    """Write instances of modalities, name -> (layout, shape of one instance)."""
    card = Card(
        name="asked",
        modalities={
            name: ModalityCard(
                layout=layout,
                shape=tuple(None if axis == "t" else size for axis, size in zip(layout[1:], shape, strict=True)),
            )
            for name, (layout, shape) in modalities.items()
        },
        label=LabelCard(kind=kind, classes=() if kind == "real" else ("x", "y", "z")),
    )
    write_store(
        folder,
        card,
        (
            Instance(
                f"i{row}",
                "test",
                np.array([0, 1]) if kind == "segments" else row % 3,
                {name: np.full(shape, row + 1.0) for name, (_, shape) in modalities.items()},
            )
            for row in range(count)
        ),
    )
    return folder


@pytest.fixture
def about(described):
    """What a model of a sequence, a vector and a film says of itself."""
    return read_description(described("lf-dnn", modalities=SEQUENCES), "here")


def test_all_of_a_dataset_is_asked_in_the_model_s_order_whatever_else_it_has(about, tmp_path):
    other = {"c": ("bcthw", (1, 2, 4, 4)), "more": ("bd", (1,)), "b": ("bd", (6,)), "a": ("btd", (33, 5))}
    found = all_instances(store(tmp_path / "x", other), about)
    assert found.classes == ("x", "y", "z")
    assert found.split.modalities == ("a", "b", "c")
    part = found.split.take(slice(None))
    assert {name: x.shape for name, x in part.inputs.items()} == {
        "a": (3, 33, 5),
        "b": (3, 6),
        "c": (3, 1, 2, 4, 4),
    }
    assert part.inputs["b"][:, 0].tolist() == [1, 2, 3]  # as they were measured


def test_labels_that_are_numbers_have_no_classes(about, tmp_path):
    assert all_instances(store(tmp_path / "x", SEQUENCES, kind="real"), about).classes == ()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"a": ("bd", (5,))}, "a must be btd with T x 5 an instance; found bd with 5"),
        ({"b": ("btd", (3, 6))}, "b must be bd with 6 an instance; found btd with T x 6"),
        ({"c": ("bchw", (1, 4, 4))}, "c must be bcthw with 1 x T x 4 x 4 an instance; found bchw with 1 x 4 x 4"),
        ({"c": ("bcthw", (2, 9, 4, 5))}, "c must be bcthw with 1 x T x 4 x 4 an instance; found bcthw with 2 x T x 4"),
        (
            {"a": ("btd", (20, 4)), "b": ("bd", (7,))},
            "a must be btd with T x 5 an instance; found btd with T x 4; b must be bd with 6 an instance; found",
        ),
    ],
)
def test_what_differs_is_said_as_it_is(about, tmp_path, changes, said):
    folder = store(tmp_path / "x", SEQUENCES | changes)
    with pytest.raises(DataError, match=rf"x does not fit the model: {re.escape(said)}.*; prepare it as the training"):
        all_instances(folder, about)


def test_steps_of_segments_are_asked_one_by_one(about, tmp_path):
    segments = store(tmp_path / "x", {"a": ("btd", (2, 5)), "b": ("bd", (6,))}, kind="segments")
    vectors = about.model_copy(
        update={
            "config": about.config.model_copy(update={"modalities": ("a", "b")}),
            "layouts": {"a": "bd", "b": "bd"},
            "shapes": {"a": (5,), "b": (6,)},
        }
    )
    assert len(all_instances(segments, vectors).split) == 6
    with pytest.raises(DataError, match="a must be btd with T x 5 an instance; found bd with 5"):
        all_instances(store(tmp_path / "y", SEQUENCES | {"c": ("bcthw", (1, 2, 4, 4))}, kind="segments"), about)


def test_all_modalities_that_are_missing_are_named(about, tmp_path):
    folder = store(tmp_path / "x", {"b": ("bd", (6,)), "d": ("bd", (1,))})
    with pytest.raises(DataError, match=r"x has no modality a, c, which the model reads; it has b, d$"):
        all_instances(folder, about)
    with pytest.raises(DataError, match=r"is no dataset of Concordant"):
        all_instances(tmp_path, about)


def test_a_part_on_disk_keeps_the_modalities_that_are_named(tmp_path):
    whole = everything(Store(store(tmp_path / "x", SEQUENCES)))
    part = whole.only(("c", "a"))
    assert list(part.take(slice(None)).inputs) == list(part.shapes) == ["c", "a"]
    assert part.ids.tolist() == whole.ids.tolist()


def test_parts_in_memory_keep_masks_and_presence_of_what_is_named(tmp_path):
    whole = everything(Store(store(tmp_path / "x", SEQUENCES))).take(slice(None))
    whole = replace(whole, present={"a": np.array([True, False, True]), "b": np.array([False, True, True])})
    part = whole.only(("b", "c"))
    assert (list(part.inputs), list(part.masks), list(part.present)) == (["b", "c"], ["c"], ["b"])
    assert part.inputs["c"] is whole.inputs["c"]


def test_the_parts_of_a_seed_are_those_of_the_run_not_scaled_in_the_run_s_order(shared_run):
    config = shared_run.config.model_copy(update={"modalities": ("profile", "left")})
    for seed in (0, 1):
        parts, task = raw_parts(config, seed, None), shared_run.task(seed, None)
        assert list(parts.layouts) == ["profile", "left"]
        for name in ("train", "valid", "test"):
            raw, scaled = getattr(parts, name), getattr(task, name)
            assert list(raw.inputs) == ["profile", "left"]
            assert raw.ids.tolist() == scaled.ids.tolist()
        assert parts.train.inputs["left"].min() == 0  # grey values
        assert parts.train.inputs["left"].max() == 16

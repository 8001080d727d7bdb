import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from concordant.errors import UsageError
from concordant.modalities import (
    LAYOUTS,
    check_sizes,
    from_positions,
    gather,
    over,
    to_positions,
)

SIZES = {"text": 4, "audio": 3}
LETTERS = {"b": 2, "t": 5, "d": 4, "c": 4, "h": 3, "w": 6}


def auto(**features):
    return {"features": features, "sizes": SIZES, "layouts": dict.fromkeys(SIZES, "auto")}


def refused(text):
    return pytest.raises(UsageError, match=re.escape(text))


@pytest.mark.parametrize(
    ("name", "batch", "feature", "positions"),
    [
        ("bd", 0, 1, ()),
        ("btd", 0, 2, (1,)),
        ("bdt", 0, 1, (2,)),
        ("tbd", 1, 2, (0,)),
        ("bchw", 0, 1, (2, 3)),
        ("bhwc", 0, 3, (1, 2)),
        ("bcthw", 0, 1, (2, 3, 4)),
        ("bthwc", 0, 4, (1, 2, 3)),
    ],
)
def test_layouts_name_their_axes(name, batch, feature, positions):
    layout = LAYOUTS[name]
    assert (layout.batch, layout.feature, layout.positions) == (batch, feature, positions)


@st.composite
def tensors(draw):
    layout = LAYOUTS[draw(st.sampled_from(list(LAYOUTS)))]
    shape = [draw(st.integers(1, 4)) for _ in layout.name]
    return layout, torch.arange(float(torch.Size(shape).numel())).reshape(shape)


@settings(deadline=None, max_examples=60)
@given(tensors())
def test_positions_and_back_is_the_identity(case):
    layout, x = case
    assert torch.equal(from_positions(to_positions(x, layout), x, layout), x)


@settings(deadline=None, max_examples=60)
@given(tensors())
def test_positions_hold_each_instance_and_feature(case):
    layout, x = case
    flat = to_positions(x, layout)
    for b in range(x.shape[layout.batch]):
        for d in range(x.shape[layout.feature]):
            part = x.select(layout.batch, b).select(layout.feature - (layout.feature > layout.batch), d)
            assert torch.equal(flat[b, :, d], part.flatten())


@settings(deadline=None, max_examples=60)
@given(tensors(), st.sampled_from(["positions", "instances", "features", "all"]))
def test_over_reaches_every_position_and_feature(case, which):
    layout, x = case
    flat = to_positions(x, layout)
    size, length, width = flat.shape
    shape = {"positions": (length, 1), "instances": (1, 1), "features": (1, width), "all": (length, width)}[which]
    values = torch.rand(size, *shape)
    spread = to_positions(torch.zeros_like(x) + over(values, x, layout), layout)
    assert torch.equal(spread, values.expand_as(flat))


def test_check_sizes_fills_in_layouts():
    assert check_sizes(SIZES, "auto") == (SIZES, {"text": "auto", "audio": "auto"})
    assert check_sizes(SIZES, {"audio": "btd"}) == (SIZES, {"text": "auto", "audio": "btd"})


@pytest.mark.parametrize(
    ("sizes", "layouts", "text"),
    [
        ({}, "auto", "sizes must name at least two modalities; found none"),
        ({"text": 4}, "auto", "sizes must name at least two modalities; found ['text']"),
        ({"a.b": 4, "c": 1}, "auto", "'a.b' cannot name a modality: use a plain word, without dots"),
        ({"": 4, "c": 1}, "auto", "'' cannot name a modality"),
        ({3: 4, "c": 1}, "auto", "3 cannot name a modality"),
        ({"keys": 4, "c": 1}, "auto", "'keys' cannot name a modality"),
        ({"text": 0, "c": 1}, "auto", "sizes['text'] must be a positive integer, the feature size; found 0"),
        ({"text": 2.0, "c": 1}, "auto", "sizes['text'] must be a positive integer, the feature size; found 2.0"),
        ({"text": True, "c": 1}, "auto", "sizes['text'] must be a positive integer, the feature size; found True"),
        (SIZES, {"video": "bd"}, "layouts names 'video', which is not among the modalities ['text', 'audio']"),
        (
            SIZES,
            "dbt",
            "unknown layout 'dbt' for 'text'; choose from: auto, bd, btd, bdt, tbd, bchw, bhwc, bcthw, bthwc",
        ),
    ],
)
def test_check_sizes_refuses(sizes, layouts, text):
    with refused(text):
        check_sizes(sizes, layouts)


def test_check_sizes_says_all_faults_at_once():
    with pytest.raises(UsageError) as caught:
        check_sizes({"a.b": 0}, {"a.b": "x", "c": "bd"})
    for part in ("at least two", "'a.b' cannot name", "positive integer", "unknown layout 'x'", "layouts names 'c'"):
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("shape", "layout"), [((2, 4), "bd"), ((2, 7, 4), "btd"), ((2, 4, 5, 6), "bchw"), ((2, 4, 5, 6, 7), "bcthw")]
)
def test_auto_reads_the_layout_from_the_number_of_axes(shape, layout):
    batch = gather(**auto(text=torch.zeros(shape)))
    assert batch.layouts["text"].name == layout


def test_gather_without_masks_has_all_present():
    batch = gather(**auto(audio=torch.zeros(2, 3), text=torch.zeros(2, 5, 4)))
    assert batch.all_present
    assert batch.names == ("text", "audio")
    assert batch.present.tolist() == [[True, True], [True, True]]
    assert batch.size == 2


def test_gather_joins_presence_masks_and_missing_modalities():
    mask = torch.tensor([[True, False], [False, False], [True, True]])
    batch = gather(
        **auto(text=torch.zeros(3, 2, 4)), masks={"text": mask}, present={"text": torch.tensor([True, True, False])}
    )
    assert not batch.all_present
    assert batch.present.tolist() == [[True, False], [False, False], [False, False]]
    assert batch.column("text").tolist() == [True, False, False]
    assert torch.equal(batch.masks["text"], mask)


def test_missing_modality_may_be_declared_absent():
    batch = gather(**auto(text=torch.zeros(3, 4)), present={"audio": torch.zeros(3, dtype=torch.bool)})
    assert batch.present.tolist() == [[True, False]] * 3


def test_sequence_without_steps_is_absent():
    batch = gather(**auto(text=torch.zeros(3, 4), audio=torch.zeros(3, 0, 3)))
    assert batch.present.tolist() == [[True, False]] * 3
    assert not batch.all_present


@pytest.mark.parametrize("layout", ["btd", "bdt", "tbd", "bchw", "bhwc", "bcthw", "bthwc"])
def test_masks_are_batch_first_in_the_order_of_positions(layout):
    x = torch.zeros([LETTERS[letter] for letter in layout])
    where = LAYOUTS[layout]
    mask = torch.rand([LETTERS["b"], *(x.shape[axis] for axis in where.positions)]) < 0.5
    batch = gather({"text": x}, sizes=SIZES, layouts={"text": layout}, masks={"text": mask})
    assert torch.equal(batch.masks["text"], mask.flatten(1))


@pytest.mark.parametrize(("layout", "shape"), [("bchw", (2, 3, 4, 5)), ("bcthw", (2, 3, 4, 5, 2)), ("tbd", (4, 2, 3))])
def test_masks_may_be_flat(layout, shape):
    x = torch.randn(shape)
    positions = [shape[axis] for axis in LAYOUTS[layout].positions]
    mask = torch.rand(2, *positions) < 0.5
    one, two = (
        gather({"a": x}, sizes={"a": 3, "b": 1}, layouts={"a": layout, "b": "bd"}, masks={"a": given})
        for given in (mask, mask.flatten(1))
    )
    assert torch.equal(one.masks["a"], two.masks["a"])
    assert torch.equal(one.masks["a"], mask.flatten(1))


def test_video_mask_over_time_covers_every_pixel():
    mask = torch.tensor([[True, False, True], [False, False, True]])
    batch = gather(**auto(text=torch.zeros(2, 4, 3, 2, 2)), masks={"text": mask})
    assert torch.equal(batch.masks["text"], mask.repeat_interleave(4, 1))


def test_gather_refuses_what_is_no_dictionary():
    with refused("features must be a dictionary from modality to tensor with at least one of ['text', 'audio']"):
        gather(torch.zeros(2, 4), sizes=SIZES, layouts={})
    with refused("found an empty one"):
        gather({}, sizes=SIZES, layouts={})
    with refused("found Tensor"):
        gather(torch.zeros(2, 4), sizes=SIZES, layouts={})


@pytest.mark.parametrize("argument", ["masks", "present"])
def test_gather_refuses_masks_and_presence_without_names(argument):
    with refused(f"{argument} must be a dictionary from modality to tensor; found Tensor"):
        gather(**auto(text=torch.zeros(2, 5, 4)), **{argument: torch.ones(2, 5, dtype=torch.bool)})


def text(*shape, dtype=torch.float32, device="cpu"):
    return torch.zeros(*shape, dtype=dtype, device=device)


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ({"video": text(2, 4)}, "features names ['video']; the modalities are ['text', 'audio']"),
        ({"text": [1.0]}, "features['text'] must be a floating point tensor; found list"),
        (
            {"text": text(2, 4, dtype=torch.long)},
            "features['text'] must be a floating point tensor; found a tensor of torch.int64",
        ),
        ({"text": text(4)}, "features['text'] must have 2 to 5 axes; found shape (4,)"),
        ({"text": text(2, 5)}, "features['text'] must have layout 'bd' with feature size 4; found shape (2, 5)"),
        (
            {"text": text(2, 4), "audio": text(5, 3)},
            "features['audio'] has 5 instances and features['text'] has 2; "
            "all modalities of a call need the same batch size",
        ),
        (
            {"text": text(2, 4), "audio": text(2, 3, device="meta")},
            "features['audio'] is on meta and features['text'] on cpu",
        ),
    ],
)
def test_gather_refuses_features(features, message):
    with refused(message):
        gather(**auto(**features))


def test_gather_refuses_a_tensor_of_another_layout():
    with refused("features['text'] must have layout 'btd' with feature size 4; found shape (2, 4)"):
        gather({"text": text(2, 4)}, sizes=SIZES, layouts={"text": "btd"})


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        ({"video": None}, "masks names ['video']; the modalities are ['text', 'audio']"),
        ({"audio": text(2, 5).bool()}, "masks names 'audio', but features has no such modality in this call"),
        ({"text": [True]}, "masks['text'] must be a bool tensor, True at valid positions; found list"),
        ({"text": text(2, 5)}, "must be a bool tensor, True at valid positions; found a tensor of torch.float32"),
        ({"text": text(2, 4).bool()}, "masks['text'] must have shape (2, 5); found (2, 4)"),
        ({"text": text(2, 5, device="meta").bool()}, "masks['text'] is on meta and features['text'] on cpu"),
    ],
)
def test_gather_refuses_masks(masks, message):
    with refused(message):
        gather(**auto(text=text(2, 5, 4)), masks=masks)


def test_gather_refuses_a_mask_of_a_vector():
    with refused("masks['text'] is given for a vector; mark in `present` which instances have it"):
        gather(**auto(text=text(2, 4)), masks={"text": text(2, 1).bool()})


@pytest.mark.parametrize(
    ("present", "message"),
    [
        ({"video": None}, "present names ['video']; the modalities are ['text', 'audio']"),
        ({"text": [True]}, "present['text'] must be a bool tensor of shape (2,); found list"),
        ({"text": text(2)}, "present['text'] must be a bool tensor of shape (2,); found torch.float32 (2,)"),
        ({"text": text(3).bool()}, "present['text'] must be a bool tensor of shape (2,); found torch.bool (3,)"),
        ({"audio": ~text(2).bool()}, "present['audio'] is True somewhere, but features has no such modality"),
    ],
)
def test_gather_refuses_presence(present, message):
    with refused(message):
        gather(**auto(text=text(2, 5, 4)), present=present)

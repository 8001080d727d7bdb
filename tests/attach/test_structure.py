from collections import namedtuple
from dataclasses import dataclass

import pytest
import torch
from torch.nn.utils.rnn import PackedSequence, pack_sequence

from concordant.attach.structure import (
    at_path,
    described,
    differs,
    map_tensors,
    mark_of,
    replaced,
    tensors_of,
    version_of,
)

Pair = namedtuple("Pair", "left right")
X, Y = torch.arange(3.0), torch.arange(4.0)


@dataclass(frozen=True)
class Record:
    x: torch.Tensor
    rest: dict


def double(value):
    return map_tensors(value, lambda x: 2 * x)


def test_every_container_is_made_anew_with_its_tensors_changed():
    value = {"a": [X, (Y, None)], "b": Pair(X, "text"), "c": Record(X, {"y": Y})}
    out = double(value)
    assert torch.equal(out["a"][0], 2 * X)
    assert torch.equal(out["a"][1][0], 2 * Y)
    assert isinstance(out["b"], Pair)
    assert out["b"].right == "text"
    assert torch.equal(out["c"].rest["y"], 2 * Y)
    assert torch.equal(value["c"].rest["y"], Y)
    assert [len(x) for x in tensors_of(value)] == [3, 4, 3, 3, 4]


def test_results_of_reductions_and_packed_sequences_keep_their_class():
    out = double(torch.stack([X, X]).max(1))
    assert out.values.tolist() == [4.0, 4.0]
    packed = pack_sequence([Y, X])
    assert isinstance(double(packed), PackedSequence)
    assert torch.equal(double(packed).data, 2 * packed.data)


def test_a_model_output_keeps_its_attributes():
    modeling_outputs = pytest.importorskip("transformers.modeling_outputs")
    out = double(modeling_outputs.BaseModelOutputWithPooling(last_hidden_state=X, pooler_output=Y))
    assert torch.equal(out.pooler_output, 2 * Y)
    assert torch.equal(out["last_hidden_state"], 2 * X)
    other = replaced(out, ("pooler_output",), X)
    assert other.pooler_output is X
    assert torch.equal(out.pooler_output, 2 * Y)


def test_what_a_path_leads_to_is_replaced_in_a_copy():
    value = ([X, {"a": (Y, X)}], Pair(X, Y), Record(X, {"k": [Y]}))
    for path in ((0, 0), (0, 1, "a", 1), (1, 1), (2, "x"), (2, "rest", "k", 0)):
        before = at_path(value, path)
        new = torch.zeros(1)
        assert at_path(replaced(value, path, new), path) is new
        assert at_path(value, path) is before
    assert replaced(X, (), Y) is Y


@pytest.mark.parametrize("path", [(5,), ("a",), (0, "b"), (0, 0, 0, 0)])
def test_a_path_that_leads_nowhere_is_a_lookup_error(path):
    with pytest.raises(LookupError):
        at_path(([X],), path)


def test_changes_in_place_are_counted_but_not_in_inference_mode():
    x = torch.zeros(2)
    before = version_of(x)
    x += 1
    assert version_of(x) == before + 1
    with torch.inference_mode():
        assert version_of(torch.zeros(2)) is None


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_a_mark_tells_of_changes_in_place_in_every_mode(mode):
    with mode():
        tensors = [torch.tensor([torch.nan, 1]), torch.ones(2, 3, dtype=torch.int64).T, torch.ones(1, 2).expand(3, 2)]
        tensors += [torch.zeros(0), torch.ones(2, dtype=torch.bfloat16), torch.tensor(True), torch.tensor([1j])]
        marks = [mark_of(x) for x in tensors]
        assert not any(differs(x, mark) for x, mark in zip(tensors, marks, strict=True))
        tensors[0][1], tensors[1][2, 0], tensors[4][0], tensors[6][0] = 2, 2, 2, 2
        tensors[5].logical_not_()
        changed = [differs(x, mark) for x, mark in zip(tensors, marks, strict=True)]
        assert [changed[place] for place in (0, 1, 4, 5, 6)] == [True] * 5
        assert not changed[2]
        tensors[0][0] = 3  # what was NaN
        assert differs(tensors[0], marks[0])


def test_sparse_and_nested_tensors_count_as_unchanged_where_nobody_counts():
    with torch.inference_mode():
        for x in (torch.eye(2).to_sparse(), torch.nested.nested_tensor([torch.ones(1), torch.ones(2)])):
            assert not differs(x, mark_of(x))


def test_things_are_described_in_few_words():
    things = [X, {"a": 1}, (1, 2), pack_sequence([X]), None]
    assert [described(thing) for thing in things] == [
        "a tensor of shape (3,)",
        "dict with the keys 'a'",
        "tuple of 2",
        "a PackedSequence",
        "NoneType",
    ]

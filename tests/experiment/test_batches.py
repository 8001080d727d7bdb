import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from concord.data.part import Part
from concord.experiment.batches import endless_rows, to_tensors


def part():
    return Part(
        inputs={"a": np.arange(10, dtype=np.float32).reshape(5, 2)},
        labels=np.arange(5),
        ids=np.array(list("abcde")),
        masks={"a": np.eye(5, 2, dtype=bool)},
        present={"a": np.array([True, False, True, True, True])},
    )


def test_chunks_joined_are_the_part():
    data = to_tensors(part())
    chunks = list(data.chunks(2))
    assert [len(chunk) for chunk in chunks] == [2, 2, 1]
    assert torch.equal(torch.cat([chunk.inputs["a"] for chunk in chunks]), data.inputs["a"])
    assert torch.equal(torch.cat([chunk.masks["a"] for chunk in chunks]), data.masks["a"])
    assert torch.equal(torch.cat([chunk.present["a"] for chunk in chunks]), data.present["a"])


def test_taken_rows_stay_together():
    taken = to_tensors(part()).to("cpu").take(torch.tensor([3, 1]))
    assert taken.labels.tolist() == [3, 1]
    assert taken.inputs["a"].tolist() == [[6, 7], [2, 3]]
    assert taken.present["a"].tolist() == [True, False]


@settings(deadline=None, max_examples=25)
@given(count=st.integers(1, 40), batch=st.integers(1, 50), seed=st.integers(0, 5))
def test_an_epoch_shows_no_row_twice(count, batch, seed):
    rows = endless_rows(count, batch, torch.Generator().manual_seed(seed))
    size = min(batch, count)
    epoch = torch.cat([next(rows) for _ in range(count // size)])
    assert len(set(epoch.tolist())) == len(epoch) == count // size * size


def test_the_order_depends_on_the_seed_alone():
    def first(seed):
        rows = endless_rows(20, 5, torch.Generator().manual_seed(seed))
        return [next(rows).tolist() for _ in range(9)]

    assert first(1) == first(1)
    assert first(1) != first(2)

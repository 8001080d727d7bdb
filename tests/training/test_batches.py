import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from concordant.data.split import Split
from concordant.training.batches import ReadTensors, endless_rows, rows_of, split_batch, to_tensors
from concordant.training.prefetch import Clock


def part():
    return Split(
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


@settings(deadline=None, max_examples=50)
@given(count=st.integers(1, 70), parts=st.integers(1, 4), size=st.integers(1, 5))
def test_the_pieces_of_all_processes_are_the_batch(count, parts, size):
    every = [split_batch(count, parts=parts, rank=rank, size=size) for rank in range(size)]
    rows = [row for part in zip(*every, strict=True) for piece in part for row in range(count)[piece.rows]]
    assert rows == list(range(count))
    for rank, pieces in enumerate(every):
        assert sum(piece.weight for piece in pieces) == pytest.approx(1)
        for piece in pieces:
            assert piece.counts[rank] == len(range(count)[piece.rows])
            assert sum(piece.counts) == pytest.approx(piece.weight * count)
            assert max(piece.counts) - min(piece.counts) <= 1


def test_rows_are_cut_in_the_order_of_the_pieces():
    pieces = split_batch(5, parts=2, rank=1, size=2)
    order = [torch.arange(5), torch.arange(5, 10)]
    assert [rows.tolist() for rows in rows_of(order, pieces)] == [[1], [3, 4], [6], [8, 9]]


def test_what_is_read_ahead_is_what_is_taken_and_a_clock_tells_the_waiting():
    read, held, clock = ReadTensors(part()), to_tensors(part()), Clock()
    asked = [torch.tensor([3, 1]), slice(0, 2), torch.tensor([4])]
    for mine, theirs in zip(read.batches(asked, clock), held.batches(asked, Clock()), strict=True):
        assert torch.equal(mine.inputs["a"], theirs.inputs["a"])
        assert torch.equal(mine.masks["a"], theirs.masks["a"])
        assert torch.equal(mine.present["a"], theirs.present["a"])
        assert torch.equal(mine.labels, theirs.labels)
    assert clock.seconds > 0
    assert list(read.batches([])) == []
    assert [len(chunk) for chunk in read.chunks(2)] == [2, 2, 1]


def test_chunks_of_what_is_read_are_no_larger_than_memory_should_hold():
    count = 70
    large = Split({"a": np.zeros((count, 1), np.float32)}, np.zeros(count, np.int64), np.arange(count).astype(str))
    read = ReadTensors(large)
    assert [len(chunk) for chunk in read.chunks(512)] == [70]

    class Huge(Split):
        @property
        def shapes(self):
            return {"a": (1 << 24,)}

    assert [len(chunk) for chunk in ReadTensors(Huge(large.inputs, large.labels, large.ids)).chunks(512)] == [64, 6]

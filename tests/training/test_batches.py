"""Splits as tensors, batches in order, and reading ahead: same batches, no more than announced, faults in place."""

import itertools
import threading
import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from concordant.data.split import Split
from concordant.training.batches import (
    Clock,
    LazyTensors,
    endless_rows,
    read_ahead,
    rows_of,
    split_batch,
    to_tensors,
)


def split():
    return Split(
        inputs={"a": np.arange(10, dtype=np.float32).reshape(5, 2)},
        labels=np.arange(5),
        ids=np.array(list("abcde")),
        masks={"a": np.eye(5, 2, dtype=bool)},
        present={"a": np.array([True, False, True, True, True])},
    )


def test_chunks_joined_are_the_split():
    data = to_tensors(split())
    chunks = list(data.chunks(2))
    assert [len(chunk) for chunk in chunks] == [2, 2, 1]
    assert torch.equal(torch.cat([chunk.inputs["a"] for chunk in chunks]), data.inputs["a"])
    assert torch.equal(torch.cat([chunk.masks["a"] for chunk in chunks]), data.masks["a"])
    assert torch.equal(torch.cat([chunk.present["a"] for chunk in chunks]), data.present["a"])


def test_taken_rows_stay_together():
    taken = to_tensors(split()).to("cpu").take(torch.tensor([3, 1]))
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
@given(count=st.integers(1, 70), chunks=st.integers(1, 4), size=st.integers(1, 5))
def test_the_chunks_of_all_processes_are_the_batch(count, chunks, size):
    every = [split_batch(count, chunks=chunks, rank=rank, size=size) for rank in range(size)]
    rows = [row for shared in zip(*every, strict=True) for chunk in shared for row in range(count)[chunk.rows]]
    assert rows == list(range(count))
    for rank, own in enumerate(every):
        assert sum(chunk.weight for chunk in own) == pytest.approx(1)
        for chunk in own:
            assert chunk.counts[rank] == len(range(count)[chunk.rows])
            assert sum(chunk.counts) == pytest.approx(chunk.weight * count)
            assert max(chunk.counts) - min(chunk.counts) <= 1


def test_rows_are_cut_in_the_order_of_the_chunks():
    chunks = split_batch(5, chunks=2, rank=1, size=2)
    order = [torch.arange(5), torch.arange(5, 10)]
    assert [rows.tolist() for rows in rows_of(order, chunks)] == [[1], [3, 4], [6], [8, 9]]


def test_lazy_batches_equal_those_in_memory_and_the_clock_measures_waiting():
    read, held, clock = LazyTensors(split()), to_tensors(split()), Clock()
    asked = [torch.tensor([3, 1]), slice(0, 2), torch.tensor([4])]
    for mine, theirs in zip(read.batches(asked, clock), held.batches(asked, Clock()), strict=True):
        assert torch.equal(mine.inputs["a"], theirs.inputs["a"])
        assert torch.equal(mine.masks["a"], theirs.masks["a"])
        assert torch.equal(mine.present["a"], theirs.present["a"])
        assert torch.equal(mine.labels, theirs.labels)
    assert clock.seconds > 0
    assert list(read.batches([])) == []
    assert [len(chunk) for chunk in read.chunks(2)] == [2, 2, 1]


def test_chunks_of_a_lazy_split_are_bounded_in_memory():
    count = 70
    large = Split({"a": np.zeros((count, 1), np.float32)}, np.zeros(count, np.int64), np.arange(count).astype(str))
    read = LazyTensors(large)
    assert [len(chunk) for chunk in read.chunks(512)] == [70]

    class Huge(Split):
        @property
        def shapes(self):
            return {"a": (1 << 24,)}

    assert [len(chunk) for chunk in LazyTensors(Huge(large.inputs, large.labels, large.ids)).chunks(512)] == [64, 6]


def test_reading_ahead_keeps_the_order():
    assert list(read_ahead(lambda one: one * 2, range(20), 3, Clock())) == [one * 2 for one in range(20)]
    assert list(read_ahead(str, [], 3, Clock())) == []


@pytest.mark.parametrize("depth", [1, 3])
def test_no_more_than_the_depth_is_read_in_advance(depth):
    taken = []

    def numbers():
        for number in itertools.count():
            taken.append(number)
            yield number

    ahead = read_ahead(lambda one: one, numbers(), depth, Clock())
    for number in range(5):
        assert next(ahead) == number
        assert len(taken) == number + 1 + depth
    ahead.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("concordant-reading")]


def test_reading_goes_on_while_the_caller_works():
    read = threading.Event()

    def slow(one):
        if one == 1:
            read.set()
        return one

    ahead = read_ahead(slow, range(3), 1, Clock())
    assert next(ahead) == 0
    assert read.wait(5)  # 1 is read although nobody has taken for it yet
    ahead.close()


def test_the_clock_runs_while_the_caller_waits_and_only_then():
    clock = Clock()
    ahead = read_ahead(lambda one: time.sleep(0.05) or one, range(2), 1, clock)
    next(ahead)
    waited = clock.seconds
    assert waited > 0.04
    time.sleep(0.1)
    next(ahead)
    assert clock.seconds - waited < 0.04
    ahead.close()


def test_a_fault_shows_where_its_batch_is_taken():
    ahead = read_ahead(lambda one: 1 // (2 - one), range(5), 2, Clock())
    assert [next(ahead), next(ahead)] == [0, 1]
    with pytest.raises(ZeroDivisionError):
        next(ahead)

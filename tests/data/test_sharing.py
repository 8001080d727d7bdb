"""Inputs in memory that processes share."""

import os
from functools import partial

import numpy as np
import pytest

from concordant.benchmarks import catalogue
from concordant.benchmarks.catalogue import open_prepared, prepare, share_prepared
from concordant.data import sharing
from concordant.data.sharing import share
from concordant.data.split import Split, Task
from concordant.training.processes import run_all

pytestmark = pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="only Linux has anonymous files in memory")


def split_of(rows, seed):
    draws = np.random.default_rng(seed)
    inputs = {"a": draws.standard_normal((rows, 3, 2), np.float32), "b": draws.standard_normal((rows, 5))}
    masks = {"a": np.arange(3) < draws.integers(1, 4, (rows, 1))}
    return Split(inputs, np.arange(rows) % 2, np.array([f"i{row}" for row in range(rows)]), masks=masks)


def task_of(*rows):
    return Task(("x", "y"), {"a": "btd", "b": "bd"}, *(split_of(count, seed) for seed, count in enumerate(rows)))


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(sharing, "LEAST", 0)


def assert_equal(found, expected):
    for part in ("train", "valid", "test"):
        one, other = getattr(found, part), getattr(expected, part)
        assert list(one.inputs) == list(other.inputs)
        for name, x in other.inputs.items():
            assert one.inputs[name].dtype == x.dtype
            np.testing.assert_array_equal(one.inputs[name], x)
        np.testing.assert_array_equal(one.masks["a"], other.masks["a"])
        assert one.ids.tolist() == other.ids.tolist()


def test_the_task_and_its_copies_have_the_inputs_as_they_were(small):
    task = task_of(7, 0, 4)
    shared = share(task)
    opened = shared.open()
    shared.close()
    for found in (task, opened):
        assert_equal(found, task_of(7, 0, 4))


def test_what_one_process_writes_no_other_sees(small):
    task = task_of(3, 2, 2)
    shared = share(task)
    opened, untouched = shared.open(), shared.open()
    shared.close()
    opened.train.inputs["a"][...] = np.nan
    task.valid.inputs["b"][...] = np.nan
    assert_equal(untouched, task_of(3, 2, 2))


def test_small_inputs_are_left_where_they_are():
    assert share(task_of(3, 2, 2)) is None


class Unit:
    name = "worker"


def look(unit):
    """Return what a worker has of the digits, and whether it is mapped."""
    task = prepare("digits", seed=0)
    with open("/proc/self/maps") as maps:
        mapped = any("memfd:concordant" in line for line in maps)
    return {"mapped": mapped, "sum": float(task.train.inputs["left"].sum()), "known": len(catalogue._mapped)}


@pytest.mark.process
def test_worker_processes_read_what_their_parent_prepared(small):
    key = catalogue._key("digits", 0, None, None, None)
    task = prepare("digits", seed=0)
    expected = float(task.train.inputs["left"].sum())
    shared = share(task.only(tuple(task.train.inputs)))  # a copy: the task is kept for other tests
    entries = []
    try:
        work = look
        begin = partial(open_prepared, [(key, shared)])
        assert (
            run_all([Unit(), Unit()], work, processes=2, done=lambda unit, entry: entries.append(entry), begin=begin)
            == []
        )
    finally:
        shared.close()
    assert entries == [{"mapped": True, "sum": expected, "known": 1}] * 2


def test_what_differs_from_seed_to_seed_is_not_shared(small):
    assert share_prepared("digits", data=None, modalities=None, protocol=None) is None

"""A training group is left out as a whole, and nothing else is."""

from dataclasses import replace

import numpy as np
import pytest

from concordant.benchmarks.catalogue import prepare
from concordant.errors import UsageError
from studies.paper.unseen import leave_group_out


@pytest.fixture(scope="module")
def task():
    found = prepare("digits", seed=0)
    return replace(found, train=grouped(found.train, 5), valid=grouped(found.valid, 5), test=grouped(found.test, 3))


def grouped(part, count):
    return replace(part, groups=np.array([f"g{number % count}" for number in range(len(part))]))


@pytest.mark.parametrize(("number", "group"), [(0, "g0"), (3, "g3"), (7, "g2")])
def test_the_group_is_in_no_part_and_scored_as_a_whole(task, number, group):
    left, scored = leave_group_out(task, number)
    for part, whole in ((left.train, task.train), (left.valid, task.valid)):
        assert group not in set(part.groups)
        assert list(part.ids) == [one for one, of in zip(whole.ids, whole.groups, strict=True) if of != group]
    assert list(scored.ids) == [
        one
        for whole in (task.train, task.valid)
        for one, of in zip(whole.ids, whole.groups, strict=True)
        if of == group
    ]
    known = {
        one: row for whole in (task.train, task.valid) for row, one in zip(whole.inputs["left"], whole.ids, strict=True)
    }
    assert all(np.array_equal(row, known[one]) for row, one in zip(scored.inputs["left"], scored.ids, strict=True))
    assert left.test is task.test


def test_what_cannot_be_left_out_is_said(task):
    alone = replace(task, train=replace(task.train, groups=None))
    with pytest.raises(UsageError, match="needs instances with groups; found none"):
        leave_group_out(alone, 0)
    single = replace(task, train=grouped(task.train, 1))
    with pytest.raises(UsageError, match=r"needs two or more in the training part; found \['g0'\]"):
        leave_group_out(single, 0)

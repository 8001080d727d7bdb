"""Candidates scored on a group that training does not show, where the test part is of such groups.

Where a test is of new people and the validation part is of those of training, validation is soon perfect for every
recipe, and tells nothing of new people. A training group is left out for the search then; states are still chosen on
the validation part, as in the runs themselves.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from concordant.data.split import Split, Task
from concordant.errors import UsageError


def leave_group_out(task: Task, number: int) -> tuple[Task, Split]:
    """Return a task without one of its training groups, and the instances of that group, which are to be scored.

    Args:
        task: with groups, in memory.
        number: which group, of those of the training part in order; counted round.

    Raises:
        UsageError: the parts are read from disk, or have no groups, or the training part has a single one.
    """
    train, valid = task.train, task.valid
    if not isinstance(train, Split) or not isinstance(valid, Split):
        raise UsageError("leaving a group out needs parts in memory; found parts that are read from disk")
    if train.groups is None or valid.groups is None:
        raise UsageError("leaving a group out needs instances with groups; found none")
    groups = sorted(set(train.groups.tolist()))
    if len(groups) < 2:
        raise UsageError(f"leaving a group out needs two or more in the training part; found {groups}")
    out = groups[number % len(groups)]
    kept = replace(task, train=train.take(train.groups != out), valid=valid.take(valid.groups != out))
    return kept, _joined(train.take(train.groups == out), valid.take(valid.groups == out))


def _joined(one: Split, other: Split) -> Split:
    def both(a: Any, b: Any) -> Any:  # noqa: ANN401
        return np.concatenate([a, b])

    return Split(
        {name: both(one.inputs[name], other.inputs[name]) for name in one.inputs},
        both(one.labels, other.labels),
        both(one.ids, other.ids),
        None if one.groups is None or other.groups is None else both(one.groups, other.groups),
        {name: both(one.masks[name], other.masks[name]) for name in one.masks},
        {name: both(one.present[name], other.present[name]) for name in one.present},
    )

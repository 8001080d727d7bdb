"""Which seeds can share a pass: those whose training batches have one shape.

Splits may differ in length and in their instances; where sequences are padded to the longest of a part, one seed's
may be longer than another's, and each length makes a group of its own.
"""

from __future__ import annotations

from collections.abc import Mapping

from concordant.data.split import Split, Task

Key = tuple[object, ...]


def alike(tasks: Mapping[int, Task], batch: int) -> list[list[int]]:
    """Return the seeds in groups that train on batches of one shape, in order.

    Args:
        tasks: seed -> its split.
        batch: instances a step, at the most.
    """
    groups: dict[Key, list[int]] = {}
    for seed, task in tasks.items():
        groups.setdefault(_shape(task, batch), []).append(seed)
    return list(groups.values())


def _shape(task: Task, batch: int) -> Key:
    train = task.train
    masks = {name: mask.shape[1:] for name, mask in train.masks.items()} if isinstance(train, Split) else {}
    return (
        min(batch, len(train)),
        str(train.labels.dtype),
        tuple(sorted(train.shapes.items())),
        tuple(sorted(masks.items())),
    )

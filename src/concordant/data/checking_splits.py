"""Check the splits of a run: overlap, rare classes, constant features and absent modalities."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from concordant.data.findings import FEW, IMBALANCE, OFTEN, SHOWN, Finding, Level, Report, hash_of, one_class
from concordant.data.split import AnySplit, Split, Task


def check_task(task: Task, name: str, more: Sequence[Finding] = ()) -> dict[str, Any]:
    """Check the splits of a run; return a document of the schema concordant.check/1.

    `name` has the benchmark, its protocol, and the seed; `more` are further findings.
    """
    splits = {"train": task.train, "valid": task.valid, "test": task.test}
    counts = ", ".join(f"{len(split)} in {name}" for name, split in splits.items())
    shapes = ", ".join(f"{name} {task.layouts[name]} {shape}" for name, shape in task.train.shapes.items())
    found = [
        *more,
        Finding("note", "splits", f"instances: {counts}"),
        Finding("note", "modalities", shapes),
        *_overlap("ids", {name: split.ids for name, split in splits.items()}),
        *_overlap("groups", {name: split.groups for name, split in splits.items()}),
        *_task_labels(task, splits),
        *_task_values(task, splits),
    ]
    return Report(folder=name, findings=tuple(found)).to_json()


def _overlap(what: str, values: Mapping[str, NDArray[np.str_] | None]) -> Iterator[Finding]:
    """Yield ids, or groups, that are in more than one split."""
    sets = {name: set(map(str, found)) for name, found in values.items() if found is not None}
    if len(sets) < len(values):
        yield Finding("note", what, "instances are independent of each other; there are no groups")
        return
    apart = True
    for first, second in (("train", "test"), ("valid", "test"), ("train", "valid")):
        shared = sorted(sets[first] & sets[second])
        if shared:
            apart = False
            level: Level = "warning" if what == "groups" else "error"
            yield Finding(level, what, f"{len(shared)} are in {first} and in {second}: {', '.join(shared[:SHOWN])}")
    if apart:
        yield Finding("note", what, "none is in two splits")


def _task_labels(task: Task, splits: Mapping[str, AnySplit]) -> Iterator[Finding]:
    yield from one_class("test", list(np.asarray(task.test.labels)))
    if task.kind == "real":
        low, middle, high = np.quantile(task.train.labels, [0.0, 0.5, 1.0])
        yield Finding("note", "labels", f"numbers from {low:.3g} to {high:.3g} in train, half below {middle:.3g}")
        return
    counts = {name: Counter(split.labels.tolist()) for name, split in splits.items()}
    fine = True
    for index, label in enumerate(task.classes):
        if counts["train"][index] < FEW:
            yield Finding("warning", "labels", f"{label} has {counts['train'][index]} instances in train")
        if not counts["test"][index]:
            yield Finding("note", "labels", f"{label} has no instance in test")
        fine = fine and counts["train"][index] >= FEW and counts["test"][index] > 0
    most, least = max(counts["train"].values()), min(counts["train"].values())
    if most > IMBALANCE * least:
        yield Finding("warning", "labels", f"the largest class of train has {most} instances, the least {least}")
    elif fine:
        yield Finding("note", "labels", f"{len(task.classes)} classes, {least} to {most} instances in train")


def _task_values(task: Task, splits: Mapping[str, AnySplit]) -> Iterator[Finding]:
    """Yield equal instances of train and test, absent modalities and constant features, of splits in memory."""
    held = {name: split for name, split in splits.items() if isinstance(split, Split)}
    if "train" in held and "test" in held:
        train, test = (
            {hash_of(x[row] for x in split.inputs.values()) for row in range(len(split))}
            for split in (held["train"], held["test"])
        )
        if train & test:
            text = f"{len(train & test)} instances of train are in test too, value for value"
            yield Finding("warning", "content", text)
    for part, split in held.items():
        for name, present in split.present.items():
            share = 1 - float(present.mean())
            if share:
                level: Level = "warning" if share >= OFTEN else "note"
                yield Finding(level, name, f"absent from {100 * share:.1f} % of {part}")
    for name, x in held["train"].inputs.items() if "train" in held else ():
        feature = task.layouts[name].index("c" if "c" in task.layouts[name] else "d")
        spread = np.ptp(x, axis=tuple(axis for axis in range(x.ndim) if axis != feature))
        if count := int((spread == 0).sum()):
            yield Finding("note", name, f"{count} of {len(spread)} features never vary in train")

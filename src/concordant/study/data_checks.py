"""What is worth knowing of the data that a run was trained on: one split, looked at before its numbers are believed.

Splits that overlap make results too good; classes that are few, features that never vary and modalities that are often
absent make them hard to get. The whole of a prepared dataset is looked at by `concordant data check`.
Axis letters: N instances.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import Any

import numpy as np

from concordant.data.checking import FEW, IMBALANCE, OFTEN, Finding, Level, Report
from concordant.data.split import AnySplit, Split, Task
from concordant.robustness.stress import as_classes

PARTS = ("train", "valid", "test")
SHOWN = 3  # examples


def check_task(task: Task, name: str) -> dict[str, Any]:
    """Return what was found of one split, as a document of the schema concordant.check/1.

    Args:
        task: the split.
        name: what it is called: the benchmark, its protocol, and the seed.
    """
    findings = [
        *_sizes(task),
        *_overlap(task, "ids"),
        *_overlap(task, "groups"),
        *_same_content(task),
        *_classes(task),
        *_absence(task),
        *_constant(task),
    ]
    order = ("error", "warning", "note")
    found = Report(folder=name, findings=tuple(sorted(findings, key=lambda one: order.index(one.level))))
    return found.to_json()


def _parts(task: Task) -> dict[str, AnySplit]:
    return {part: getattr(task, part) for part in PARTS}


def _sizes(task: Task) -> list[Finding]:
    counts = ", ".join(f"{len(part)} in {name}" for name, part in _parts(task).items())
    shapes = ", ".join(f"{name} {task.layouts[name]} {shape}" for name, shape in task.train.shapes.items())
    return [Finding("note", "splits", f"instances: {counts}"), Finding("note", "modalities", shapes)]


def _overlap(task: Task, what: str) -> list[Finding]:
    """Return instances, or groups, that are in more than one part."""
    values = {name: getattr(part, what) for name, part in _parts(task).items()}
    if any(found is None for found in values.values()):
        return [Finding("note", what, "instances are independent of each other; there are no groups")]
    findings = []
    for first, second in (("train", "test"), ("valid", "test"), ("train", "valid")):
        shared = sorted(set(map(str, values[first])) & set(map(str, values[second])))
        if shared:
            level: Level = "warning" if what == "groups" and (first, second) == ("train", "valid") else "error"
            some = ", ".join(shared[:SHOWN])
            findings.append(Finding(level, what, f"{len(shared)} are in {first} and in {second}: {some}"))
    return findings or [Finding("note", what, "none is in two parts")]


def _same_content(task: Task) -> list[Finding]:
    """Return instances of train that are in test, value for value; of parts in memory."""
    hashes: dict[str, set[bytes]] = {}
    for name in ("train", "test"):
        part = getattr(task, name)
        if not isinstance(part, Split):
            return []
        hashes[name] = {_hash(part, row) for row in range(len(part))}
    same = len(hashes["train"] & hashes["test"])
    if not same:
        return []
    return [Finding("warning", "content", f"{same} instances of train are in test too, value for value")]


def _hash(part: Split, row: int) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    for x in part.inputs.values():
        digest.update(x[row].tobytes())
    return digest.digest()


def _classes(task: Task) -> list[Finding]:
    if task.kind == "real":
        low, middle, high = np.quantile(task.train.labels, [0.0, 0.5, 1.0])
        return [Finding("note", "labels", f"numbers from {low:.3g} to {high:.3g} in train, half below {middle:.3g}")]
    counts = {name: Counter(as_classes(part.labels).tolist()) for name, part in _parts(task).items()}
    findings = []
    for number, label in enumerate(task.classes):
        seen = counts["train"][number]
        if seen < FEW:
            findings.append(Finding("warning", "labels", f"{label} has {seen} instances in train"))
        if not counts["test"][number]:
            findings.append(Finding("note", "labels", f"{label} has no instance in test"))
    most, least = max(counts["train"].values()), min(counts["train"].values())
    if most > IMBALANCE * least:
        findings.append(
            Finding("warning", "labels", f"the largest class of train has {most} instances, the least {least}")
        )
    return findings or [Finding("note", "labels", f"{len(task.classes)} classes, {least} to {most} instances in train")]


def _absence(task: Task) -> list[Finding]:
    findings = []
    for part, values in _parts(task).items():
        if not isinstance(values, Split):
            continue
        for name, here in values.present.items():
            share = 1 - float(here.mean())
            if share:
                level: Level = "warning" if share > OFTEN else "note"
                findings.append(Finding(level, name, f"absent from {100 * share:.1f} % of {part}"))
    return findings


def _constant(task: Task) -> list[Finding]:
    """Return features that never vary over train, which are 0 after scaling."""
    if not isinstance(task.train, Split):
        return []
    findings = []
    for name, x in task.train.inputs.items():
        layout = task.layouts[name]
        feature = layout.index("c" if "c" in layout else "d")
        spread = np.ptp(x, axis=tuple(axis for axis in range(x.ndim) if axis != feature))
        count = int((spread == 0).sum())
        if count:
            findings.append(Finding("note", name, f"{count} of {len(spread)} features never vary in train"))
    return findings

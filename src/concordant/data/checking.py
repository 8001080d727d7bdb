"""What is wrong with a prepared dataset, in plain words: `concordant data check`.

The store is gone through twice, instance by instance; what is kept of it are sums, counts and hashes, so that
memory does not grow with the values. Axis letters: T steps of one instance, D features of a modality.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from concordant.data.running import Running
from concordant.data.store import Store
from concordant.errors import DataError

FEW = 5  # instances below which a class can hardly be learned
IMBALANCE = 10  # times that the largest class of train outnumbers the smallest
LARGE = 1e6  # a value beyond which a feature looks wrong
OFTEN = 0.2  # share of absent instances from which on it is said
_SHOWN = 3  # examples

Level = Literal["error", "warning", "note"]


@dataclass(frozen=True)
class Finding:
    """One thing that was found.

    Args:
        level: "error", the dataset cannot be used; "warning", results on it may mislead; "note".
        subject: what it is about: a modality, "labels", "groups", "splits", "content" or "files".
        text: the sentence.
    """

    level: Level
    subject: str
    text: str


@dataclass(frozen=True)
class Report:
    """What was found.

    Args:
        folder: of the dataset.
        findings: in the order of their severity.
        counts: split -> class -> instances (of segments: seconds); of real labels split -> a quantile -> its value.
        modalities: modality -> absent (share), shortest, median and longest length, least, most, mean, std, zeros.
    """

    folder: str
    findings: tuple[Finding, ...]
    counts: dict[str, dict[str, float]] = field(default_factory=dict)
    modalities: dict[str, dict[str, float]] = field(default_factory=dict)

    @property
    def failed(self) -> bool:
        """Say whether there is an error."""
        return any(finding.level == "error" for finding in self.findings)

    def to_json(self) -> dict[str, Any]:
        """Return all of it as plain values."""
        return {
            "schema": "concordant.check/1",
            "folder": self.folder,
            "failed": self.failed,
            "findings": [vars(finding) for finding in self.findings],
            "counts": self.counts,
            "modalities": self.modalities,
        }


def check(
    folder: Path,
    *,
    published: Mapping[str, int] | None = None,
    published_classes: Mapping[str, Sequence[int]] | None = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> Report:
    """Look through a dataset.

    Args:
        folder: of the dataset.
        published: split -> how many instances the benchmark has by its paper.
        published_classes: split -> how many of each class, in the order of the classes.
        progress: called with the instances done, all instances, and what is being done.
    """
    try:
        store = Store(folder)
        if not len(store):
            raise DataError(f"{folder} has no instance")
        sums, hashes = _values(store, progress)
    except DataError as error:
        return Report(str(folder), (Finding("error", "files", str(error)),))
    found = [
        *_labels(store),
        *_splits(store, published),
        *_class_counts(store, published_classes),
        *_groups(store),
        *(finding for name, one in sums.items() for finding in _of_values(name, one)),
        *_absence(store, sums),
        *_content(store, hashes),
    ]
    order = {"error": 0, "warning": 1, "note": 2}
    return Report(
        str(folder),
        tuple(sorted(found, key=lambda finding: order[finding.level])),
        _counts(store),
        {name: one.summary(store.lengths(name)) for name, one in sums.items()},
    )


def _values(
    store: Store, progress: Callable[[int, int, str], None] | None
) -> tuple[dict[str, Running], dict[str, list[bytes | None]]]:
    """Return running statistics, and a hash of what each instance holds; None where it is absent."""
    sums = {name: Running(known) for name, known in store.card.modalities.items()}
    hashes: dict[str, list[bytes | None]] = {name: [] for name in sums}
    for row, instance in enumerate(store):
        for name, values in instance.features.items():
            hashes[name].append(None)
            if values is not None:
                sums[name].add(values)
                hashes[name][-1] = hashlib.blake2b(np.ascontiguousarray(values).data, digest_size=16).digest()
        if progress is not None and (row % 64 == 0 or row + 1 == len(store)):
            progress(row + 1, len(store), "reading")
    return sums, hashes


def _of_values(name: str, sums: Running) -> list[Finding]:
    """Return what the values of a modality say."""
    if not sums.count:
        return []
    found = []
    if sums.bad:
        found.append(Finding("error", name, f"{sums.bad:,} values are NaN or infinite; prepare the dataset again"))
    constant = np.flatnonzero(sums.least == sums.most)
    if len(constant):
        found.append(
            Finding(
                "warning",
                name,
                f"{len(constant)} of {len(sums.mean)} features are the same in every instance and tell nothing "
                f"({_examples(constant.tolist())})",
            )
        )
    large = np.flatnonzero(np.maximum(np.abs(sums.least), np.abs(sums.most)) > LARGE)
    if len(large):
        most = float(np.maximum(np.abs(sums.least), np.abs(sums.most)).max())
        found.append(
            Finding(
                "warning",
                name,
                f"{len(large)} features have values beyond 1,000,000 (up to {most:.3g}); see how they were made",
            )
        )
    return found


def _labels(store: Store) -> list[Finding]:
    card = store.card
    if card.label.kind == "real":
        values = np.asarray(store.labels)
        same = bool((values == values[0]).all())
        return [Finding("error", "labels", f"every label is {values[0]}: there is nothing to learn")] if same else []
    found = []
    counts = {split: _classes(store, split) for split in card.splits}
    learned = next((counts[split] for split in ("train", "all") if split in counts), None)
    if learned is None:
        return []
    for name in card.label.classes:
        tested = sum(one[name] for split, one in counts.items() if split not in ("train", "all"))
        if not learned[name] and tested:
            text = f"class {name!r} occurs {tested} times in valid or test and never in train: it cannot be learned"
            found.append(Finding("error", "labels", text))
        elif not learned[name]:
            found.append(Finding("warning", "labels", f"class {name!r} does not occur; drop it from the classes"))
        elif learned[name] < FEW:
            text = f"class {name!r} has {learned[name]} training instances, too few to learn it from"
            found.append(Finding("warning", "labels", text))
    there = {name: count for name, count in learned.items() if count}
    if there:
        most, least = max(there, key=there.__getitem__), min(there, key=there.__getitem__)
        share = there[most] / sum(there.values())
        text = f"the largest class, {most!r}, makes up {100 * share:.1f} % of training"
        if there[most] > IMBALANCE * there[least]:
            times = there[most] / there[least]
            text += f", {times:.0f} times the smallest, {least!r}; look at balanced accuracy, not at accuracy alone"
            found.append(Finding("warning", "labels", text))
        else:
            found.append(Finding("note", "labels", text))
    return found


def _classes(store: Store, split: str) -> Counter[str]:
    """Return class -> how many instances (of segments: seconds) of a split are of it."""
    rows = store.rows(split)
    labels = [store.labels[row] for row in rows.tolist()]
    flat = np.concatenate([np.atleast_1d(label) for label in labels]) if labels else np.zeros(0, np.int64)
    counts = np.bincount(flat.astype(np.int64), minlength=len(store.card.label.classes))
    return Counter(dict(zip(store.card.label.classes, counts.tolist(), strict=True)))


def _counts(store: Store) -> dict[str, dict[str, float]]:
    if store.card.label.kind != "real":
        return {split: dict(_classes(store, split)) for split in store.card.splits}
    found = {}
    for split in store.card.splits:
        values = np.asarray(store.labels)[store.rows(split)]
        places = (0, 25, 50, 75, 100)
        found[split] = {"instances": float(len(values))}
        if len(values):
            quantiles = np.percentile(values.astype(np.float64), places).tolist()
            found[split] |= {f"{place} %": value for place, value in zip(places, quantiles, strict=True)}
    return found


def _splits(store: Store, published: Mapping[str, int] | None) -> list[Finding]:
    found = []
    counts = {split: len(store.rows(split)) for split in store.card.splits}
    for split, count in counts.items():
        if not count:
            found.append(Finding("error", "splits", f"the split {split!r} is announced and has no instance"))
    for split, wanted in (published or {}).items():
        has = counts.get(split, 0)
        if has != wanted:
            text = f"{split} has {has:,} instances where {wanted:,} are published: results do not compare"
            found.append(Finding("warning", "splits", text))
    return found


def _class_counts(store: Store, published: Mapping[str, Sequence[int]] | None) -> list[Finding]:
    """Return in which classes the numbers are not the published ones."""
    found = []
    for split, wanted in (published or {}).items():
        if split not in store.card.splits or len(wanted) != len(store.card.label.classes):
            continue
        has = _classes(store, split)
        other = [
            f"{name} {has[name]} for {count}"
            for name, count in zip(store.card.label.classes, wanted, strict=True)
            if has[name] != count
        ]
        if other:
            text = f"{len(other)} classes of {split} do not have their published number ({_examples(other)})"
            found.append(Finding("warning", "labels", text))
    return found


def _groups(store: Store) -> list[Finding]:
    if store.groups is None:
        return []
    found = []
    what = store.card.groups
    members = {split: set(store.groups[store.rows(split)].tolist()) for split in store.card.splits}
    for split in ("valid", "test"):
        shared = members.get("train", set()) & members.get(split, set())
        if shared:
            rows = store.rows(split)
            share = float(np.isin(store.groups[rows], list(shared)).mean())
            text = (
                f"{len(shared)} of {len(members[split])} {what} groups of {split} are in train too, with "
                f"{100 * share:.0f} % of its instances ({_examples(sorted(shared))}): scores say nothing of new ones; "
                "--protocol folds keeps them apart"
            )
            found.append(Finding("warning", "groups", text))
    return found


def _absence(store: Store, sums: Mapping[str, Running]) -> list[Finding]:
    found = []
    for name in sums:
        gone = store.lengths(name) == 0
        share = float(gone.mean())
        if share == 1:
            found.append(Finding("error", name, "no instance has it; leave it out"))
            continue
        if share >= OFTEN:
            found.append(Finding("note", name, f"{100 * share:.0f} % of the instances do not have it"))
        if gone.any() and store.card.label.kind == "class":
            labels = np.asarray(store.labels)
            for index, cls in enumerate(store.card.label.classes):
                mine = labels == index
                if mine.sum() >= FEW and gone[mine].all() and not gone[~mine].all():
                    text = f"every instance of class {cls!r} lacks it: its absence gives the class away"
                    found.append(Finding("warning", name, text))
    return found


def _content(store: Store, hashes: Mapping[str, list[bytes | None]]) -> list[Finding]:
    """Return which instances hold the same, as a whole or in one modality."""
    found = []
    whole = [b"".join(one or b"-" for one in row) for row in zip(*hashes.values(), strict=True)]
    columns: dict[str, list[bytes | None]] = {"content": [*whole]}
    if len(hashes) > 1:
        columns |= dict(hashes)
    reported: set[str] = set()
    for name, column in columns.items():
        rows_of: dict[bytes, list[int]] = {}
        for row, digest in enumerate(column):
            if digest is not None:
                rows_of.setdefault(digest, []).append(row)
        repeated = [rows for rows in rows_of.values() if len(rows) > 1]
        what = "hold the same" if name == "content" else f"have the same {name}"
        across = [rows for rows in repeated if len(set(store.splits[rows].tolist())) > 1]
        if across:
            pairs = [" = ".join(store.ids[rows].tolist()) for rows in across]
            if name == "content":
                reported |= set(pairs)
            elif set(pairs) <= reported:
                continue
            text = f"{len(across)} times instances of two splits {what} ({_examples(pairs)}): the test is known in part"
            found.append(Finding("warning", name, text))
        within = len(repeated) - len(across)
        if within and name == "content":
            found.append(Finding("note", name, f"{within} times instances of one split {what}"))
    return found


def _examples(values: list[Any]) -> str:
    shown = ", ".join(str(value) for value in values[:_SHOWN])
    return shown if len(values) <= _SHOWN else f"{shown}, ..."

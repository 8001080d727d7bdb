"""Check a prepared dataset (`concordant data check`): faults as sentences.

Splits that overlap make results too good; rare classes, constant features and modalities that are often absent make
them hard to get. A store is read once, instance by instance, and only sums, counts and hashes are kept: memory does
not grow with the values. Axis letters: T steps of one instance, D features of a modality.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from concordant.data.card import WHOLE, ModalityCard
from concordant.data.findings import FEW, IMBALANCE, OFTEN, Finding, Report, examples, hash_of, one_class, refuse
from concordant.data.split import FOLD
from concordant.data.store import Store, Values
from concordant.errors import DataError

LARGE = 1e6  # a feature with larger values looks wrong


def check(
    folder: Path,
    *,
    published: Mapping[str, int] | None = None,
    published_classes: Mapping[str, Sequence[int]] | None = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> Report:
    """Check a prepared dataset.

    Args:
        folder: of the dataset.
        published: split -> number of instances by the paper.
        published_classes: split -> number of instances per class, in the order of the classes.
        progress: called with the instances done, all instances, and the current work.
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
        *_splits(store, published or {}),
        *_class_counts(store, published_classes or {}),
        *_groups(store),
        *(finding for name, one in sums.items() for finding in one.findings(name)),
        *_absence(store, tuple(store.card.modalities)),
        *_content(store, hashes),
    ]
    modalities = {name: one.summary(store.lengths(name)) for name, one in sums.items()}
    return Report(str(folder), tuple(found), _counts(store), modalities, str(store.card.label))


class Running:
    """Statistics of a modality per feature, over instances added one by one.

    Means and squares are merged as in Chan, Golub and LeVeque (1979). Values that are not finite count as 0.
    """

    def __init__(self, known: ModalityCard) -> None:
        self.axis = known.channel
        size = known.shape[self.axis] or 1
        self.count = self.bad = self.zeros = 0
        self.mean, self.squares = np.zeros(size), np.zeros(size)
        self.least, self.most = np.full(size, np.inf), np.full(size, -np.inf)

    def add(self, values: Values) -> None:
        """Add the values of an instance."""
        flat = np.moveaxis(values, self.axis, -1).reshape(-1, values.shape[self.axis]).astype(np.float64)
        finite = np.isfinite(flat)
        self.bad += int((~finite).sum())
        flat = np.where(finite, flat, 0)
        self.zeros += int((flat == 0).sum())
        count, mean = len(flat), flat.mean(0)
        gap, total = mean - self.mean, self.count + count
        self.squares += ((flat - mean) ** 2).sum(0) + gap**2 * self.count * count / total
        self.mean += gap * count / total
        self.count = total
        self.least, self.most = np.minimum(self.least, flat.min(0)), np.maximum(self.most, flat.max(0))

    def summary(self, lengths: NDArray[np.int64]) -> dict[str, float]:
        """Return the numbers of the report, given the length of each instance."""
        present = lengths[lengths > 0]
        found: dict[str, float] = {"absent": float((lengths == 0).mean())}
        if self.count:
            spread = self.squares.sum() + self.count * ((self.mean - self.mean.mean()) ** 2).sum()
            found |= {
                "shortest": int(present.min()),
                "median": float(np.median(present)),
                "longest": int(present.max()),
                "least": float(self.least.min()),
                "most": float(self.most.max()),
                "mean": float(self.mean.mean()),
                "std": float(np.sqrt(spread / (self.count * len(self.mean)))),
                "zeros": self.zeros / (self.count * len(self.mean)),
            }
        return found

    def findings(self, name: str) -> Iterator[Finding]:
        """Yield the faults of the values of modality `name`."""
        if self.bad:
            yield Finding("error", name, f"{self.bad:,} values are NaN or infinite; prepare the dataset again")
        constant = np.flatnonzero(self.least == self.most)
        if len(constant):
            text = f"{len(constant)} of {len(self.mean)} features are the same in every instance and tell nothing"
            yield Finding("warning", name, f"{text} ({examples(constant.tolist())})")
        largest = np.maximum(np.abs(self.least), np.abs(self.most))
        if self.count and (largest > LARGE).any():
            text = f"{(largest > LARGE).sum()} features have values beyond 1,000,000 (up to {largest.max():.3g})"
            yield Finding("warning", name, f"{text}; see how they were made")


def _values(
    store: Store, progress: Callable[[int, int, str], None] | None
) -> tuple[dict[str, Running], dict[str, list[bytes | None]]]:
    """Return running statistics, and a hash of the values of each instance; None where it is absent."""
    sums = {name: Running(known) for name, known in store.card.modalities.items()}
    hashes: dict[str, list[bytes | None]] = {name: [] for name in sums}
    for row, instance in enumerate(store):
        for name, values in instance.features.items():
            hashes[name].append(None if values is None else hash_of([values]))
            if values is not None:
                sums[name].add(values)
        if progress is not None and (row % 64 == 0 or row + 1 == len(store)):
            progress(row + 1, len(store), "reading")
    return sums, hashes


def check_store(store: Store, modalities: Sequence[str], *, folds: bool) -> None:
    """Refuse to train on a dataset that `concordant data check` calls an error; values are not read.

    With `folds`, instances are divided into folds, whatever splits they have.

    Raises:
        DataError: the errors of the check.
    """
    splits = () if folds else _splits(store, {})
    refuse(store.folder, (*_labels(store, folds=folds), *splits, *_absence(store, modalities)))


def _labels(store: Store, *, folds: bool = False) -> Iterator[Finding]:
    card = store.card
    if card.label.kind == "none":
        yield Finding(
            "note", "labels", "there are none: `concordant predict` reads the dataset, `concordant run` cannot"
        )
        return
    for split in card.splits:
        if split in ("test", WHOLE):
            yield from one_class(split, [store.labels[row] for row in store.rows(split).tolist()])
    if card.label.kind == "real":
        values = np.asarray(store.labels)
        if (values == values[0]).all():
            yield Finding("error", "labels", f"every label is {values[0]}: there is nothing to learn")
        return
    counts = {split: _classes(store, split) for split in card.splits}
    learned = next((counts[split] for split in ("train", WHOLE) if split in counts), None)
    if folds or _in_folds(store):
        learned = sum(counts.values(), Counter[str]())
        counts = {WHOLE: learned}
    if learned is None:
        return
    for name in card.label.classes:
        tested = sum(one[name] for split, one in counts.items() if split not in ("train", WHOLE))
        if not learned[name] and tested:
            text = f"class {name!r} occurs {tested} times in valid or test and never in train: it cannot be learned"
            yield Finding("error", "labels", text)
        elif not learned[name]:
            yield Finding("warning", "labels", f"class {name!r} does not occur; drop it from the classes")
    few = [f"{name!r} {learned[name]}" for name in card.label.classes if 0 < learned[name] < FEW]
    if few:
        text = f"classes with fewer than {FEW} training instances, too few to learn from: {examples(few)}"
        yield Finding("warning", "labels", text)
    there = {name: count for name, count in learned.items() if count}
    if there:
        most, least = max(there, key=there.__getitem__), min(there, key=there.__getitem__)
        text = f"the largest class, {most!r}, makes up {100 * there[most] / sum(there.values()):.1f} % of training"
        if there[most] > IMBALANCE * there[least]:
            text += f", {there[most] / there[least]:.0f} times the smallest, {least!r}; look at balanced accuracy, not "
            yield Finding("warning", "labels", text + "at accuracy alone")
        else:
            yield Finding("note", "labels", text)


def _classes(store: Store, split: str) -> Counter[str]:
    """Return class -> number of instances (for segments: seconds) of a split."""
    labels = [np.atleast_1d(store.labels[row]) for row in store.rows(split).tolist()]
    flat = np.concatenate([np.zeros(0, np.int64), *labels]).astype(np.int64)
    counts = np.bincount(flat, minlength=len(store.card.label.classes))
    return Counter(dict(zip(store.card.label.classes, counts.tolist(), strict=True)))


def _counts(store: Store) -> dict[str, dict[str, float]]:
    if store.card.label.kind == "none":
        return {split: {"instances": float(len(store.rows(split)))} for split in store.card.splits}
    if store.card.label.kind != "real":
        return {split: dict(_classes(store, split)) for split in store.card.splits}
    found, places = {}, (0, 25, 50, 75, 100)
    for split in store.card.splits:
        values = np.asarray(store.labels)[store.rows(split)].astype(np.float64)
        found[split] = {"instances": float(len(values))}
        if len(values):
            quantiles = np.percentile(values, places).tolist()
            found[split] |= {f"{place} %": value for place, value in zip(places, quantiles, strict=True)}
    return found


def _splits(store: Store, published: Mapping[str, int]) -> Iterator[Finding]:
    counts = {split: len(store.rows(split)) for split in store.card.splits}
    for split, count in counts.items():
        if not count:
            yield Finding("error", "splits", f"the split {split!r} is announced and has no instance")
    for split, wanted in published.items():
        if (has := counts.get(split, 0)) != wanted:
            text = f"{split} has {has:,} instances where {wanted:,} are published: results do not compare"
            yield Finding("warning", "splits", text)


def _class_counts(store: Store, published: Mapping[str, Sequence[int]]) -> Iterator[Finding]:
    """Yield the classes with other numbers than published."""
    classes = store.card.label.classes
    for split, wanted in published.items():
        if split not in store.card.splits or len(wanted) != len(classes):
            continue
        has = _classes(store, split)
        pairs = zip(classes, wanted, strict=True)
        other = [f"{name} {has[name]} for {count}" for name, count in pairs if has[name] != count]
        if other:
            text = f"{len(other)} classes of {split} do not have their published number ({examples(other)})"
            yield Finding("warning", "labels", text)


def _groups(store: Store) -> Iterator[Finding]:
    if store.groups is None:
        return
    members = {split: set(store.groups[store.rows(split)].tolist()) for split in store.card.splits}
    if _in_folds(store):
        counts = Counter(group for some in members.values() for group in some)
        torn = sorted(group for group, count in counts.items() if count > 1)
        if torn:
            text = f"{len(torn)} {store.card.groups} groups are in two folds ({examples(torn)}): scores say nothing"
            yield Finding("warning", "groups", f"{text} of new ones; --protocol folds keeps them apart")
    for split in ("valid", "test"):
        shared = members.get("train", set()) & members.get(split, set())
        if shared:
            share = float(np.isin(store.groups[store.rows(split)], list(shared)).mean())
            text = (
                f"{len(shared)} of {len(members[split])} {store.card.groups} groups of {split} are in train too, with "
                f"{100 * share:.0f} % of its instances ({examples(sorted(shared))}): scores say nothing of new ones; "
                "--protocol folds keeps them apart"
            )
            yield Finding("warning", "groups", text)


def _absence(store: Store, modalities: Sequence[str]) -> Iterator[Finding]:
    if len(store.card.modalities) == 1:
        text = (
            "there is one alone: a calibrator compares modalities, and `concordant run` takes --calibrators none only"
        )
        yield Finding("warning", "modalities", text)
    for name in modalities:
        absent = store.lengths(name) == 0
        share = float(absent.mean())
        if share == 1:
            yield Finding("error", name, "no instance has it; leave it out")
            continue
        if share >= OFTEN:
            yield Finding("note", name, f"{100 * share:.0f} % of the instances do not have it")
        if absent.any() and store.card.label.kind == "class":
            for index, cls in enumerate(store.card.label.classes):
                of_class = np.asarray(store.labels) == index
                if of_class.sum() >= FEW and absent[of_class].all() and not absent[~of_class].all():
                    text = f"every instance of class {cls!r} lacks it: its absence gives the class away"
                    yield Finding("warning", name, text)


def _content(store: Store, hashes: Mapping[str, list[bytes | None]]) -> Iterator[Finding]:
    """Yield instances with equal values, as a whole or in one modality."""
    whole: list[bytes | None] = [b"".join(one or b"-" for one in row) for row in zip(*hashes.values(), strict=True)]
    reported: set[str] = set()
    # Without splits, seeds divide the groups, or the instances, into folds.
    folds = store.card.splits == (WHOLE,)
    sides, kept = store.splits, "split"
    if folds:
        sides, kept = (store.ids, "instance") if store.groups is None else (store.groups, "group")
    for name, column in {"content": whole, **(hashes if len(hashes) > 1 and not folds else {})}.items():
        rows_of: dict[bytes, list[int]] = {}
        for row, digest in enumerate(column):
            if digest is not None:
                rows_of.setdefault(digest, []).append(row)
        repeated = [rows for rows in rows_of.values() if len(rows) > 1]
        what = "hold the same" if name == "content" else f"have the same {name}"
        across = [rows for rows in repeated if len(set(sides[rows].tolist())) > 1]
        if across:
            pairs = [" = ".join(store.ids[rows].tolist()) for rows in across]
            if name == "content":
                reported |= set(pairs)
            elif set(pairs) <= reported:
                continue
            of, then = ("that folds may part", "may be") if folds else ("of two splits", "is")
            text = f"{len(across)} times instances {of} {what} ({examples(pairs)}): the test {then} known in part"
            yield Finding("warning", name, text)
        if name == "content" and len(repeated) > len(across):
            yield Finding("note", name, f"{len(repeated) - len(across)} times instances of one {kept} {what}")


def _in_folds(store: Store) -> bool:
    return store.card.splits[0].startswith(FOLD)

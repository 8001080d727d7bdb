"""Splits of a dataset: arrays by modality with labels, ids and groups, and random ways to divide rows by a seed.

Axis letters: N instances; the remaining axes follow the modality's layout without its batch axis.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from concordant.data.scaling import Scale, apply, fit_chunks

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]
Integers = NDArray[np.int64]
Strings = NDArray[np.str_]
LabelKind = Literal["class", "real"]

FOLD = "fold "  # begins the names of published folds, which stand for splits; the number of the fold follows


class AnySplit(Protocol):
    """Instances in memory (`Split`) or in a store on disk (`concordant.data.stored.StoredSplit`)."""

    @property
    def labels(self) -> NDArray[Any]:
        """Class indices int64 (N,), or real numbers float32 (N,)."""

    @property
    def ids(self) -> Strings:
        """Unique names of the instances (N,)."""

    @property
    def groups(self) -> Strings | None:
        """Group of each instance (N,), or None where instances are independent."""

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Modality -> shape of one instance; for sequences, of the longest."""

    def __len__(self) -> int: ...

    def take(self, rows: Any) -> Split:  # noqa: ANN401 - anything that indexes an array
        """Load the instances at `rows` into memory, in that order."""

    def chunks(self) -> Iterator[Split]:
        """Yield all instances in order, in chunks that fit in memory."""

    def only(self, modalities: Sequence[str]) -> AnySplit:
        """Return the split with these modalities only, in this order."""

    def scaled(self, scales: Mapping[str, Scale], layouts: Mapping[str, str]) -> AnySplit:
        """Return the split with its inputs scaled, now or when they are read."""


@dataclass(frozen=True)
class Split:
    """Instances in memory: a whole dataset, or its training, validation or test split.

    Args:
        inputs: modality -> float32 (N, ...) in the modality's layout, batch first.
        labels: class indices from 0, int64 (N,), or real numbers, float32 (N,).
        ids: name of each instance (N,), unique within the dataset.
        groups: group of each instance (speaker, subject, video) (N,); None where instances are
            independent. Statistics resample whole groups.
        masks: modality -> (N, T), True at valid steps; modalities without padding have no entry.
        present: modality -> (N,), True where the instance has the modality; no entry means always.
    """

    inputs: dict[str, Floats]
    labels: NDArray[Any]
    ids: Strings
    groups: Strings | None = None
    masks: dict[str, Bools] = field(default_factory=dict)
    present: dict[str, Bools] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Modality -> shape of one instance."""
        return {name: x.shape[1:] for name, x in self.inputs.items()}

    def chunks(self) -> Iterator[Split]:
        """Yield the split itself, which is in memory already."""
        yield self

    def take(self, rows: Any) -> Split:  # noqa: ANN401 - anything that indexes an array
        """Return the instances at `rows`, in that order."""

        def at(arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
            return {name: values[rows] for name, values in arrays.items()}

        groups = None if self.groups is None else self.groups[rows]
        return Split(at(self.inputs), self.labels[rows], self.ids[rows], groups, at(self.masks), at(self.present))

    def only(self, modalities: Sequence[str]) -> Split:
        """Return the split with these modalities only, in this order."""

        def some(arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
            return {name: arrays[name] for name in modalities if name in arrays}

        return replace(self, inputs=some(self.inputs), masks=some(self.masks), present=some(self.present))

    def scaled(self, scales: Mapping[str, Scale], layouts: Mapping[str, str], *, in_place: bool = False) -> Split:
        """Return the split with its inputs scaled; with `in_place` its own arrays are overwritten."""
        return self.with_inputs(
            {
                name: apply(scales[name], x, layouts[name], self.valid(name), in_place=in_place)
                for name, x in self.inputs.items()
            }
        )

    def valid(self, name: str) -> Bools | None:
        """Return where the values of a modality count, (N, T) or (N,); None = everywhere."""
        mask, present = self.masks.get(name), self.present.get(name)
        if mask is None or present is None:
            return present if mask is None else mask
        return mask & present[:, None]

    def with_inputs(self, inputs: dict[str, Floats]) -> Split:
        """Return the same instances with other inputs."""
        return replace(self, inputs=inputs)


@dataclass(frozen=True)
class Task:
    """One division of a benchmark into training, validation and test splits.

    `concordant.benchmarks.catalogue.prepare` returns it scaled on the training split and ready to train on.

    Args:
        classes: class names, by index; for real labels, names of below 0 and of 0 and above.
        layouts: modality -> layout of its inputs ("bd", "btd", "bchw" or "bcthw").
        train: training split.
        valid: validation split, the only one used for model selection.
        test: test split; scored once.
        kind: of the labels.
    """

    classes: tuple[str, ...]
    layouts: dict[str, str]
    train: AnySplit
    valid: AnySplit
    test: AnySplit
    kind: LabelKind = "class"

    @property
    def outputs(self) -> int:
        """Number of outputs of a model per instance: one per class, or 1 for real labels."""
        return len(self.classes) if self.kind == "class" else 1

    def only(self, modalities: Sequence[str]) -> Task:
        """Return the task with these modalities only, in this order."""
        return replace(
            self,
            layouts={name: self.layouts[name] for name in modalities},
            train=self.train.only(modalities),
            valid=self.valid.only(modalities),
            test=self.test.only(modalities),
        )

    def scaled(self, *, in_place: bool = False) -> Task:
        """Return the task with all splits scaled by the training split, which is read once.

        With `in_place`, arrays of splits in memory are overwritten: of large ones there is no room for two.
        """
        scales = fit_chunks(self.train.chunks(), self.layouts)
        train, valid, test = (
            one.scaled(scales, self.layouts, in_place=in_place)
            if isinstance(one, Split)
            else one.scaled(scales, self.layouts)
            for one in (self.train, self.valid, self.test)
        )
        return replace(self, train=train, valid=valid, test=test)


def as_classes(labels: NDArray[Any]) -> NDArray[Any]:
    """Return class indices as they are; for real numbers, whether they are 0 or more (Has0)."""
    return labels if labels.dtype.kind in "iu" else (labels >= 0).astype(np.int64)


# Every function below takes the names of its random stream; drawing one division never shifts another.


def stratified(rows: Integers, labels: Integers, share: float, seed: int, *names: str) -> tuple[Integers, Integers]:
    """Divide `rows` in two; the second side gets `share` of each class in `labels`, as nearly as counts allow."""
    from sklearn.model_selection import train_test_split

    first, second = train_test_split(rows, test_size=share, stratify=labels, random_state=_stream(seed, *names) % 2**32)
    return np.sort(first), np.sort(second)


def by_group(rows: Integers, groups: Strings, share: float, seed: int, *names: str) -> tuple[Integers, Integers]:
    """Divide `rows` in two without cutting a group; the second side gets `share` of the groups (at least one)."""
    from sklearn.model_selection import GroupShuffleSplit

    splitter = GroupShuffleSplit(n_splits=1, test_size=share, random_state=_stream(seed, *names) % 2**32)
    first, second = next(splitter.split(rows, groups=groups))
    return rows[np.sort(first)], rows[np.sort(second)]


def group_folds(groups: Strings, folds: int, seed: int, *names: str) -> Integers:
    """Return the fold of each row, 0 to `folds` - 1, without cutting a group and with equal numbers of groups."""
    order = shuffled(np.unique(groups), seed, *names)
    fold_of = {group: place % folds for place, group in enumerate(order.tolist())}
    return np.array([fold_of[group] for group in groups.tolist()], dtype=np.int64)


def class_folds(labels: Integers, folds: int, seed: int, *names: str) -> Integers:
    """Return the fold of each row, 0 to `folds` - 1, with each class spread evenly over the folds."""
    from sklearn.model_selection import StratifiedKFold

    splitter = StratifiedKFold(folds, shuffle=True, random_state=_stream(seed, *names) % 2**32)
    found = np.empty(len(labels), np.int64)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The least populated class", UserWarning)  # `checking` names small classes
        for fold, (_, rows) in enumerate(splitter.split(labels, labels)):
            found[rows] = fold
    return found


def shuffled(values: NDArray[Any], seed: int, *names: str) -> NDArray[Any]:
    """Return the values in a random order."""
    return np.random.default_rng(_stream(seed, *names)).permutation(values)


def _stream(seed: int, *names: str) -> int:
    from concordant.seeding import derive_seed  # imports torch

    return derive_seed(seed, "split", *names)

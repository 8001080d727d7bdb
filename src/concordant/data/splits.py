"""Splits by seed: stratified by class, or by whole groups. scikit-learn does the splitting.

Every function takes the names of the stream that it draws from, so that one split never shifts another.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from concordant.data.part import Integers, Strings
from concordant.seeding import derive_seed


def stratified(rows: Integers, labels: Integers, share: float, seed: int, *names: str) -> tuple[Integers, Integers]:
    """Split `rows` in two, the second with `share` of each class, as nearly as numbers allow.

    Args:
        rows: indices.
        labels: the class of each row, aligned with `rows`.
        share: of the second side, in (0, 1).
        seed: of the run.
        names: of the stream of random numbers.
    """
    from sklearn.model_selection import train_test_split

    first, second = train_test_split(rows, test_size=share, stratify=labels, random_state=_state(seed, *names))
    return np.sort(first), np.sort(second)


def by_group(rows: Integers, groups: Strings, share: float, seed: int, *names: str) -> tuple[Integers, Integers]:
    """Split `rows` in two with whole groups on a side, the second with `share` of the groups (at least one).

    Args: as for `stratified`, with
        groups: what each row belongs to.
    """
    from sklearn.model_selection import GroupShuffleSplit

    splitter = GroupShuffleSplit(n_splits=1, test_size=share, random_state=_state(seed, *names))
    first, second = next(splitter.split(rows, groups=groups))
    return rows[np.sort(first)], rows[np.sort(second)]


def group_folds(groups: Strings, folds: int, seed: int, *names: str) -> Integers:
    """Return the fold of each row, 0 to `folds` - 1: whole groups, as many groups a fold as numbers allow."""
    order = shuffled(np.unique(groups), seed, *names)
    fold_of = {group: place % folds for place, group in enumerate(order.tolist())}
    return np.array([fold_of[group] for group in groups.tolist()], dtype=np.int64)


def class_folds(labels: Integers, folds: int, seed: int, *names: str) -> Integers:
    """Return the fold of each row, 0 to `folds` - 1, with each class spread evenly over the folds."""
    from sklearn.model_selection import StratifiedKFold

    splitter = StratifiedKFold(folds, shuffle=True, random_state=_state(seed, *names))
    found = np.empty(len(labels), np.int64)
    for fold, (_, rows) in enumerate(splitter.split(labels, labels)):
        found[rows] = fold
    return found


def shuffled(values: NDArray[Any], seed: int, *names: str) -> NDArray[Any]:
    """Return the values in a random order."""
    return np.random.default_rng(derive_seed(seed, "split", *names)).permutation(values)


def _state(seed: int, *names: str) -> int:
    return derive_seed(seed, "split", *names) % 2**32

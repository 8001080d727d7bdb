"""Features that were fitted on the training rows: modalities agree there far more than on rows that are new to them.

An extractor that was trained on the training rows of the fusion knows their labels. Every modality then predicts them
there, all agree, and fusion and calibrator learn to trust what they cannot trust on new rows. A linear probe per
modality shows it without test labels: fitted on one half of the training rows (whole groups), it predicts the other
half and the inputs of validation and test. Where rows are alike, probes of two modalities agree as often on one as on
the other; here they agree far more on the training rows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from concordant import seeding
from concordant.data.findings import Finding
from concordant.data.split import AnySplit, Integers, Split, Task, by_group, stratified
from concordant.robustness.predict import BATCH_BYTES
from concordant.study.baselines import LateFusion, pooled_features

# Features count as fitted from this gap of agreement, or of accuracy, on, if it is beyond so many standard errors.
# Evidence: docs/method.md, "Features fitted on the training rows".
GAP, ERRORS = 0.08, 3.0
_ROWS = 2000  # of training, validation and test that are looked at, at the most
_BYTES = 2**28  # of their inputs, at the most
_FEWEST = 40  # rows of each, below which nothing can be said


class Optimism(NamedTuple):
    """How much more often modalities agree, and are right, on training rows than on new ones; shares in [0, 1].

    Args:
        split: "validation" or "test", where modalities agree less.
        train: agreement of two modalities' probes on training rows that the probes have not seen.
        new: the same on the split.
        accuracy_train: mean accuracy of the probes on training rows that they have not seen.
        accuracy_valid: the same on the validation split.
        error: standard error of the difference in agreement.
        accuracy_error: that of the difference in accuracy.
    """

    split: str
    train: float
    new: float
    accuracy_train: float
    accuracy_valid: float
    error: float
    accuracy_error: float

    @property
    def fitted(self) -> bool:
        """Whether the features were most likely fitted on the training rows."""
        gaps = ((self.train - self.new, self.error), (self.accuracy_train - self.accuracy_valid, self.accuracy_error))
        return any(gap > max(GAP, ERRORS * error) for gap, error in gaps)

    @property
    def sentence(self) -> str:
        """The warning."""
        return (
            f"features look fitted on the training rows: probes of two modalities agree on {100 * self.train:.0f} % of "
            f"unseen training rows and on {100 * self.new:.0f} % of {self.split} rows, and are right on "
            f"{100 * self.accuracy_train:.0f} % and, in validation, {100 * self.accuracy_valid:.0f} %; extract them by "
            "networks that were not trained on these rows, or train on rows that the networks have not seen"
        )


def check_features(task: Task) -> Finding | None:
    """Return a warning if the features of a task look fitted on its training rows."""
    found = optimism(task)
    return None if found is None or not found.fitted else Finding("warning", "modalities", found.sentence)


def optimism(task: Task) -> Optimism | None:
    """Return how much better modalities agree on training rows than on new ones; None where it cannot be measured.

    Labels of validation are used, labels of test are not. Real labels count as classes below and from their median.

    Args:
        task: the splits, with two modalities or more.
    """
    if len(task.layouts) < 2:
        return None
    train, valid, test = (_some(one, task.layouts) for one in (task.train, task.valid, task.test))
    layouts = dict.fromkeys(task.layouts, "bd")
    if min(map(len, (train, valid, test))) < _FEWEST:
        return None
    labels = np.asarray(train.labels)
    whole = np.arange(len(labels))
    if train.groups is not None and len(np.unique(train.groups)) > 1:
        halves = by_group(whole, train.groups, 0.5, 0, "optimism")
    elif task.kind == "class" and np.unique(labels, return_counts=True)[1].min() > 1:
        halves = stratified(whole, labels, 0.5, 0, "optimism")
    else:
        halves = (whole[::2], whole[1::2])
    found: list[list[tuple[float, float]]] = [[], [], []]
    for seen, rest in (halves, halves[::-1]):
        model = LateFusion(Task(task.classes, layouts, train.take(seen), valid, test, task.kind), iterations=100)
        middle = float(np.median(labels))
        for place, split in enumerate((train.take(rest), valid, test)):
            votes = model.votes(split)
            classes = [one.argmax(1) if task.kind == "class" else (one[:, 0] > middle) for one in votes.values()]
            truth = split.labels if task.kind == "class" else np.asarray(split.labels) > middle
            found[place].append(_agreement(classes, truth))
    (train_pair, train_right), (valid_pair, valid_right), (test_pair, _) = (np.mean(one, 0) for one in found)
    pairs = (("validation", valid_pair, len(valid)), ("test", test_pair, len(test)))
    where, new, rows = min(pairs, key=lambda one: float(one[1]))
    return Optimism(
        where,
        float(train_pair),
        float(new),
        float(train_right),
        float(valid_right),
        _error((train_pair, len(train)), (new, rows)),
        _error((train_right, len(train)), (valid_right, len(valid))),
    )


def _error(*shares: tuple[float, int]) -> float:
    """Return the standard error of the difference of shares of so many rows."""
    return math.sqrt(sum(share * (1 - share) / rows for share, rows in shares))


def _agreement(classes: Sequence[NDArray[Any]], truth: NDArray[Any]) -> tuple[float, float]:
    """Return the share of equal predictions, mean over pairs, and the accuracy, mean over modalities."""
    pairs = [float((one == other).mean()) for one, other in combinations(classes, 2)]
    return float(np.mean(pairs)) if pairs else 0.0, float(np.mean([(one == truth).mean() for one in classes]))


def _some(split: AnySplit, layouts: Mapping[str, str]) -> Split:
    """Return pooled features of at most 2000 instances, fewer where they are large, and the same in every call."""
    each = sum(4 * math.prod(shape) for shape in split.shapes.values())
    most = min(len(split), _ROWS, _BYTES // each)
    rows: Integers = np.sort(np.random.default_rng(seeding.derive_seed(0, "optimism")).permutation(len(split))[:most])
    size = max(1, BATCH_BYTES // each)
    chunks = (split.take(rows[start : start + size]) for start in range(0, max(1, most), size))
    features, present = pooled_features(chunks, layouts)
    groups = None if split.groups is None else split.groups[rows]
    return Split(features, split.labels[rows], split.ids[rows], groups, present=present)

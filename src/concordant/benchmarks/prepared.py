"""Benchmarks read from a prepared folder, and how its instances become training, validation and test splits.

`given`: as the splits of the dataset; without a validation split, 15 % of the training instances are held out by the
seed (whole groups where there are groups). `folds`: five folds over all instances, groups kept whole, regardless of
published splits; seed s tests on fold s mod 5, and the folds are redrawn every five seeds. A dataset without splits
("all") is always divided into folds. `given` of a dataset with K published folds: seed s tests on the fold at place
s mod K, and validation is held out of the others.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from concordant.benchmarks.benchmark import FOLDS, VALID, Benchmark
from concordant.data.card import CARD, WHOLE
from concordant.data.split import FOLD, Integers, Task, by_group, class_folds, group_folds, shuffled, stratified
from concordant.data.store import Store
from concordant.data.stored import StoredSplit, everything
from concordant.errors import DataError

PROTOCOLS = ("given", "folds")
OWN = "own"  # benchmark of every dataset that is not a published one
OWN_STEPS = 700  # of its training, where the features do not outnumber the rows
_STEPS_PER_ROOT = 21.0  # steps grow with the root of the rows: 400 for 366, 1200 for 3229, as in the benchmarks
_FEWEST_STEPS, _MOST_STEPS = 200, 3000
SIGNS = ("negative", "not negative")  # classes of real labels


def stored_benchmark(
    name: str,
    summary: str,
    *,
    steps: int,
    setting: str = "convolutional",
    fusion: str = "concat",
    modalities: tuple[str, ...] = ("audio", "visual"),
) -> Benchmark:
    """Return a benchmark that reads a prepared folder.

    Args:
        name: of the benchmark, and of the dataset in the folder; "own" accepts any.
        summary: one line.
        steps: of training.
        setting: "vector", "sequence" or "convolutional".
        fusion: default fusion.
        modalities: in the declared order; none = those of the dataset.
    """
    return Benchmark(
        name=name,
        setting=setting,
        summary=summary,
        fusion=fusion,
        modalities=modalities,
        protocols=PROTOCOLS,
        load=_loader(name),
        split=split,
        files=(CARD,),
        stored=True,
        recipe={"*": {"steps": steps}},
    )


def _loader(name: str) -> Callable[[Path | None], StoredSplit]:
    def load(folder: Path | None) -> StoredSplit:
        store = Store(folder or Path())
        if name not in (OWN, store.card.name):
            raise DataError(f"{store.folder} holds {store.card.name}, not {name}; name another folder with --data")
        return everything(store)

    return load


def recipe_for(rows: int, features: int) -> dict[str, Any]:
    """Return steps and dropout for data that no recipe was searched for; evidence: docs/method.md, "Own data".

    Args:
        rows: of the training split.
        features: of one position of all modalities together, D_1 + D_2 + ...

    >>> recipe_for(272, 1024), recipe_for(426, 273), recipe_for(20_000, 300)
    ({'steps': 346, 'dropout': 0.5}, {'steps': 700, 'dropout': 0.1}, {'steps': 2970, 'dropout': 0.1})
    """
    if features > rows:
        return {"steps": steps_of(rows), "dropout": 0.5}
    return {"steps": max(OWN_STEPS, steps_of(rows)), "dropout": 0.1}


def steps_of(rows: int) -> int:
    """Return the number of steps that grows with the root of the number of training rows."""
    return min(_MOST_STEPS, max(_FEWEST_STEPS, round(_STEPS_PER_ROOT * math.sqrt(rows))))


def training_rows(store: Store, protocol: str) -> int:
    """Return how many instances a dataset trains on, up to rounding and whole groups."""
    kept, names = 1 - VALID, store.card.splits
    if protocol == "folds" or names[0].startswith(FOLD):
        folds = FOLDS if protocol == "folds" else len(names)
        return round(len(store) * (1 - 1 / folds) * kept)
    given = int((store.splits == "train").sum())
    return given if "valid" in names else round(given * kept)


def find_store(name: str, folder: Path) -> Path:
    """Return the folder of a prepared dataset: `folder` itself, or the one of that name within it.

    Raises:
        DataError: neither is one.
    """
    for candidate in (folder, folder / name):
        if (candidate / CARD).is_file():
            return candidate
    if name == OWN:
        raise DataError(
            f"no prepared dataset is in {folder}; name the folder of one with --data, or make one of your own with "
            "`concordant data from-numpy` or `concordant data from-csv` (docs/own-data.md)"
        )
    raise DataError(
        f"no prepared dataset {name} is in {folder}; make one with `concordant data prepare {name} --source PATH "
        f"--out DIR` and name it with --data DIR (`concordant data list` says which files that takes)"
    )


def depends_on_seed(whole: StoredSplit, protocol: str) -> bool:
    """Return whether the splits of seeds differ: not where the dataset has all three."""
    return protocol == "folds" or not {"train", "valid", "test"} <= set(whole.store.splits[whole.index].tolist())


def split(whole: StoredSplit, seed: int, protocol: str) -> Task:
    """Return the splits of a seed.

    Raises:
        DataError: the dataset has no training or no test split, or too few groups for a validation split.
    """
    card, splits = whole.store.card, whole.store.splits[whole.index]
    if card.label.kind == "none":
        raise DataError(f"{whole.store.folder} has no labels to train or test on; `concordant predict` reads it")
    real = card.label.kind == "real"
    if protocol == "folds" or set(splits.tolist()) == {WHOLE}:
        fold = _folds(whole, real, seed // FOLDS)
        test, rest = np.flatnonzero(fold == seed % FOLDS), np.flatnonzero(fold != seed % FOLDS)
        train, valid = _hold_out(whole, rest, real, seed)
    elif card.splits[0].startswith(FOLD):
        here = splits == card.splits[seed % len(card.splits)]
        test = np.flatnonzero(here)
        train, valid = _hold_out(whole, np.flatnonzero(~here), real, seed)
    else:
        rest, valid, test = (np.flatnonzero(splits == part) for part in ("train", "valid", "test"))
        missing = [part for part, rows in (("train", rest), ("test", test)) if not len(rows)]
        if missing:
            raise DataError(
                f"{whole.store.folder}: no instance is in the split {missing[0]!r} (found: "
                f"{', '.join(sorted(set(splits.tolist())))}); use --protocol folds, or prepare it with both"
            )
        train, valid = (rest, valid) if len(valid) else _hold_out(whole, rest, real, seed)
    return Task(
        card.label.classes or SIGNS,
        whole.layouts,
        whole.rows(train),
        whole.rows(valid),
        whole.rows(shuffled(test, 0, card.name, "order")),
        "real" if real else "class",
    )


def _folds(whole: StoredSplit, real: bool, seed: int) -> Integers:
    name = whole.store.card.name
    if whole.groups is not None:
        if len(np.unique(whole.groups)) < FOLDS:
            raise DataError(f"{whole.store.folder}: {FOLDS} folds need {FOLDS} groups; found {len(set(whole.groups))}")
        return group_folds(whole.groups, FOLDS, seed, name, "folds")
    if len(whole) < 2 * FOLDS:
        raise DataError(f"{whole.store.folder}: {FOLDS} folds need {2 * FOLDS} instances; found {len(whole)}")
    if not real and np.bincount(whole.labels).max() >= FOLDS:
        return class_folds(whole.labels, FOLDS, seed, name, "folds")
    return np.argsort(shuffled(np.arange(len(whole)), seed, name, "folds")) % FOLDS


def _hold_out(whole: StoredSplit, rest: Integers, real: bool, seed: int) -> tuple[Integers, Integers]:
    """Divide into training and validation: by group where there are groups, by class where each has enough."""
    stream = (whole.store.card.name, "valid")
    if whole.groups is not None and len(np.unique(whole.groups[rest])) > 1:
        return by_group(rest, whole.groups[rest], VALID, seed, *stream)
    if whole.groups is not None or len(rest) < 2:
        raise DataError(
            f"{whole.store.folder}: no validation split can be held out of the training split: it has {len(rest)} "
            f"{'instances of one group' if whole.groups is not None else 'instance'}; give it more, or a split 'valid'"
        )
    labels, wanted = whole.labels[rest], int(np.ceil(VALID * len(rest)))
    if not real:
        counts = np.unique(labels, return_counts=True)[1]
        if counts.min() > 1 and len(counts) <= wanted:
            return stratified(rest, labels, VALID, seed, *stream)
    order = shuffled(rest, seed, *stream)
    return np.sort(order[wanted:]), np.sort(order[:wanted])


OWN_DATA = stored_benchmark(
    OWN,
    "a dataset of your own, made by `concordant data from-numpy` or `from-csv`: run it by its folder",
    steps=OWN_STEPS,
    setting="sequence",
    fusion="lf-dnn",
    modalities=(),
)

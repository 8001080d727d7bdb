"""From a prepared folder to training, validation and test parts.

`given`: as the dataset's splits say; where it has no validation part, 15 % of the training instances are cut off
by the seed, whole groups where there are groups. `folds`: five folds over all instances, whole groups on a side,
whatever was published; seed s tests on fold s mod 5, and every five seeds the folds are drawn anew. A dataset
without splits ("all") is always cut into folds.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from concordant.benchmarks.benchmark import Benchmark, Splits
from concordant.data.card import CARD, WHOLE, read_card
from concordant.data.split import Integers, by_group, class_folds, group_folds, shuffled, stratified
from concordant.data.store import Store
from concordant.data.stored import StoredSplit, everything
from concordant.errors import DataError

FOLDS = 5
VALID = 0.15
PROTOCOLS = ("given", "folds")
OWN = "own"  # the benchmark of every dataset that is no published one
SIGNS = ("negative", "not negative")  # of real labels


def stored_benchmark(
    name: str, *, setting: str, summary: str, fusion: str, modalities: tuple[str, ...], steps: int
) -> Benchmark:
    """Return the benchmark that reads a prepared folder.

    Args:
        name: of the benchmark, which the folder's card must have; "own" takes any.
        setting: "vector", "sequence" or "convolutional".
        summary: one line.
        fusion: what is used unless another is named.
        modalities: in the declared order; none = as the card has them.
        steps: of training.
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


def modalities_of(folder: Path) -> tuple[str, ...]:
    """Return the modalities of a prepared dataset, in its order."""
    return tuple(read_card(folder).modalities)


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
            f"no prepared dataset is in {folder}; make one of your own with `concordant data from-numpy` or "
            "`concordant data from-csv` (docs/own-data.md), and run it by its folder"
        )
    raise DataError(
        f"no prepared dataset {name} is in {folder}; make one with `concordant data prepare {name} --source PATH "
        f"--out DIR` and name it with --data DIR (`concordant data list` says which files that takes)"
    )


def split(whole: StoredSplit, seed: int, protocol: str) -> Splits:
    """Return the split of a seed.

    Raises:
        DataError: the dataset has no training or no test part, or too few groups to cut a validation part.
    """
    name, kind = whole.store.card.name, "real" if whole.store.card.label.kind == "real" else "class"
    splits = whole.store.splits[whole.index]
    if protocol == "folds" or set(splits.tolist()) == {WHOLE}:
        fold = _folds(whole, kind, seed // FOLDS, name)
        test, rest = np.flatnonzero(fold == seed % FOLDS), np.flatnonzero(fold != seed % FOLDS)
        train, valid = _cut(whole, rest, kind, seed, name)
    else:
        rest, valid, test = (np.flatnonzero(splits == part) for part in ("train", "valid", "test"))
        missing = [part for part, rows in (("train", rest), ("test", test)) if not len(rows)]
        if missing:
            raise DataError(
                f"{whole.store.folder}: no instance is in the split {missing[0]!r} (found: "
                f"{', '.join(sorted(set(splits.tolist())))}); use --protocol folds, or prepare it with both"
            )
        train, valid = (rest, valid) if len(valid) else _cut(whole, rest, kind, seed, name)
    parts = [whole.rows(rows) for rows in (train, valid, shuffled(test, 0, name, "order"))]
    return Splits(
        classes=whole.store.card.label.classes or SIGNS,
        layouts=whole.layouts,
        train=parts[0],
        valid=parts[1],
        test=parts[2],
        kind="real" if kind == "real" else "class",
    )


def _folds(whole: StoredSplit, kind: str, seed: int, name: str) -> Integers:
    if whole.groups is not None:
        if len(np.unique(whole.groups)) < FOLDS:
            raise DataError(f"{whole.store.folder}: {FOLDS} folds need {FOLDS} groups; found {len(set(whole.groups))}")
        return group_folds(whole.groups, FOLDS, seed, name, "folds")
    if len(whole) < 2 * FOLDS:
        raise DataError(f"{whole.store.folder}: {FOLDS} folds need {2 * FOLDS} instances; found {len(whole)}")
    if kind == "class" and np.bincount(whole.labels).max() >= FOLDS:
        return class_folds(whole.labels, FOLDS, seed, name, "folds")
    return np.argsort(shuffled(np.arange(len(whole)), seed, name, "folds")) % FOLDS


def _cut(whole: StoredSplit, rest: Integers, kind: str, seed: int, name: str) -> tuple[Integers, Integers]:
    """Cut the validation part off, by group where there are groups, else by class where each has enough."""
    if whole.groups is not None and len(np.unique(whole.groups[rest])) > 1:
        return by_group(rest, whole.groups[rest], VALID, seed, name, "valid")
    if whole.groups is not None or len(rest) < 2:
        raise DataError(
            f"{whole.store.folder}: no validation part can be cut off the training part: it has {len(rest)} "
            f"{'instances of one group' if whole.groups is not None else 'instance'}; give it more, or a split 'valid'"
        )
    labels, wanted = whole.labels[rest], int(np.ceil(VALID * len(rest)))
    if kind == "class":
        counts = np.unique(labels, return_counts=True)[1]
        if counts.min() > 1 and len(counts) <= wanted:
            return stratified(rest, labels, VALID, seed, name, "valid")
    order = shuffled(rest, seed, name, "valid")
    return np.sort(order[wanted:]), np.sort(order[:wanted])


STORED = (
    stored_benchmark(
        "cmu-mosi",
        setting="sequence",
        summary="CMU-MOSI: sentiment from -3 to 3 of spoken opinions by text, audio and vision",
        fusion="mult",
        modalities=("text", "audio", "vision"),
        steps=700,
    ),
    stored_benchmark(
        "cmu-mosei",
        setting="sequence",
        summary="CMU-MOSEI: sentiment from -3 to 3 of spoken opinions by text, audio and vision",
        fusion="mult",
        modalities=("text", "audio", "vision"),
        steps=2500,
    ),
    stored_benchmark(
        "ave",
        setting="convolutional",
        summary="AVE: 28 audio-visual events or the background, for every second of a clip",
        fusion="concat",
        modalities=("audio", "visual"),
        steps=2000,
    ),
    stored_benchmark(
        "ave-clips",
        setting="convolutional",
        summary="AVE: 28 audio-visual events, one a clip",
        fusion="concat",
        modalities=("audio", "visual"),
        steps=2000,
    ),
    stored_benchmark(
        "crema-d",
        setting="convolutional",
        summary="CREMA-D: six emotions of 91 actors by spectrogram and face frames",
        fusion="concat",
        modalities=("audio", "visual"),
        steps=4000,
    ),
    stored_benchmark(
        "kinetics-sounds",
        setting="convolutional",
        summary="Kinetics-Sounds: 31 actions that are seen and heard, by spectrogram and frames",
        fusion="concat",
        modalities=("audio", "visual"),
        steps=5000,
    ),
    stored_benchmark(
        "ucf101",
        setting="convolutional",
        summary="UCF-101: 101 actions by RGB frames and optical flow",
        fusion="concat",
        modalities=("rgb", "flow"),
        steps=3000,
    ),
    stored_benchmark(
        "utd-mhad-mat",
        setting="sequence",
        summary="UTD-MHAD from its own files: 27 actions by skeleton, inertial and depth sequences",
        fusion="transformer",
        modalities=("skeleton", "inertial", "depth"),
        steps=400,
    ),
    stored_benchmark(
        OWN,
        setting="sequence",
        summary="a dataset of your own, made by `concordant data from-numpy` or `from-csv`: run it by its folder",
        fusion="lf-dnn",
        modalities=(),
        steps=700,
    ),
)

"""Unscaled instances: the splits of a run's benchmark, or all of another prepared dataset.

A store is read on demand.
Axis letters: N instances; the rest is the modality's layout without its batch axis.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from concordant.benchmarks.catalogue import BENCHMARKS
from concordant.data.split import AnySplit, Task
from concordant.data.store import Store
from concordant.data.stored import everything
from concordant.deploy.deployed import Description
from concordant.errors import DataError
from concordant.training.config import Config


@dataclass(frozen=True)
class Instances:
    """Unscaled instances to predict.

    Args:
        split: the instances.
        classes: the names of their labels, by index; none where labels are numbers.
        labelled: whether there are labels.
    """

    split: AnySplit
    classes: tuple[str, ...]
    labelled: bool = True


def raw_parts(config: Config, seed: int, source: Path | None) -> Task:
    """Return the unscaled splits of one seed; `source` is what `concordant.benchmarks.catalogue.folder_of` returned."""
    benchmark = BENCHMARKS[config.benchmark]
    return benchmark.split(benchmark.load(source), seed, config.protocol).only(config.modalities)


def all_instances(folder: Path, about: Description) -> Instances:
    """Return every instance of a prepared dataset, for the model to be asked.

    Raises:
        DataError: it is no dataset, or lacks a modality, or has one of another layout or size.
    """
    whole = everything(Store(folder))
    missing = [name for name in about.names if name not in whole.modalities]
    if missing:
        raise DataError(
            f"{folder} has no modality {', '.join(missing)}, which the model reads; it has "
            f"{', '.join(whole.modalities)}"
        )
    split = whole.only(about.names)
    layouts, shapes, faults = split.layouts, split.shapes, []
    for name in about.names:
        wanted, found = _described(about.layouts[name], about.shapes[name]), _described(layouts[name], shapes[name])
        if found != wanted:
            faults.append(f"{name} must be {wanted} an instance; found {found}")
    if faults:
        raise DataError(f"{folder} does not fit the model: {'; '.join(faults)}; prepare it as the training data were")
    return Instances(split, whole.store.card.label.classes, whole.store.card.label.kind != "none")


def _described(layout: str, shape: tuple[int, ...]) -> str:
    """Return a layout and the sizes of an instance as text, with T for the length."""
    sizes = ["T" if axis == "t" else str(size) for axis, size in zip(layout[1:], shape, strict=True)]
    return f"{layout} with {' x '.join(sizes)}"

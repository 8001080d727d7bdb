"""Types shared by all benchmarks: `Benchmark` with its waveforms, and `Dataset`, the published files behind it.

Axis letters: N instances, S samples of a waveform.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from concordant.data.arrays import Array
from concordant.data.formats.clips import MediaOptions
from concordant.data.reading import Reading
from concordant.data.split import Bools, Floats, Integers, Split, Task, by_group, stratified
from concordant.errors import UsageError

FOLDS = 5  # where seed s tests on fold s mod 5; the folds are redrawn every five seeds
VALID = 0.15  # share of the training rows (or groups) held out for validation
FILM_OPTIONS = ("fps", "frames", "size", "processes", "may_fail", "cache")  # of `concordant data prepare`


def divide(
    source: Split,
    test: Bools,
    seed: int,
    name: str,
    classes: tuple[str, ...],
    layouts: dict[str, str],
    *,
    share: float = VALID,
    grouped: bool = False,
) -> Task:
    """Return the splits of a seed: given test rows, bool (N,), and the others divided into training and validation.

    `share` of the others validates, stratified by class, or `grouped`: whole groups. The benchmark's name is that of
    the random stream.
    """
    rest = np.flatnonzero(~test)
    if grouped:
        train, valid = by_group(rest, np.asarray(source.groups)[rest], share, seed, name, "valid")
    else:
        train, valid = stratified(rest, source.labels[rest], share, seed, name, "valid")
    return Task(classes, layouts, source.take(train), source.take(valid), source.take(np.flatnonzero(test)))


@dataclass(frozen=True)
class Waves:
    """Waveforms behind one modality of a split, for corruptions of the recording itself.

    Args:
        waves: (N, S), 0 beyond their ends.
        lengths: samples of each (N,).
        rate: samples per second.
        inputs: function from waveforms (n, S) to the modality's inputs (n, ...) in its layout.
    """

    waves: Floats
    lengths: Integers
    rate: float
    inputs: Callable[[Floats], Floats]


@dataclass(frozen=True)
class Benchmark:
    """A benchmark of `concordant run`: where its data are, how they are split, its default fusion and recipe.

    Args:
        name: on the command line.
        setting: "vector", "sequence" or "convolutional".
        summary: one line.
        fusion: default fusion.
        modalities: in the declared order.
        protocols: ways to split it; the first is the default.
        load: reads and checks the raw arrays; takes the data folder, or None for embedded data.
        split: raw arrays, seed, protocol -> splits that are not scaled yet.
        files: read from the data folder; none for data that an installed package embeds.
        stored: read from a prepared folder (`concordant data prepare`), not from the data folder.
        natures: modality -> what its maps are, where they are not images: "spectrogram".
        waves: modality -> function from raw arrays, seed and protocol to the waveforms of the test split, whose
            inputs are not scaled yet; none where no waveform is available.
        recipe: protocol, or "*" for all, -> fields of the training recipe that differ from the defaults.
    """

    name: str
    setting: str
    summary: str
    fusion: str
    modalities: tuple[str, ...]
    protocols: tuple[str, ...]
    load: Callable[[Path | None], Any]
    split: Callable[[Any, int, str], Task]
    files: tuple[str, ...] = ()
    stored: bool = False
    natures: Mapping[str, str] = field(default_factory=dict)
    waves: Mapping[str, Callable[[Any, int, str], Waves]] = field(default_factory=dict)
    recipe: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def recipe_for(self, protocol: str) -> dict[str, Any]:
        """Return the recipe fields set under a protocol."""
        return {**self.recipe.get("*", {}), **self.recipe.get(protocol, {})}


@dataclass(frozen=True)
class Dataset:
    """A published dataset that `concordant data prepare` reads; the result is read by the benchmark of the same name.

    Args:
        name: on the command line.
        title: one line.
        size: of the files that are read, approximately.
        licence: or terms of use.
        home: where to get it.
        files: what `--source` must be.
        citation: of the paper that published it.
        flaws: known faults of the published data.
        read: function from the source and the given options to a reading, or to the arrays of an archive.
        archive: the NumPy archive that is written; none = a folder of Arrow files.
        published: split -> number of instances, by the paper; "all" where there are no published splits.
        options: of `concordant data prepare` that apply.
        classes: split -> number of instances per class, by the published lists.
    """

    name: str
    title: str
    size: str
    licence: str
    home: str
    files: str
    citation: str
    flaws: tuple[str, ...]
    read: Callable[[Path, Mapping[str, Any]], Reading | dict[str, Array]]
    archive: str = ""
    published: Mapping[str, int] = field(default_factory=dict)
    options: tuple[str, ...] = ()
    classes: Mapping[str, Sequence[int]] = field(default_factory=dict)

    def open(self, source: Path, options: Mapping[str, Any]) -> Reading | dict[str, Array]:
        """Return a reading of the source, or the arrays of the archive.

        Raises:
            UsageError: options do not apply to this dataset.
            DataError: the source cannot be used.
        """
        strange = [name for name in options if name not in self.options]
        if strange:
            does = "does" if len(strange) == 1 else "do"
            known = _flags(self.options) or "no options"
            raise UsageError(f"{_flags(strange)} {does} not apply to {self.name}, which takes {known}")
        return self.read(source, options)


def _flags(names: Sequence[str]) -> str:
    return ", ".join(f"--{name.replace('_', '-')}" for name in names)


def media_options(default: MediaOptions, options: Mapping[str, Any]) -> MediaOptions:
    """Return a dataset's decoding options, replaced by those that were given."""
    return replace(default, **{name: value for name, value in options.items() if name not in ("lists", "split")})

"""What a benchmark is: where its files are, how it is split, and how a model of it is trained by default."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from concordant.benchmarks.waves import Waves
from concordant.data.split import AnySplit, LabelKind


@dataclass(frozen=True)
class Splits:
    """One split of a benchmark, not scaled yet.

    Args:
        classes: class names, by index.
        layouts: modality -> layout, batch first.
        train: the training part.
        valid: the validation part.
        test: the test part.
        kind: of the labels.
    """

    classes: tuple[str, ...]
    layouts: dict[str, str]
    train: AnySplit
    valid: AnySplit
    test: AnySplit
    kind: LabelKind = "class"


@dataclass(frozen=True)
class Benchmark:
    """A benchmark that an experiment can choose.

    Args:
        name: what a user types.
        setting: "vector", "sequence" or "convolutional".
        summary: one line.
        fusion: the fusion that is used unless another is named.
        modalities: in the declared order.
        protocols: how it can be split; the first unless another is named.
        load: reads and checks the raw arrays; takes the data folder, or None where nothing is read.
        split: raw arrays, seed, protocol -> parts.
        files: read from the data folder; none where the data come with an installed package.
        stored: it is read from a prepared folder (`concordant data prepare`), not from the data folder.
        natures: modality -> what its maps are, where they are no images: "spectrogram".
        waves: modality -> from raw arrays, seed and protocol to the waveforms of the test part, whose inputs are not
            scaled yet; none where no waveform is at hand.
        recipe: protocol, or "*" for all, -> fields of the training recipe that differ from the defaults.
    """

    name: str
    setting: str
    summary: str
    fusion: str
    modalities: tuple[str, ...]
    protocols: tuple[str, ...]
    load: Callable[[Path | None], Any]
    split: Callable[[Any, int, str], Splits]
    files: tuple[str, ...] = ()
    stored: bool = False
    natures: Mapping[str, str] = field(default_factory=dict)
    waves: Mapping[str, Callable[[Any, int, str], Waves]] = field(default_factory=dict)
    recipe: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def recipe_for(self, protocol: str) -> dict[str, Any]:
        """Return the recipe fields that this benchmark sets under a protocol."""
        return {**self.recipe.get("*", {}), **self.recipe.get(protocol, {})}

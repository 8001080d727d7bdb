"""The benchmarks by name, and the way from a name to scaled parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from concordant.benchmarks.av_digits import AV_DIGITS
from concordant.benchmarks.benchmark import Benchmark
from concordant.benchmarks.cmu_mosi_utterance import CMU_MOSI_UTTERANCE
from concordant.benchmarks.digits import DIGITS
from concordant.benchmarks.handwritten import HANDWRITTEN
from concordant.benchmarks.prepared import OWN, STORED, find_store, modalities_of
from concordant.benchmarks.ravdess import RAVDESS
from concordant.benchmarks.resnet_features import AVE_FEATURES, CREMAD_FEATURES
from concordant.benchmarks.scene15 import SCENE15
from concordant.benchmarks.utd_mhad import UTD_MHAD
from concordant.benchmarks.waves import Waves
from concordant.data.archives import find_data_folder, named_data
from concordant.data.card import CARD, read_card
from concordant.data.remote import fetch, fetch_store, is_url
from concordant.data.scaling import Scale, apply, fit_chunks, scale_splits
from concordant.data.split import AnySplit, Split, Task
from concordant.data.stored import StoredSplit, memory_budget, scale_stored
from concordant.errors import UsageError
from concordant.registry import Registry

BENCHMARKS: Registry[Benchmark] = Registry("benchmark")
for _benchmark in (
    DIGITS,
    SCENE15,
    HANDWRITTEN,
    CMU_MOSI_UTTERANCE,
    UTD_MHAD,
    RAVDESS,
    CREMAD_FEATURES,
    AVE_FEATURES,
    AV_DIGITS,
    *STORED,
):
    BENCHMARKS.add(_benchmark.name, _benchmark)


def prepare(
    name: str,
    *,
    seed: int,
    data: Path | str | None = None,
    modalities: Sequence[str] | None = None,
    protocol: str | None = None,
) -> Task:
    """Return one split of a benchmark, scaled on its training part.

    What was read and split last stays in memory, so that twins share it; do not change the arrays.

    Args:
        name: of the benchmark.
        seed: of the split; 0 or more.
        data: the data folder or its URL; None = the one that CONCORDANT_DATA names, or ../shared/data.
        modalities: which are kept, in this order; None = all.
        protocol: how it is split; None = the benchmark's first.

    Raises:
        UsageError: the benchmark, a modality or the protocol is unknown (the choices are listed), or no
            modality is named, or one twice.
        DataError: a file is absent or cannot be used.

    >>> task = prepare("digits", seed=0)
    >>> task.train.inputs["left"].shape[1:], len(task.test)
    ((1, 8, 4), 360)
    """
    benchmark = BENCHMARKS[name]
    folder = folder_of(name, data) if benchmark.stored else None
    known = modalities_of(folder) if folder is not None else benchmark.modalities
    kept = tuple(modalities) if modalities is not None else known
    unknown = [modality for modality in kept if modality not in known]
    if unknown:
        raise UsageError(f"unknown modality {unknown[0]!r} of {name}; choose from: {', '.join(known)}")
    if not kept or len(set(kept)) < len(kept):
        raise UsageError(f"modalities must name one or more of {', '.join(known)}, each once; found {kept}")
    chosen = protocol if protocol is not None else benchmark.protocols[0]
    if chosen not in benchmark.protocols:
        raise UsageError(f"unknown protocol {chosen!r} of {name}; choose from: {', '.join(benchmark.protocols)}")
    return _prepare(name, folder_of(name, data), seed, kept, chosen)


def folder_of(name: str, data: Path | str | None = None) -> Path | None:
    """Return the folder that a benchmark is read from, or None where nothing is read.

    Args:
        name: of the benchmark.
        data: the data folder, or the folder of a prepared dataset, or the URL of either, of which a local copy is
            made (`concordant.data.remote`); None = as for `prepare`.

    Raises:
        DataError: it is not there, or cannot be copied.
    """
    benchmark = BENCHMARKS[name]
    if not benchmark.files:
        return None
    named = named_data(data)
    if isinstance(named, str) and is_url(named):
        return (fetch_store(named, name) if benchmark.stored else fetch(named, benchmark.files)).resolve()
    folder = find_data_folder(data, files=benchmark.files)
    return (find_store(name, folder) if benchmark.stored else folder).resolve()


def natures_of(name: str, folder: Path | None) -> dict[str, str]:
    """Return modality -> what its maps are, where they are no images; of a prepared dataset as its card says.

    Args:
        name: of the benchmark.
        folder: what `folder_of` returned.
    """
    benchmark = BENCHMARKS[name]
    if not benchmark.stored or folder is None:
        return dict(benchmark.natures)
    known = read_card(folder).modalities
    return {modality: card.kind for modality, card in known.items() if card.kind not in ("vision", "other")}


def waves_of(name: str, *, seed: int, data: Path | str | None = None, protocol: str | None = None) -> dict[str, Waves]:
    """Return modality -> the waveforms behind the test part, where a benchmark has them at hand.

    Their inputs come out scaled as those of `prepare` are.

    Args: as for `prepare`.
    """
    benchmark, folder = BENCHMARKS[name], folder_of(name, data)
    chosen = protocol if protocol is not None else benchmark.protocols[0]
    found = {}
    for modality, read in benchmark.waves.items():
        raw = _load(name, folder)
        parts = benchmark.split(raw, seed, chosen)
        scale = fit_chunks(parts.train.chunks(), parts.layouts)[modality]
        found[modality] = _scaled_waves(read(raw, seed, chosen), scale, parts.layouts[modality])
    return found


def _scaled_waves(waves: Waves, scale: Scale, layout: str) -> Waves:
    return replace(waves, inputs=lambda changed: apply(scale, waves.inputs(changed), layout))


def is_store(text: str) -> bool:
    """Say whether a user named a prepared dataset, by its folder or a URL, where a benchmark's name is expected."""
    return is_url(text) or (text not in BENCHMARKS and (Path(text) / CARD).is_file())


def store_at(text: str) -> Path:
    """Return the folder of a prepared dataset that a user named by its folder or a URL.

    Raises:
        DataError: it is not there, or cannot be copied.
    """
    return fetch_store(text, OWN) if is_url(text) else Path(text)


def stored_as(folder: Path) -> tuple[str, str, tuple[str, ...]]:
    """Return the benchmark that a prepared dataset is run as, the dataset's name, and its modalities."""
    card = read_card(folder)
    known = card.name in BENCHMARKS and BENCHMARKS[card.name].stored
    return card.name if known else OWN, card.name, tuple(card.modalities)


@lru_cache(maxsize=2)
def _prepare(name: str, folder: Path | None, seed: int, modalities: tuple[str, ...], protocol: str) -> Task:
    parts = BENCHMARKS[name].split(_load(name, folder), seed, protocol)
    layouts = {modality: parts.layouts[modality] for modality in modalities}
    train, valid, test = _scaled(
        (_only(parts.train, modalities), _only(parts.valid, modalities), _only(parts.test, modalities)), layouts
    )
    return Task(parts.classes, layouts, train, valid, test, parts.kind)


def _scaled(
    parts: tuple[AnySplit, AnySplit, AnySplit], layouts: Mapping[str, str]
) -> tuple[AnySplit, AnySplit, AnySplit]:
    """Return the parts scaled by the first: in memory where they are, or where they fit the budget."""
    train, valid, test = parts
    if isinstance(train, StoredSplit) and isinstance(valid, StoredSplit) and isinstance(test, StoredSplit):
        if train.nbytes + valid.nbytes + test.nbytes > memory_budget():
            return scale_stored((train, valid, test))
        train, valid, test = (part.take(slice(None)) for part in (train, valid, test))
    if not (isinstance(train, Split) and isinstance(valid, Split) and isinstance(test, Split)):
        raise TypeError("parts are all in memory, or all in a store")
    return scale_splits((train, valid, test), layouts)


@lru_cache(maxsize=2)
def _load(name: str, folder: Path | None) -> Any:  # noqa: ANN401 - each benchmark has arrays of its own
    return BENCHMARKS[name].load(folder)


def _only(part: AnySplit, modalities: tuple[str, ...]) -> AnySplit:
    """Return the part with these modalities alone."""
    if isinstance(part, StoredSplit):
        return replace(part, modalities=modalities)
    if not isinstance(part, Split):
        raise TypeError(f"a part is in memory or in a store; found {type(part).__name__}")
    return Split(
        inputs={name: part.inputs[name] for name in modalities},
        labels=part.labels,
        ids=part.ids,
        groups=part.groups,
        masks={name: part.masks[name] for name in modalities if name in part.masks},
        present={name: part.present[name] for name in modalities if name in part.present},
    )

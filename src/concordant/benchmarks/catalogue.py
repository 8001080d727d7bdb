"""Benchmarks and datasets by name, and `prepare`: from a name to scaled training, validation and test splits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

from concordant.benchmarks import actions, emotions, events, sentiment, small
from concordant.benchmarks.benchmark import Benchmark, Dataset, Waves
from concordant.benchmarks.prepared import (
    OWN,
    OWN_DATA,
    PROTOCOLS,
    depends_on_seed,
    find_store,
    recipe_for,
    training_rows,
)
from concordant.data.archives import default_folder, find_data_folder, is_url, named_data
from concordant.data.card import CARD, WHOLE, read_card
from concordant.data.checking import check_store
from concordant.data.remote import fetch, fetch_store
from concordant.data.scaling import Scale, apply, fit_chunks
from concordant.data.sharing import SharedTask, share
from concordant.data.split import Floats, Task
from concordant.data.store import Store
from concordant.data.stored import load_if_it_fits
from concordant.errors import DataError, UsageError
from concordant.registry import Registry

BENCHMARKS: Registry[Benchmark] = Registry("benchmark")
for _benchmark in (
    small.DIGITS,
    small.SCENE15,
    small.HANDWRITTEN,
    sentiment.CMU_MOSI_UTTERANCE,
    actions.UTD_MHAD,
    emotions.RAVDESS,
    emotions.CREMAD_FEATURES,
    events.AVE_FEATURES,
    small.AV_DIGITS,
    sentiment.CMU_MOSI,
    sentiment.CMU_MOSEI,
    events.AVE,
    events.AVE_CLIPS,
    emotions.CREMA_D,
    actions.KINETICS_SOUNDS,
    actions.UCF101,
    actions.UTD_MHAD_MAT,
    OWN_DATA,
):
    BENCHMARKS.add(_benchmark.name, _benchmark)

DATASETS: Registry[Dataset] = Registry("dataset")
for _dataset in (
    *small.DATASETS,
    *sentiment.DATASETS,
    *events.DATASETS,
    *emotions.DATASETS,
    *actions.DATASETS,
):
    DATASETS.add(_dataset.name, _dataset)


#: Name, folder, seed, modalities and protocol.
_Key = tuple[str, Path | None, int, tuple[str, ...], str]
_mapped: dict[_Key, Task] = {}  # what another process has prepared


def prepare(
    name: str,
    *,
    seed: int,
    data: Path | str | None = None,
    modalities: Sequence[str] | None = None,
    protocol: str | None = None,
) -> Task:
    """Return one division of a benchmark into splits, scaled on its training split.

    The last results stay in memory, so twins share them; do not change the arrays.

    Args:
        name: of the benchmark.
        seed: of the division; 0 or more.
        data: the data folder or its URL; None = the one that CONCORDANT_DATA names, or the user's.
        modalities: to keep, in this order; None = all.
        protocol: None = the first of the benchmark.

    Raises:
        UsageError: the benchmark, a modality or the protocol is unknown (the choices are listed), or no
            modality is named, or one twice.
        DataError: a file is absent or cannot be used.

    >>> task = prepare("digits", seed=0)
    >>> task.train.inputs["left"].shape[1:], len(task.test)
    ((1, 8, 4), 360)
    """
    key = _key(name, seed, data, modalities, protocol)
    return _mapped[key] if key in _mapped else _prepare(*key)


def share_prepared(name: str, **options: Any) -> tuple[_Key, SharedTask] | None:  # noqa: ANN401 - as for `prepare`
    """Move a task that is the same for all seeds into memory that worker processes can map; None = it is not possible.

    Args: as for `prepare`, but for the seed.
    """
    key = _key(name, 0, **options)
    if _key(name, 1, **options) != key:
        return None
    shared = share(_prepare(*key))
    return None if shared is None else (key, shared)


def open_prepared(shared: Sequence[tuple[_Key, SharedTask]]) -> None:
    """Have `prepare` return what another process has prepared; where a system forbids that, it prepares it again."""
    for key, task in shared:
        with suppress(OSError):
            _mapped[key] = task.open()


def _key(name: str, seed: int, data: Path | str | None, modalities: Sequence[str] | None, protocol: str | None) -> _Key:
    benchmark, folder = BENCHMARKS[name], None
    known = benchmark.modalities
    if benchmark.stored:
        folder = folder_of(name, data)
        known = tuple(read_card(folder or Path()).modalities)
    kept = tuple(modalities) if modalities is not None else known
    unknown = [modality for modality in kept if modality not in known]
    if unknown:
        raise UsageError(f"unknown modality {unknown[0]!r} of {name}; choose from: {', '.join(known)}")
    if not kept or len(set(kept)) < len(kept):
        raise UsageError(f"modalities must name one or more of {', '.join(known)}, each once; found {kept}")
    chosen = protocol if protocol is not None else benchmark.protocols[0]
    if chosen not in benchmark.protocols:
        raise UsageError(f"unknown protocol {chosen!r} of {name}; choose from: {', '.join(benchmark.protocols)}")
    place = folder or folder_of(name, data)
    if benchmark.stored:
        seed = seed if depends_on_seed(_load(name, place), chosen) else 0  # held once for all seeds
    return name, place, seed, kept, chosen


def folder_of(name: str, data: Path | str | None = None) -> Path | None:
    """Return the folder of a benchmark's data, or None for embedded data.

    Args:
        name: of the benchmark.
        data: the data folder, the folder of a prepared dataset, or the URL of either, which is copied to a local
            cache (`concordant.data.remote`); None = as for `prepare`.

    Raises:
        DataError: it does not exist, or cannot be copied.
    """
    benchmark = BENCHMARKS[name]
    if not benchmark.files:
        return None
    named = named_data(data)
    if isinstance(named, str) and is_url(named):
        return (fetch_store(named, name) if benchmark.stored else fetch(named, benchmark.files)).resolve()
    folder = find_data_folder(data, files=benchmark.files)
    return (find_store(name, folder) if benchmark.stored else folder).resolve()


def found_at(name: str, data: Path | str | None = None) -> Path | None:
    """Return where the data of a dataset are, in a data folder on this machine; None where they are not there.

    `data`: as for `prepare`.
    """
    named = named_data(data)
    if is_url(named):
        return None
    folder = Path(named) if named is not None else default_folder()
    archive = DATASETS[name].archive
    places = [folder / archive] if archive else [folder / CARD, folder / name / CARD]
    for place in places:
        try:
            if place.is_file() and (archive or read_card(place.parent).name == name):
                return place if archive else place.parent
        except DataError:  # a broken card; `concordant data check` reports it
            continue
    return None


def natures_of(name: str, folder: Path | None) -> dict[str, str]:
    """Return modality -> what its maps are, where they are not images; for a prepared dataset, by its card.

    The folder is that of `folder_of`.
    """
    benchmark = BENCHMARKS[name]
    if not benchmark.stored or folder is None:
        return dict(benchmark.natures)
    known = read_card(folder).modalities
    return {modality: card.kind for modality, card in known.items() if card.kind not in ("vision", "other")}


def waves_of(name: str, *, seed: int, data: Path | str | None = None, protocol: str | None = None) -> dict[str, Waves]:
    """Return modality -> the waveforms behind the test split, where a benchmark has them.

    Their inputs are scaled as those of `prepare` are.

    Args: as for `prepare`.
    """
    benchmark, folder = BENCHMARKS[name], folder_of(name, data)
    chosen = protocol if protocol is not None else benchmark.protocols[0]
    found = {}
    for modality, read in benchmark.waves.items():
        raw = _load(name, folder)
        splits = benchmark.split(raw, seed, chosen)
        scale = fit_chunks(splits.train.chunks(), splits.layouts)[modality]
        waves = read(raw, seed, chosen)
        found[modality] = replace(waves, inputs=partial(_scaled, waves.inputs, scale, splits.layouts[modality]))
    return found


def _scaled(inputs: Callable[[Floats], Floats], scale: Scale, layout: str, waves: Floats) -> Floats:
    return apply(scale, inputs(waves), layout)


def is_store(text: str, data: object = None) -> bool:
    """Return whether a name on the command line is the folder or URL of a prepared dataset, not a benchmark.

    Raises:
        UsageError: it is both, and no data folder is given.
    """
    there = is_url(text) or (Path(text) / CARD).is_file()
    if there and text in BENCHMARKS and data is None:
        raise UsageError(f"{text} is a benchmark and a prepared dataset in this folder; write ./{text} for the dataset")
    return there and text not in BENCHMARKS


def store_at(text: str) -> Path:
    """Return the folder of a prepared dataset, given its folder or URL.

    Raises:
        DataError: it does not exist, or cannot be copied.
    """
    if not is_url(text):
        return Path(text)
    return fetch_store(text, OWN)


class Stored(NamedTuple):
    """How a prepared dataset is run.

    Args:
        benchmark: that it is run as, "own" unless its name is that of a published dataset.
        name: of the dataset.
        modalities: in the declared order.
        protocol: of its splits.
        recipe: fields of the training recipe that follow from the data; none for a published dataset.
    """

    benchmark: str
    name: str
    modalities: tuple[str, ...]
    protocol: str
    recipe: dict[str, Any]


def stored_as(folder: Path, protocol: str | None = None) -> Stored:
    """Return how a prepared dataset is run.

    Args:
        folder: of the dataset.
        protocol: of its splits; None = "given" where instances have splits, else "folds".

    Raises:
        UsageError: the protocol is "given", and there are no splits.
    """
    store = Store(folder)
    card, given = store.card, set(store.splits.tolist()) != {WHOLE}
    known = card.name in BENCHMARKS and BENCHMARKS[card.name].stored
    if protocol == PROTOCOLS[0] and not given:
        raise UsageError(f"protocol given: {card.name} has no given splits; leave the protocol out, which takes folds")
    if protocol is None:
        protocol = PROTOCOLS[0] if given else PROTOCOLS[1]
    benchmark = card.name if known else OWN
    features = sum(one.shape[one.channel] or 0 for one in card.modalities.values())
    recipe = recipe_for(training_rows(store, protocol), features) if benchmark == OWN else {}
    return Stored(benchmark, card.name, tuple(card.modalities), protocol, recipe)


@lru_cache(maxsize=2)
def _prepare(name: str, folder: Path | None, seed: int, modalities: tuple[str, ...], protocol: str) -> Task:
    benchmark = BENCHMARKS[name]
    raw = _load(name, folder)
    task = benchmark.split(raw, seed, protocol).only(modalities)
    if benchmark.stored:
        check_store(raw.store, modalities, folds=protocol == "folds")
        task = load_if_it_fits(task)
    return task.scaled(in_place=benchmark.stored)  # what was read from a store is of this task alone


@lru_cache(maxsize=2)
def _load(name: str, folder: Path | None) -> Any:  # noqa: ANN401 - each benchmark has arrays of its own
    return BENCHMARKS[name].load(folder)

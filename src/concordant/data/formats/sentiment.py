"""Published pickles of CMU-MOSI and CMU-MOSEI: which of three formats a file has, and what all three share.

MMSA (thuiar/MMSA: `aligned_50.pkl`, `unaligned_50.pkl`), MulT (`mosi_data.pkl`, `mosei_senti_data_noalign.pkl`)
and MultiBench (`mosi_raw.pkl`) hold a dictionary a split, with arrays padded to one length. Sequences are cut to
their true length here. A sequence without a single value other than 0 is absent.
Shapes: text, audio, vision (N, T, D), read from the file; labels (N,), (N, 1) or (N, 1, 1).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from concordant.data.card import Card, Kind, LabelCard, ModalityCard
from concordant.data.digest import sources
from concordant.data.formats.pickles import read_pickle
from concordant.data.reading import Findings, Reading
from concordant.data.store import Instance
from concordant.errors import DataError

KINDS: dict[str, Kind] = {"text": "text", "audio": "audio", "vision": "vision"}
SPLITS = ("train", "valid", "test")
MOST = 3.0  # sentiment lies from -3 to 3
#: Published numbers of instances.
PUBLISHED = {
    "cmu-mosi": {"train": 1284, "valid": 229, "test": 686},
    "cmu-mosei": {"train": 16326, "valid": 1871, "test": 4659},
}
_OPTIONAL = ("id", "audio_lengths", "vision_lengths")  # keys that some files have
_TEXTS = {768: "BERT features (bert-base)", 300: "GloVe word vectors"}

Array = NDArray[Any]
Spans = dict[str, NDArray[np.int64]]  # modality -> first and last + 1 valid step of each instance, (N, 2)


class _Checked(NamedTuple):
    """One split of a file, checked.

    Args:
        arrays: modality -> (N, T, D), as they are in the file.
        labels: (N,).
        ids: (N,), or None where the file has none.
        groups: videos (N,), or None.
    """

    arrays: dict[str, Array]
    labels: NDArray[np.float64]
    ids: list[str] | None
    groups: list[str] | None


class Format(NamedTuple):
    """What tells a format from the others, and how it is read.

    Args:
        name: of the format.
        keys: of a split that it must have.
        labels: the key of the labels.
        names: from a split's dictionary to ids and videos, or None.
        spans: from a split's dictionary and arrays to where sequences are valid.
        drop: from spans to the instances that are left out, bool (N,).
        notes: what a user should know.
    """

    name: str
    keys: tuple[str, ...]
    labels: str
    names: Callable[[Mapping[str, Array]], tuple[list[str], list[str]] | None]
    spans: Callable[[Mapping[str, Array], Mapping[str, Array], str], Spans]
    drop: Callable[[Spans], NDArray[np.bool_]]
    notes: tuple[str, ...]


def read_sentiment(path: Path, *, name: str) -> Reading:
    """Read a published pickle, whichever of the three formats it has.

    Args:
        path: the file.
        name: of the dataset: "cmu-mosi" or "cmu-mosei".

    Raises:
        DataError: it is no pickle of these, or keys, shapes, lengths or labels do not fit each other.
    """
    from concordant.data.formats.mmsa import MMSA
    from concordant.data.formats.mult import MULT, MULTIBENCH

    content = read_pickle(path)
    found = recognise(content, path, {"MMSA": MMSA, "MulT": MULT, "MultiBench": MULTIBENCH})
    findings = Findings()
    held = {part: _arrays(content[part], found, f"{path}, {part}") for part in SPLITS if part in content}
    splits = {part: _split(one, found, f"{path}, {part}") for part, one in held.items()}
    spans = {part: found.spans(held[part], one.arrays, f"{path}, {part}") for part, one in splits.items()}
    first = next(iter(splits.values()))
    sizes = {modality: array.shape[2] for modality, array in first.arrays.items()}
    for part, one in splits.items():
        for modality, array in one.arrays.items():
            if array.shape[2] != sizes[modality]:
                raise DataError(
                    f"{path}: {modality} has {sizes[modality]} features in one split and {array.shape[2]} in {part}"
                )
    grouped = all(one.groups is not None for one in splits.values())
    notes = [*found.notes]
    if sizes["text"] in _TEXTS:
        notes.append(f"text looks like {_TEXTS[sizes['text']]}, by its {sizes['text']} features")
    if not grouped:
        notes.append("the file does not say which video an instance comes from; instances count as independent")
    card = Card(
        name=name,
        modalities={
            modality: ModalityCard(
                kind=kind,
                layout="btd",
                shape=(None, sizes[modality]),
                preprocessing={"published_as": f"{found.name} pickle", "padded_to": first.arrays[modality].shape[1]},
            )
            for modality, kind in KINDS.items()
        },
        label=LabelCard(kind="real"),
        splits=tuple(splits),
        groups="video" if grouped else None,
        sources=sources(path.parent, [path.name]),
        notes=tuple(notes),
    )
    return Reading(card, _instances(splits, spans, found, findings, grouped), findings)


def recognise(content: object, path: Path, formats: Mapping[str, Format]) -> Format:
    """Return the format of what a pickle holds.

    Raises:
        DataError: it has none; what was found and what each format has is said.
    """
    if isinstance(content, dict) and any(part in content for part in SPLITS):
        first = next(content[part] for part in SPLITS if part in content)
        if isinstance(first, dict):
            for one in formats.values():
                if all(key in first for key in one.keys):
                    # MulT's and MultiBench's files have the same keys; the latter are padded in front.
                    return formats["MultiBench"] if one.name == "MulT" and _padded_in_front(first) else one
        found = (
            f"in a split {', '.join(map(str, first)) or 'nothing'}" if isinstance(first, dict) else type(first).__name__
        )
    else:
        found = ", ".join(map(str, content)) if isinstance(content, dict) else type(content).__name__
    wanted = "; ".join(f"{one.name}: {', '.join(one.keys)}" for one in formats.values())
    raise DataError(
        f"{path} is no sentiment pickle that is known: found {found}; expected a dictionary with train, valid or "
        f"test, each with the keys of one format ({wanted})"
    )


def _padded_in_front(split: Mapping[str, Any]) -> bool:
    """Say whether more texts begin than end with a step of zeros."""
    try:
        text = np.asarray(split["text"])
    except ValueError:  # no array; whoever reads it says so
        return False
    if text.ndim != 3 or text.size == 0:
        return False
    return bool((text[:, 0] == 0).all(1).sum() > (text[:, -1] == 0).all(1).sum())


def _arrays(content: object, found: Format, where: str) -> dict[str, Array]:
    """Return what is read of a split, as arrays."""
    if not isinstance(content, dict):
        raise DataError(f"{where} must be a dictionary; found {type(content).__name__}")
    missing = [key for key in found.keys if key not in content]
    if missing:
        raise DataError(f"{where} has no {', '.join(missing)}; found {', '.join(map(str, content))}")
    arrays = {}
    for key in (*found.keys, *(key for key in _OPTIONAL if key in content)):
        try:
            arrays[key] = np.asarray(content[key])
        except ValueError:
            raise DataError(f"{where}: {key} must be one array; found rows that differ in length") from None
    return arrays


def _split(content: Mapping[str, Array], found: Format, where: str) -> _Checked:
    """Return one split, checked."""
    arrays = {modality: content[modality] for modality in KINDS}
    labels = content[found.labels]
    for modality, array in arrays.items():
        if array.ndim != 3 or array.dtype.kind not in "fiu" or 0 in array.shape:
            raise DataError(f"{where}: {modality} must be numbers (N, T, D); found {array.dtype} {array.shape}")
    if labels.ndim == 0 or labels.dtype.kind not in "fiu" or labels.size != len(labels):
        raise DataError(f"{where}: {found.labels} must be one number an instance; found {labels.dtype} {labels.shape}")
    counts = {modality: len(array) for modality, array in arrays.items()} | {found.labels: len(labels)}
    names = found.names(content)
    if names is not None:
        counts["id"] = len(names[0])
    if len(set(counts.values())) > 1:
        raise DataError(f"{where}: all must have as many instances; found {counts}")
    flat = labels.reshape(-1).astype(np.float64)
    wrong = ~(np.abs(flat) <= MOST)
    if wrong.any():
        raise DataError(
            f"{where}: {found.labels} must lie in [-3, 3]; found {int(wrong.sum())} that do not, "
            f"first {flat[wrong][0]} at {int(np.flatnonzero(wrong)[0])}"
        )
    return _Checked(arrays, flat, *(names if names is not None else (None, None)))


def _instances(
    splits: Mapping[str, _Checked], spans: Mapping[str, Spans], found: Format, findings: Findings, grouped: bool
) -> Iterator[Instance]:
    """Yield all instances, and note what is absent, dropped or named twice."""
    absent, dropped, twice = dict.fromkeys(KINDS, 0), 0, 0
    seen: dict[str, int] = {}
    for part, one in splits.items():
        drop = found.drop(spans[part])
        dropped += int(drop.sum())
        for row in np.flatnonzero(~drop).tolist():
            name = one.ids[row] if one.ids is not None else f"{part}-{row}"
            seen[name] = seen.get(name, 0) + 1
            twice += seen[name] > 1
            features: dict[str, Array | None] = {}
            for modality, array in one.arrays.items():
                start, stop = spans[part][modality][row].tolist()
                values = array[row, start:stop]
                features[modality] = None
                # Values that are not finite are repaired to 0, which is no sign of life.
                if stop > start:
                    clean = findings.clean(modality, values, f"{part}, {name}: {modality}")
                    features[modality] = clean if clean.any() else None
                absent[modality] += features[modality] is None
            unique = name if seen[name] == 1 else f"{name}#{seen[name]}"
            group = one.groups[row] if grouped and one.groups is not None else None
            yield Instance(unique, part, float(one.labels[row]), features, group)
    findings.notes += [
        f"{count} instances have no {modality}: every value is 0" for modality, count in absent.items() if count
    ]
    if dropped:
        findings.notes.append(f"{dropped} instances without any text were left out, as {found.name} does")
    if twice:
        findings.notes.append(f"{twice} names occurred before; they got a number")


def text_of(cell: object) -> str:
    """Return a name as text; files of Python 2 hold bytes."""
    return cell.decode("latin1") if isinstance(cell, bytes) else str(cell)


def shown(array: Array) -> NDArray[np.bool_]:
    """Return where a step has a value other than 0 (N, T); NaN and infinity count as values."""
    return np.asarray((array != 0).any(2), dtype=np.bool_)

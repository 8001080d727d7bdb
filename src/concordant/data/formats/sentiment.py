"""Published pickles of CMU-MOSI and CMU-MOSEI in three formats, recognised by their keys.

A file holds a dictionary per split, with arrays padded to one length; sequences are cut to their true length here. A
sequence without a single value other than 0 is absent.

MMSA (Mao et al., ACL 2022 demos: `aligned_50.pkl`, `unaligned_50.pkl`) pads at the end. `unaligned_50` holds the
lengths of audio and vision; text, and all three modalities where they are aligned, are as long as the attention mask
of `text_bert` (N, 3, T). `id` is "video$_$clip".
MulT (Tsai et al., ACL 2019: `mosi_data.pkl`, `mosei_senti_data_noalign.pkl`) pads at the end and holds no lengths:
steps of zeros at the end are cut off, in aligned files those that all three modalities share.
MultiBench (Liang et al., NeurIPS 2021: `mosi_raw.pkl`) pads at the start: everything before the first word is cut off,
and instances without a word are left out. `id`, if any, is a video with its start and end.
Shapes: text, audio, vision (N, T, D), read from the file; labels (N,), (N, 1) or (N, 1, 1).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from concordant.data.arrays import Array
from concordant.data.card import Card, Kind, LabelCard, ModalityCard, sources
from concordant.data.formats.pickles import read_pickle
from concordant.data.reading import Findings, Reading
from concordant.data.store import Instance
from concordant.errors import DataError

KINDS: dict[str, Kind] = {"text": "text", "audio": "audio", "vision": "vision"}
SPLITS = ("train", "valid", "test")
MOST = 3.0  # sentiment is from -3 to 3
# As files call them.
_SPLITS = {"train": "train", "valid": "valid", "val": "valid", "dev": "valid", "validation": "valid", "test": "test"}
_OPTIONAL = ("id", "audio_lengths", "vision_lengths")  # keys of some files
_TEXTS = {768: "BERT features (bert-base)", 300: "GloVe word vectors"}

Spans = dict[str, NDArray[np.int64]]  # modality -> first and last + 1 valid step of each instance, (N, 2)
Names = tuple[list[str], list[str]] | None  # ids and videos


class _Checked(NamedTuple):
    """One split of a file, checked.

    Args:
        arrays: modality -> (N, T, D), as in the file.
        labels: (N,).
        ids: (N,), or None where the file has none.
        groups: videos (N,), or None.
        spans: valid steps.
    """

    arrays: dict[str, Array]
    labels: NDArray[np.float64]
    ids: list[str] | None
    groups: list[str] | None
    spans: Spans


class Format(NamedTuple):
    """How a format is recognised and read.

    Args:
        name: of the format.
        keys: that a split must have.
        labels: key of the labels.
        names: function from a split's dictionary to ids and videos, or None.
        spans: function from a split's dictionary and arrays to the valid steps.
        drop_wordless: leave instances without text out.
        notes: what a user should know.
    """

    name: str
    keys: tuple[str, ...]
    labels: str
    names: Callable[[Mapping[str, Array]], Names]
    spans: Callable[[Mapping[str, Array], Mapping[str, Array], str], Spans]
    drop_wordless: bool = False
    notes: tuple[str, ...] = ()


def read_sentiment(path: Path, *, name: str) -> Reading:
    """Read a published pickle of any of the three formats as the dataset "cmu-mosi" or "cmu-mosei".

    Raises:
        DataError: it is not one of these pickles, or keys, shapes, lengths or labels do not fit each other.
    """
    content = _by_split(read_pickle(path), path)
    found = _recognise(content, path)
    splits = {part: _split(content[part], found, f"{path}, {part}") for part in SPLITS if part in content}
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
    findings = Findings()
    return Reading(card, _instances(splits, found, findings, grouped), findings)


def _by_split(content: Any, path: Path) -> Any:  # noqa: ANN401 - the content of a pickle
    """Return the content of a file with its splits by our names.

    Raises:
        DataError: it has a split twice, or a dictionary beside the splits, which would be left out.
    """
    if not isinstance(content, dict):
        return content
    found: dict[str, Any] = {}
    for key, value in content.items():
        split = _SPLITS.get(str(key).lower())
        if split in found or (split is None and isinstance(value, dict)):
            raise DataError(
                f"{path} must hold the splits {', '.join(SPLITS)}, each once; found {', '.join(map(str, content))}"
            )
        found[split or key] = value
    return found


def _array(value: object) -> Array:
    """Return a value of a split as an array: text stays as it is, since a long one would widen all others.

    Raises:
        ValueError: rows differ in length.
    """
    if isinstance(value, np.ndarray):
        return value
    leaves = [value]
    while leaves and isinstance(leaves[0], (list, tuple)):
        leaves = [leaf for one in leaves for leaf in (one if isinstance(one, (list, tuple)) else [one])]
    numbers = all(
        leaf.dtype.kind in "fiub" if isinstance(leaf, (np.ndarray, np.generic)) else isinstance(leaf, (int, float))
        for leaf in leaves
    )
    found = np.asarray(value, None if numbers else object)
    if found.dtype == object and any(isinstance(leaf, (list, tuple)) for leaf in found.ravel()):
        raise ValueError("rows differ in length")
    return found


def _recognise(content: object, path: Path) -> Format:
    """Return the format of the content of a pickle.

    Raises:
        DataError: it has none; names what was found and the keys of each format.
    """
    if isinstance(content, dict) and any(part in content for part in SPLITS):
        first = next(content[part] for part in SPLITS if part in content)
        if isinstance(first, dict):
            for one in (MMSA, MULT):
                if all(key in first for key in one.keys):
                    # MultiBench has the keys of MulT; its files are padded at the start.
                    return MULTIBENCH if one is MULT and _padded_at_start(first) else one
        found = (
            f"in a split {', '.join(map(str, first)) or 'nothing'}" if isinstance(first, dict) else type(first).__name__
        )
    else:
        found = ", ".join(map(str, content)) if isinstance(content, dict) else type(content).__name__
    wanted = "; ".join(f"{one.name}: {', '.join(one.keys)}" for one in (MMSA, MULT, MULTIBENCH))
    raise DataError(
        f"{path} is no sentiment pickle that is known: found {found}; expected a dictionary with train, valid or "
        f"test, each with the keys of one format ({wanted})"
    )


def _padded_at_start(split: Mapping[str, Any]) -> bool:
    """Return whether more texts begin than end with a step of zeros."""
    try:
        text = _array(split["text"])
    except (ValueError, OverflowError):  # not one array; `_split` names the fault
        return False
    if text.ndim != 3 or text.size == 0:
        return False
    return bool((text[:, 0] == 0).all(1).sum() > (text[:, -1] == 0).all(1).sum())


def _split(content: object, found: Format, where: str) -> _Checked:
    """Return one split, checked."""
    if not isinstance(content, dict):
        raise DataError(f"{where} must be a dictionary; found {type(content).__name__}")
    missing = [key for key in found.keys if key not in content]
    if missing:
        raise DataError(f"{where} has no {', '.join(missing)}; found {', '.join(map(str, content))}")
    held: dict[str, Array] = {}
    for key in (*found.keys, *(key for key in _OPTIONAL if key in content)):
        try:
            held[key] = _array(content[key])
        except (ValueError, OverflowError):
            raise DataError(f"{where}: {key} must be one array; found rows that differ in length") from None
    arrays, labels = {modality: held[modality] for modality in KINDS}, held[found.labels]
    for modality, array in arrays.items():
        if array.ndim != 3 or array.dtype.kind not in "fiu" or 0 in array.shape:
            raise DataError(f"{where}: {modality} must be numbers (N, T, D); found {array.dtype} {array.shape}")
    if labels.ndim == 0 or labels.dtype.kind not in "fiu" or labels.size != len(labels):
        raise DataError(f"{where}: {found.labels} must be one number an instance; found {labels.dtype} {labels.shape}")
    counts = {modality: len(array) for modality, array in arrays.items()} | {found.labels: len(labels)}
    names = found.names(held)
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
    ids, groups = names or (None, None)
    return _Checked(arrays, flat, ids, groups, found.spans(held, arrays, where))


def _instances(splits: Mapping[str, _Checked], found: Format, findings: Findings, grouped: bool) -> Iterator[Instance]:
    """Yield all instances, and note which are absent, dropped or named twice."""
    absent, dropped, twice = dict.fromkeys(KINDS, 0), 0, 0
    seen: dict[str, int] = {}
    for part, one in splits.items():
        for row in range(len(one.labels)):
            start, stop = one.spans["text"][row].tolist()
            if found.drop_wordless and start >= stop:
                dropped += 1
                continue
            name = one.ids[row] if one.ids is not None else f"{part}-{row}"
            seen[name] = seen.get(name, 0) + 1
            twice += seen[name] > 1
            features: dict[str, Array | None] = {}
            for modality, array in one.arrays.items():
                start, stop = one.spans[modality][row].tolist()
                features[modality] = None
                # Values that are not finite are repaired to 0, which does not make a sequence present.
                if stop > start:
                    clean = findings.clean(modality, array[row, start:stop], f"{part}, {name}: {modality}")
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


def _text(cell: object) -> str:
    """Return a name as text; files of Python 2 hold bytes."""
    return cell.decode("latin1") if isinstance(cell, bytes) else str(cell)


def _nonzero(array: Array) -> NDArray[np.bool_]:
    """Return where a step has a value other than 0 (N, T); NaN and infinity count as values."""
    return np.asarray((array != 0).any(2), dtype=np.bool_)


def _up_to(lengths: Array) -> NDArray[np.int64]:
    return np.stack([np.zeros(len(lengths), np.int64), lengths.astype(np.int64)], 1)


def _mmsa_names(split: Mapping[str, Array]) -> Names:
    ids = [_text(name) for name in split["id"].reshape(-1).tolist()]
    return ids, [name.rpartition("$_$")[0] or name for name in ids]


def _mmsa_spans(split: Mapping[str, Array], arrays: Mapping[str, Array], where: str) -> Spans:
    bert, count, steps = split["text_bert"], *arrays["text"].shape[:2]
    if bert.dtype.kind not in "fiub" or bert.shape != (count, 3, steps):
        raise DataError(
            f"{where}: text_bert must be numbers ({count}, 3, {steps}), as text has instances and steps; "
            f"found {bert.dtype} {bert.shape}"
        )
    mask = bert[:, 1] > 0
    words = mask.sum(1)
    if not np.array_equal(mask, np.arange(steps) < words[:, None]):
        raise DataError(f"{where}: the attention mask of text_bert must be ones and then zeros")
    found = {"text": _up_to(words)}
    for modality in ("audio", "vision"):
        most, key = arrays[modality].shape[1], f"{modality}_lengths"
        if key not in split and most != steps:
            raise DataError(f"{where}: {modality} has {most} steps where text has {steps}, so {key} is needed")
        lengths = split[key].reshape(-1) if key in split else words
        broken = lengths
        if lengths.dtype.kind in "iuf":
            broken = lengths[~((lengths >= 0) & (lengths <= most) & (lengths == np.floor(lengths)))]
        if len(lengths) != count or broken.size:
            such = f", such as {broken[0]}" if broken.size else ""
            raise DataError(
                f"{where}: {key} must be {count} whole numbers from 0 to {most}; "
                f"found {len(lengths)} of {lengths.dtype}{such}"
            )
        found[modality] = _up_to(lengths)
    return found


def _mult_names(split: Mapping[str, Array]) -> Names:
    if "id" not in split:
        return None
    rows = split["id"]
    if rows.ndim == 2 and rows.shape[1] > 1:  # video, start, end
        parts = [[_text(cell) for cell in row] for row in rows.tolist()]
        return ["_".join(row) for row in parts], [row[0] for row in parts]
    ids = [_text(name) for name in rows.reshape(-1).tolist()]
    return ids, [name.partition("[")[0] for name in ids]  # MOSEI writes video[clip]


def _mult_spans(split: Mapping[str, Array], arrays: Mapping[str, Array], where: str) -> Spans:
    lengths = {}
    for modality, array in arrays.items():
        there = _nonzero(array)
        lengths[modality] = np.where(there.any(1), there.shape[1] - there[:, ::-1].argmax(1), 0)
    if len({array.shape[1] for array in arrays.values()}) == 1:  # aligned: one length for all
        lengths = dict.fromkeys(lengths, np.max(list(lengths.values()), axis=0))
    return {modality: _up_to(ends) for modality, ends in lengths.items()}


def _multibench_spans(split: Mapping[str, Array], arrays: Mapping[str, Array], where: str) -> Spans:
    found, text = {}, arrays["text"]
    for modality, array in arrays.items():
        # Of another rate than the text, a modality begins where its own values do.
        there, steps = _nonzero(text if array.shape[1] == text.shape[1] else array), array.shape[1]
        start = np.where(there.any(1), there.argmax(1), steps)
        found[modality] = np.stack([start, np.full_like(start, steps)], 1)
    return found


MMSA = Format(
    name="MMSA",
    keys=("text", "audio", "vision", "id", "text_bert", "regression_labels"),
    labels="regression_labels",
    names=_mmsa_names,
    spans=_mmsa_spans,
)
MULT = Format(
    name="MulT",
    keys=("text", "audio", "vision", "labels"),
    labels="labels",
    names=_mult_names,
    spans=_mult_spans,
    notes=("the file does not say how long sequences are: steps of zeros at the end count as padding",),
)
MULTIBENCH = Format(
    name="MultiBench",
    keys=("text", "audio", "vision", "labels"),
    labels="labels",
    names=_mult_names,
    spans=_multibench_spans,
    drop_wordless=True,
    notes=("the file does not say how long sequences are: what lies before the first word counts as padding",),
)

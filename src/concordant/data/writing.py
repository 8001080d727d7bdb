"""Writing a store: instances are checked against the card and written in Arrow files of a given size."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from concordant.data.arrays import has_shape
from concordant.data.card import BARE, CARD, Card, ModalityCard, write_card
from concordant.data.reading import Findings
from concordant.data.store import LONGEST_ID, STATE, Instance, Values
from concordant.errors import DataError, UsageError, foreign, quoted
from concordant.files import new_folder, write_json

if TYPE_CHECKING:
    import pyarrow as pa

FAILURES = "failures.json"  # clip -> why it could not be decoded
SHARD_BYTES = 512 << 20  # of one Arrow file
BATCH_BYTES = 8 << 20  # of the rows written at once


def write_store(
    folder: Path,
    card: Card,
    instances: Iterable[Instance],
    *,
    findings: Findings | None = None,
    shard_bytes: int = SHARD_BYTES,
) -> Card:
    """Write a dataset, instance by instance; memory does not grow with its size.

    The folder appears when everything is written, or not at all.

    Args:
        folder: must not exist yet, or be empty.
        card: of the dataset; `rows` is counted here.
        instances: in order.
        findings: of their reader, which fills them during iteration; added to the card and `failures.json` at the end.
        shard_bytes: size of an Arrow file.

    Returns:
        The card as written.

    Raises:
        UsageError: the folder is not empty, or cannot be written.
        DataError: there are no instances, or one does not fit the card: an unknown split, a repeated id,
            values of another shape or not finite, a label out of range.
    """
    with _naming(folder):
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise UsageError(f"{folder} is there already and is not empty; name another folder, or remove it")
    with _naming(folder), new_folder(folder, CARD) as temporary:
        writer = _Writer(temporary, card, shard_bytes)
        for instance in _from_reader(instances, card):
            writer.add(instance)
        written = card.model_copy(update={"rows": writer.finish()})
        if findings is not None:
            written = findings.add_to(written)
            if findings.failures:
                write_json(temporary / FAILURES, findings.failures)
        write_card(temporary, written)
    return written


def _from_reader(instances: Iterable[Instance], card: Card) -> Iterator[Instance]:
    """Yield instances; what cannot be read is no fault of the folder that is written."""
    try:
        yield from instances
    except OSError as error:
        raise DataError(f"{card.name}: instances cannot be read ({foreign(error)})") from None


@contextmanager
def _naming(folder: Path) -> Iterator[None]:
    """Re-raise a write error with the name of the target folder."""
    try:
        yield
    except OSError as error:
        raise UsageError(f"{folder} cannot be written ({foreign(error)}); name another folder") from None


class _Writer:
    """Checks instances and writes them in batches, one Arrow file after another."""

    def __init__(self, folder: Path, card: Card, shard_bytes: int) -> None:
        from datasets import Features, List, Value

        label = {"class": Value("int64"), "real": Value("float32"), "segments": List(Value("int64"))}.get(
            card.label.kind, Value("int64")
        )
        bare = {"id": Value("string"), "split": Value("string"), "group": Value("string"), "label": label}
        self.features = Features(bare | {name: List(Value(known.dtype)) for name, known in card.modalities.items()})
        self.folder, self.card, self.shard_bytes = folder, card, shard_bytes
        self.schema: pa.Schema = self.features.arrow_schema
        self.ids: set[str] = set()
        self.batch: list[Instance] = []
        self.waiting = self.in_shard = 0
        self.files: list[str] = []
        self.stream: pa.ipc.RecordBatchStreamWriter | None = None

    def add(self, instance: Instance) -> None:
        _check(instance, self.card, self.ids)
        self.ids.add(instance.id)
        self.batch.append(instance)
        self.waiting += sum(np.asarray(x).size * 4 for x in instance.features.values() if x is not None) + 64
        if self.waiting >= BATCH_BYTES:
            self._flush()

    def finish(self) -> int:
        """Write the rest, and what `datasets` needs to open the folder; return the number of instances."""
        from datasets import DatasetInfo

        if not self.ids:
            raise DataError(f"{self.card.name}: there is not a single instance to write")
        self._flush()
        self._close()
        DatasetInfo(features=self.features).write_to_directory(str(self.folder))
        state: dict[str, Any] = {
            "_data_files": [{"filename": file} for file in self.files],
            "_fingerprint": "0" * 16,
            "_format_columns": None,
            "_format_kwargs": {},
            "_format_type": None,
            "_output_all_columns": False,
            "_split": None,
        }
        (self.folder / STATE).write_text(json.dumps(state, indent=2), encoding="utf-8")
        return len(self.ids)

    def _flush(self) -> None:
        import pyarrow as pa

        if not self.batch:
            return
        if self.stream is None:
            self.files.append(f"data-{len(self.files):05d}.arrow")
            self.stream = pa.ipc.new_stream(str(self.folder / self.files[-1]), self.schema)
        columns = [
            pa.array([getattr(instance, name) for instance in self.batch], self.schema.field(name).type)
            for name in BARE
        ]
        for name, known in self.card.modalities.items():
            columns.append(_column([instance.features[name] for instance in self.batch], known.dtype))
        self.stream.write_batch(pa.record_batch(columns, schema=self.schema))
        self.in_shard += self.waiting
        self.batch, self.waiting = [], 0
        if self.in_shard >= self.shard_bytes:
            self._close()

    def _close(self) -> None:
        if self.stream is not None:
            self.stream.close()
        self.stream, self.in_shard = None, 0


def _column(rows: list[Values | None], dtype: str) -> pa.ListArray:
    """Return the rows of one modality as an Arrow list array, with one copy of its values."""
    import pyarrow as pa

    offsets = np.cumsum([0, *(0 if values is None else values.size for values in rows)], dtype=np.int32)
    flat = np.empty(offsets[-1], dtype)
    for values, (start, stop) in zip(rows, pairwise(offsets.tolist()), strict=True):
        if values is not None:
            flat[start:stop] = values.ravel()
    absent = np.array([values is None for values in rows])
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(flat), mask=pa.array(absent) if absent.any() else None)


def _check(instance: Instance, card: Card, ids: set[str]) -> None:
    """Raise DataError where an instance does not fit the card or repeats an id."""
    where = f"{card.name}, instance {quoted(instance.id)}"
    for what, text in (("id", instance.id), ("group", instance.group)):
        if not _is_text(text) and not (what == "group" and text is None):
            raise DataError(
                f"{where}: {what} must be text of up to {LONGEST_ID} characters that UTF-8 has; found {quoted(text)}"
            )
    if instance.id in ids:
        raise DataError(f"{where}: every id may occur once, but this one occurs again")
    if instance.split not in card.splits:
        raise DataError(f"{where}: split must be one of {', '.join(card.splits)}; found {instance.split!r}")
    if (instance.group is None) != (card.groups is None):
        raise DataError(f"{where}: group must be {'None' if card.groups is None else 'named'}")
    if set(instance.features) != set(card.modalities):
        raise DataError(f"{where}: must have {', '.join(card.modalities)}; found {', '.join(instance.features)}")
    _check_label(where, instance.label, card)
    for name, known in card.modalities.items():
        _check_values(f"{where}: {name}", instance.features[name], known)


def _is_text(text: object) -> bool:
    """Return whether text is read back from a file unchanged; NumPy drops trailing zeros."""
    if not isinstance(text, str) or len(text) > LONGEST_ID or text.endswith("\0"):
        return False
    return text.encode(errors="ignore").decode() == text


def _check_label(where: str, label: int | float | Values, card: Card) -> None:
    known, found = card.label, np.asarray(label)
    if found.ndim != (known.kind == "segments") or found.size == 0:
        kinds = {"class": "one class index", "real": "one number", "segments": "class indices (T,)", "none": "-1"}
        raise DataError(f"{where}: label must be {kinds[known.kind]}; found shape {found.shape}")
    if known.kind == "real":
        if found.dtype.kind not in "fiu" or not _is_finite(found, "float32"):
            raise DataError(f"{where}: label must be a number that is finite as float32; found {label!r}")
    elif known.kind == "none":
        if found.item() != -1:
            raise DataError(f"{where}: label must be -1 in a dataset without labels; found {label!r}")
    elif found.dtype.kind not in "iu" or found.min() < 0 or found.max() >= len(known.classes):
        raise DataError(f"{where}: label must be class indices 0 to {len(known.classes) - 1}; found {label!r}")


def _check_values(where: str, values: Values | None, known: ModalityCard) -> None:
    if values is None:
        return
    found = np.asarray(values)
    if not has_shape(found.shape, known.shape):
        shape = ", ".join("T" if size is None else str(size) for size in known.shape)
        raise DataError(f"{where} must have shape ({shape}) with T of 1 or more; found {found.shape}; absent is None")
    if found.dtype.kind != "f":
        raise DataError(f"{where} must be floating point; found {found.dtype}")
    if not _is_finite(found, known.dtype):
        raise DataError(f"{where} must be finite as {known.dtype}; found NaN, infinity or a value that is too large")


def _is_finite(values: Values, dtype: str) -> bool:
    with np.errstate(over="ignore"):
        return bool(np.isfinite(values.astype(dtype, copy=False)).all())

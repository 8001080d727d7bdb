"""Writing a store: instance by instance, each checked against the card, in Arrow files of a stated size."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from concordant.data.card import CARD, Card, ModalityCard, write_card
from concordant.data.reading import Findings
from concordant.data.store import BARE, STATE, Instance, Values
from concordant.errors import DataError, UsageError
from concordant.files import write_json

if TYPE_CHECKING:
    import pyarrow as pa

FAILURES = "failures.json"  # clip -> why it could not be decoded
SHARD_BYTES = 512 << 20  # of one Arrow file
BATCH_BYTES = 8 << 20  # of the rows that are written at once


def write_store(
    folder: Path,
    card: Card,
    instances: Iterable[Instance],
    *,
    findings: Findings | None = None,
    shard_bytes: int = SHARD_BYTES,
) -> Card:
    """Write a dataset, instance by instance; what is in memory at a time does not grow with it.

    The folder appears when all is written, or not at all.

    Args:
        folder: must not exist yet, or be empty.
        card: what the dataset is; `rows` is counted here.
        instances: in their order.
        findings: what their reader counts while they are written; the card and `failures.json` get it at the end.
        shard_bytes: size of an Arrow file.

    Returns:
        The card as it was written.

    Raises:
        UsageError: the folder holds something already, or cannot be written.
        DataError: there are no instances, or one does not fit the card: an unknown split, an id that occurred,
            values of another shape or that are not finite, a label out of range.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} is there already and is not empty; name another folder, or remove it")
    # An empty folder may be a link, a mount or the working directory: it stays, and is filled from within.
    kept = folder.exists()
    temporary = (folder if kept else folder.parent) / f".{folder.name}.{os.getpid()}.tmp"
    with _told(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
    try:
        writer = _Writer(temporary, card, shard_bytes)
        for instance in instances:
            with _told(folder):
                writer.add(instance)
        with _told(folder):
            written = card.model_copy(update={"rows": writer.finish()})
            if findings is not None:
                written = findings.on(written)
                if findings.failures:
                    write_json(temporary / FAILURES, findings.failures)
            write_card(temporary, written)
            if not kept:
                temporary.rename(folder)
            else:  # without its card a folder is no dataset yet
                for path in sorted(temporary.iterdir(), key=lambda path: path.name == CARD):
                    path.rename(folder / path.name)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return written


@contextmanager
def _told(folder: Path) -> Iterator[None]:
    """Say of a file that cannot be written where it should have been."""
    try:
        yield
    except OSError as error:
        raise UsageError(f"{folder} cannot be written ({error.strerror or error}); name another folder") from None


class _Writer:
    """Checks instances and writes them in batches, one Arrow file after another."""

    def __init__(self, folder: Path, card: Card, shard_bytes: int) -> None:
        from datasets import Features, List, Value

        label = {"class": Value("int64"), "real": Value("float32"), "segments": List(Value("int64"))}[card.label.kind]
        bare = {"id": Value("string"), "split": Value("string"), "group": Value("string"), "label": label}
        clash = [name for name in card.modalities if name in BARE]
        if clash:
            raise UsageError(f"a modality cannot be called {clash[0]!r}; these names are taken: {', '.join(BARE)}")
        self.features = Features(bare | {name: List(Value(known.dtype)) for name, known in card.modalities.items()})
        self.folder, self.card, self.shard_bytes = folder, card, shard_bytes
        self.schema: pa.Schema = self.features.arrow_schema
        self.ids: set[str] = set()
        self.batch: list[Instance] = []
        self.waiting = self.in_shard = 0
        self.files: list[str] = []
        self.stream: pa.ipc.RecordBatchStreamWriter | None = None

    def add(self, instance: Instance) -> None:
        self._check(instance)
        self.ids.add(instance.id)
        self.batch.append(instance)
        self.waiting += sum(np.asarray(x).size * 4 for x in instance.features.values() if x is not None) + 64
        if self.waiting >= BATCH_BYTES:
            self._flush()

    def finish(self) -> int:
        """Write what is left, and what `datasets` needs to open the folder; return the number of instances."""
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

    def _check(self, instance: Instance) -> None:
        where = f"{self.card.name}, instance {instance.id!r}"
        named = {"id": instance.id} | ({} if instance.group is None else {"group": instance.group})
        for what, text in named.items():
            if not _is_text(text):
                raise DataError(f"{where}: {what} must be text, in characters that UTF-8 has; found {text!r}")
        if instance.id in self.ids:
            raise DataError(f"{where}: every id may occur once, but this one occurs again")
        if instance.split not in self.card.splits:
            raise DataError(f"{where}: split must be one of {', '.join(self.card.splits)}; found {instance.split!r}")
        if (instance.group is None) != (self.card.groups is None):
            raise DataError(f"{where}: group must be {'None' if self.card.groups is None else 'named'}")
        if set(instance.features) != set(self.card.modalities):
            raise DataError(
                f"{where}: must have {', '.join(self.card.modalities)}; found {', '.join(instance.features)}"
            )
        self._check_label(where, instance.label)
        for name, known in self.card.modalities.items():
            _check_values(f"{where}: {name}", instance.features[name], known)

    def _check_label(self, where: str, label: int | float | Values) -> None:
        known, found = self.card.label, np.asarray(label)
        if found.ndim != (known.kind == "segments") or found.size == 0:
            raise DataError(f"{where}: label must be {_LABELS[known.kind]}; found shape {found.shape}")
        if known.kind == "real":
            with np.errstate(over="ignore"):
                finite = found.dtype.kind in "fiu" and np.isfinite(found.astype(np.float32))
            if not finite:
                raise DataError(f"{where}: label must be a number that is finite as float32; found {label!r}")
        elif found.dtype.kind not in "iu" or found.min() < 0 or found.max() >= len(known.classes):
            raise DataError(f"{where}: label must be class indices 0 to {len(known.classes) - 1}; found {label!r}")


_LABELS = {"class": "one class index", "real": "one number", "segments": "class indices (T,)"}


def _is_text(text: object) -> bool:
    """Say whether text comes back from a file as it was; NumPy drops what ends it in zeros."""
    return isinstance(text, str) and not text.endswith("\0") and text.encode(errors="ignore").decode() == text


def _check_values(where: str, values: Values | None, known: ModalityCard) -> None:
    if values is None:
        return
    found = np.asarray(values)
    fits = found.ndim == len(known.shape) and all(
        size in (None, has) for size, has in zip(known.shape, found.shape, strict=True)
    )
    if not fits or found.size == 0:
        shape = ", ".join("T" if size is None else str(size) for size in known.shape)
        raise DataError(f"{where} must have shape ({shape}) with T of 1 or more; found {found.shape}; absent is None")
    if found.dtype.kind != "f":
        raise DataError(f"{where} must be floating point; found {found.dtype}")
    with np.errstate(over="ignore"):
        finite = np.isfinite(found.astype(known.dtype, copy=False)).all()
    if not finite:
        raise DataError(f"{where} must be finite as {known.dtype}; found NaN, infinity or a value that is too large")


def _column(rows: list[Values | None], dtype: str) -> pa.ListArray:
    """Return the rows of one modality as an Arrow list array, its values copied once."""
    import pyarrow as pa

    sizes = [0 if values is None else values.size for values in rows]
    offsets = np.cumsum([0, *sizes], dtype=np.int32)
    flat = np.empty(offsets[-1], dtype)
    for values, (start, stop) in zip(rows, pairwise(offsets.tolist()), strict=True):
        if values is not None:
            flat[start:stop] = values.ravel()
    gone = np.array([values is None for values in rows])
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(flat), mask=pa.array(gone) if gone.any() else None)

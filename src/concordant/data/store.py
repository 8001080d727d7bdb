"""The store: a dataset as a folder of memory-mapped Arrow files, in the format of Hugging Face datasets.

Instances are in order, every sequence at its true length. `concordant.json` (data/card.py) describes the columns: id,
split, group (or null), label, and one per modality with the values of an instance in C order (null where it is absent).
`datasets.load_from_disk` opens the folder as well, but keeps the pages it has read resident; this reader returns them.
Axis letters: N instances, T steps of one instance; the remaining axes follow the modality's layout.
"""

from __future__ import annotations

import math
import mmap
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from concordant.data.card import BARE, CARD, Card, read_card
from concordant.errors import DataError, UsageError, quoted
from concordant.files import read_json, reading

if TYPE_CHECKING:
    import pyarrow as pa

STATE = "state.json"  # of `datasets`: names of the Arrow files
# Bytes read before pages are returned. The system maps neighbouring pages too: several times as much is resident.
RESIDENT_BYTES = 64 << 20
LONGEST_ID = 1000  # characters of an id or a group
LARGEST = float(np.finfo(np.float32).max)

Values = NDArray[Any]


@dataclass(frozen=True)
class Instance:
    """One instance of a dataset.

    Args:
        id: its name, unique within the dataset.
        split: "train", "valid", "test", or the name of a fold.
        label: a class index, a real number, class indices (T,), or -1, by the kind of label.
        features: modality -> its values in the modality's layout; None where it is absent.
        group: its group (speaker, video); None where instances are independent.
    """

    id: str
    split: str
    label: int | float | Values
    features: Mapping[str, Values | None]
    group: str | None = None


class Store:
    """A dataset on disk with random access, without loading it; a map-style dataset for PyTorch's DataLoader.

    Ids, splits, groups and labels are in memory; features are read from memory-mapped files, whose pages are returned
    after every 64 MiB, so resident memory does not grow with the dataset. Worker processes open the files themselves.

    Args:
        folder: of the dataset.

    Raises:
        DataError: it is not a dataset, or a file of it is absent, truncated or of another format.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        self.card = read_card(self.folder)
        self._shards = [_Shard(self.folder / file, self.card) for file in data_files(self.folder)]
        self._starts = np.cumsum([0, *(shard.table.num_rows for shard in self._shards)])
        if len(self) != self.card.rows:
            raise DataError(
                f"{self.folder}: {CARD} announces {self.card.rows} instances, the Arrow files hold {len(self)}; "
                "prepare it again"
            )
        self._read = 0

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, row: int) -> Instance:
        """Return one instance; its arrays are read-only views of the files."""
        place = int(row)
        if not -len(self) <= place < len(self):
            raise IndexError(f"row {row} of a dataset of {len(self)}")
        place %= len(self)
        which = int(np.searchsorted(self._starts, place, side="right")) - 1
        features = self._shards[which].features(place - int(self._starts[which]))
        self._read += sum(values.nbytes for values in features.values() if values is not None)
        if self._read > RESIDENT_BYTES:
            self.release()
        label: int | float | Values = self.labels[place]
        if self.card.label.kind != "segments":
            label = float(label) if self.card.label.kind == "real" else int(label)
        group = None if self.groups is None else str(self.groups[place])
        return Instance(str(self.ids[place]), str(self.splits[place]), label, features, group)

    def __iter__(self) -> Iterator[Instance]:
        return (self[row] for row in range(len(self)))

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["folder"])  # type: ignore[misc]

    @cached_property
    def ids(self) -> NDArray[np.str_]:
        """Names of the instances (N,)."""
        ids = self._strings("id")
        if len(np.unique(ids)) < len(ids):
            raise DataError(f"{self.folder}: every id may occur once; found one again: prepare the dataset again")
        return ids

    @cached_property
    def splits(self) -> NDArray[np.str_]:
        """Splits of the instances (N,)."""
        splits = self._strings("split")
        unknown = sorted(set(np.unique(splits).tolist()) - set(self.card.splits))
        if unknown:
            raise DataError(f"{self.folder}: {CARD} does not announce the split {unknown[0]!r}; prepare it again")
        return splits

    @cached_property
    def groups(self) -> NDArray[np.str_] | None:
        """Groups of the instances (N,), or None."""
        return None if self.card.groups is None else self._strings("group")

    @cached_property
    def labels(self) -> Values | list[Values]:
        """Labels: int64 or float32 (N,); for segments a list of int64 (T,)."""
        columns = [shard.table.column("label") for shard in self._shards]
        found: Values | list[Values]
        if self.card.label.kind == "segments":
            found = [np.asarray(row, np.int64) for column in columns for row in column.to_pylist()]
            flat = np.concatenate([np.zeros(0, np.int64), *found])
        else:
            dtype = np.float32 if self.card.label.kind == "real" else np.int64
            found = flat = np.concatenate([column.to_numpy() for column in columns]).astype(dtype)
        least, most = {"real": (-LARGEST, LARGEST), "none": (-1, -1)}.get(
            self.card.label.kind, (0, len(self.card.label.classes) - 1)
        )
        if not ((flat >= least) & (flat <= most)).all():
            raise DataError(f"{self.folder}: labels must lie within {least} and {most}; prepare the dataset again")
        return found

    def rows(self, split: str) -> NDArray[np.int64]:
        """Return the rows of a split, in order."""
        if split not in self.card.splits:
            raise UsageError(f"unknown split {split!r} of {self.card.name}; choose from: {', '.join(self.card.splits)}")
        return np.flatnonzero(self.splits == split)

    def lengths(self, modality: str) -> NDArray[np.int64]:
        """Return the number of steps of each instance (N,), 0 where the modality is absent; 1 for one without steps."""
        known = self.card.modalities[modality]
        chunks = [chunk for shard in self._shards for chunk in shard.columns[modality]]
        sizes = np.concatenate([np.diff(chunk.offsets) for chunk in chunks]).astype(np.int64)
        step = int(np.prod([size for size in known.shape if size is not None]))
        return sizes // step if known.time is not None else np.minimum(sizes, 1)

    @property
    def nbytes(self) -> int:
        """Bytes of the Arrow files."""
        return sum(len(shard.mapped) for shard in self._shards)

    def release(self) -> None:
        """Return the pages of the files to the system; they are read again from its cache."""
        if hasattr(mmap, "MADV_DONTNEED"):
            for shard in self._shards:
                shard.mapped.madvise(mmap.MADV_DONTNEED)
        self._read = 0

    def _strings(self, column: str) -> NDArray[np.str_]:
        values = [value for shard in self._shards for value in shard.table.column(column).to_pylist()]
        if any(value is None or len(value) > LONGEST_ID for value in values):
            raise DataError(
                f"{self.folder}: every {column} must be text of up to {LONGEST_ID} characters; prepare it again"
            )
        return np.array(values, np.str_)


class _Shard:
    """One Arrow file, mapped into memory."""

    def __init__(self, path: Path, card: Card) -> None:
        import pyarrow as pa

        with reading(path, "Arrow", "prepare the dataset again"):
            with path.open("rb") as opened:
                self.mapped = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
            self.table: pa.Table = _batches(self.mapped)
            # Offsets that point nowhere would be followed; values are not looked at.
            self.table.validate(full=True)
        expected = [*BARE, *card.modalities]
        if self.table.column_names != expected:
            raise DataError(f"{path} must have the columns {expected}; found {self.table.column_names}")
        numbers = {name: pa.list_(pa.type_for_alias(known.dtype)) for name, known in card.modalities.items()}
        label = {"real": pa.float32(), "segments": pa.list_(pa.int64())}.get(card.label.kind, pa.int64())
        for name, kind in {
            "id": pa.string(),
            "split": pa.string(),
            "group": pa.string(),
            "label": label,
            **numbers,
        }.items():
            column = self.table.column(name)
            if column.type != kind or (column.null_count and name in ("id", "split", "label")):
                raise DataError(f"{path}: {name} must be {kind}; found {column.type} with {column.null_count} absent")
        self.columns = {name: [_Chunk(part) for part in self.table.column(name).chunks] for name in card.modalities}
        for name, known in card.modalities.items():
            step = math.prod(size for size in known.shape if size is not None)
            for chunk in self.columns[name]:
                sizes = np.diff(chunk.offsets)[... if chunk.valid is None else chunk.valid]
                if (sizes < 1).any() or (sizes % step if known.time is not None else sizes != step).any():
                    raise DataError(f"{path}: {name} must have {step} numbers a step; prepare the dataset again")
        self.starts = np.cumsum([0, *(len(chunk) for chunk in self.table.column("id").chunks)])
        self.shapes = {
            name: [-1 if size is None else size for size in known.shape] for name, known in card.modalities.items()
        }

    def features(self, row: int) -> dict[str, Values | None]:
        """Return the values of one row, views of the file."""
        which = int(np.searchsorted(self.starts, row, side="right")) - 1
        place = row - int(self.starts[which])
        found = {name: chunks[which].row(place) for name, chunks in self.columns.items()}
        return {name: None if x is None else x.reshape(self.shapes[name]) for name, x in found.items()}


class _Chunk:
    """One column of the rows of one written batch."""

    def __init__(self, array: pa.ListArray) -> None:
        self.offsets: NDArray[np.int32] = array.offsets.to_numpy(zero_copy_only=True)
        self.values: Values = array.values.to_numpy(zero_copy_only=True)
        self.valid = None if array.null_count == 0 else array.is_valid().to_numpy(zero_copy_only=False)

    def row(self, place: int) -> Values | None:
        if self.valid is not None and not self.valid[place]:
            return None
        return self.values[self.offsets[place] : self.offsets[place + 1]]


def _batches(mapped: mmap.mmap) -> pa.Table:
    """Return the batches of a stream, which may not be compressed: a small file could unpack to any size.

    Raises:
        ValueError: one is, or the stream holds something else than batches.
    """
    import pyarrow as pa

    messages = list(pa.ipc.MessageReader.open_stream(pa.py_buffer(mapped)))
    if not messages or any(one.type != ("record batch" if place else "schema") for place, one in enumerate(messages)):
        raise ValueError("it must hold a schema and then batches alone")
    if any(_is_compressed(one.metadata.to_pybytes()) for one in messages[1:]):
        raise ValueError("its batches are compressed")
    schema = pa.ipc.read_schema(messages[0])
    return pa.Table.from_batches([pa.ipc.read_record_batch(one, schema) for one in messages[1:]], schema)


def _is_compressed(metadata: bytes) -> bool:
    """Return whether the metadata of a batch, a Flatbuffer of Arrow's Message, name a compression."""

    def field(table: int, number: int) -> int:
        """Return the place of a field of a table, 0 where it is absent."""
        fields = table - int.from_bytes(metadata[table : table + 4], "little", signed=True)
        size = int.from_bytes(metadata[fields : fields + 2], "little")
        place = 4 + 2 * number
        return int.from_bytes(metadata[fields + place : fields + place + 2], "little") if place < size else 0

    message = int.from_bytes(metadata[:4], "little")
    place = message + field(message, 2)
    return field(place + int.from_bytes(metadata[place : place + 4], "little"), 3) != 0


def data_files(folder: Path) -> list[str]:
    """Return the names of the Arrow files of a dataset.

    Raises:
        DataError: `state.json` cannot be used.
    """
    entries = read_json(folder / STATE).get("_data_files")
    files = (
        [one.get("filename") if isinstance(one, dict) else None for one in entries] if isinstance(entries, list) else []
    )
    plain = [file for file in files if isinstance(file, str) and re.fullmatch(r"[\w-][\w.-]*", file)]
    if not plain or len(set(plain)) < len(files):
        raise DataError(f"{folder / STATE} must name files of this folder; found {quoted(entries)}: prepare it again")
    return plain

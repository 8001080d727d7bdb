"""The store: a dataset as a folder of memory-mapped Arrow files, in the format of Hugging Face datasets.

Instances lie in order, every sequence at its true length. `concordant.json` (data/card.py) says what the columns are;
`datasets.load_from_disk` opens the folder as well. Columns: id, split, group (or null), label, and one a modality,
the values of an instance in C order (or null where it is absent).
Axis letters: N instances, T steps of one instance; the rest is the modality's layout without its batch axis.
"""

from __future__ import annotations

import json
import mmap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from concordant.data.card import CARD, Card, ModalityCard, read_card
from concordant.errors import DataError, UsageError

if TYPE_CHECKING:
    import pyarrow as pa

STATE = "state.json"  # of `datasets`: which files hold the rows
# Read from the files before their pages are given back. The system maps the neighbours of what is touched as well,
# so that several times this much is resident.
RESIDENT_BYTES = 64 << 20
BARE = ("id", "split", "group", "label")

Values = NDArray[Any]


@dataclass(frozen=True)
class Instance:
    """One instance of a dataset.

    Args:
        id: its name, unique within the dataset.
        split: where it belongs: "train", "valid", "test", or the name of a fold.
        label: a class index, a real number, or class indices (T,), by the kind of label.
        features: modality -> its values in the modality's layout; None where it is absent.
        group: what it belongs to (speaker, video); None where instances are independent.
    """

    id: str
    split: str
    label: int | float | Values
    features: Mapping[str, Values | None]
    group: str | None = None


class Store:
    """A dataset on disk, read at random without loading it; a map-style dataset for PyTorch's DataLoader.

    Ids, splits, groups and labels are held in memory; features are read from memory-mapped files, whose pages
    are given back after every 64 MiB, so that resident memory does not grow with the dataset. Worker processes
    open the files themselves.

    Args:
        folder: of the dataset.

    Raises:
        DataError: it is no dataset, or a file of it is absent, truncated or foreign.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        self.card = read_card(self.folder)
        files = data_files(self.folder)
        self._shards = [_Shard(self.folder / file, self.card) for file in files]
        self._starts = np.cumsum([0, *(shard.rows for shard in self._shards)])
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
        shard = self._shards[which]
        features = shard.features(place - int(self._starts[which]))
        self._read += sum(values.nbytes for values in features.values() if values is not None)
        if self._read > RESIDENT_BYTES:
            self.release()
        group = None if self.groups is None else str(self.groups[place])
        return Instance(str(self.ids[place]), str(self.splits[place]), self._label(place), features, group)

    def __iter__(self) -> Iterator[Instance]:
        return (self[row] for row in range(len(self)))

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["folder"])  # type: ignore[misc]

    @cached_property
    def ids(self) -> NDArray[np.str_]:
        """Names of the instances (N,)."""
        return self._strings("id")

    @cached_property
    def splits(self) -> NDArray[np.str_]:
        """Splits of the instances (N,)."""
        return self._strings("split")

    @cached_property
    def groups(self) -> NDArray[np.str_] | None:
        """Groups of the instances (N,), or None."""
        return None if self.card.groups is None else self._strings("group")

    @cached_property
    def labels(self) -> Values | list[Values]:
        """Labels: int64 or float32 (N,); of segments a list of int64 (T,)."""
        columns = [shard.table.column("label") for shard in self._shards]
        if self.card.label.kind == "segments":
            return [np.asarray(row, np.int64) for column in columns for row in column.to_pylist()]
        dtype = np.float32 if self.card.label.kind == "real" else np.int64
        return np.concatenate([column.to_numpy() for column in columns]).astype(dtype)

    def rows(self, split: str) -> NDArray[np.int64]:
        """Return the rows of a split, in order."""
        if split not in self.card.splits:
            raise UsageError(f"unknown split {split!r} of {self.card.name}; choose from: {', '.join(self.card.splits)}")
        return np.flatnonzero(self.splits == split)

    def lengths(self, modality: str) -> NDArray[np.int64]:
        """Return how many steps each instance has (N,), 0 where the modality is absent; 1 where it has no steps."""
        known = self.card.modalities[modality]
        sizes = np.concatenate([shard.sizes(modality) for shard in self._shards])
        return sizes // _step_size(known) if known.time is not None else np.minimum(sizes, 1)

    @property
    def nbytes(self) -> int:
        """Bytes of the Arrow files."""
        return sum(len(shard.mapped) for shard in self._shards)

    def release(self) -> None:
        """Give the pages of the files back; what is read again comes from the system's cache."""
        for shard in self._shards:
            shard.release()
        self._read = 0

    def _label(self, row: int) -> int | float | Values:
        label = self.labels[row]
        if self.card.label.kind == "segments":
            return np.asarray(label)
        return float(label) if self.card.label.kind == "real" else int(label)

    def _strings(self, column: str) -> NDArray[np.str_]:
        return np.array([value for shard in self._shards for value in shard.table.column(column).to_pylist()], np.str_)


class _Shard:
    """One Arrow file, mapped into memory."""

    def __init__(self, path: Path, card: Card) -> None:
        import pyarrow as pa

        self.card = card
        try:
            with path.open("rb") as opened:
                self.mapped = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
            self.table: pa.Table = pa.ipc.open_stream(pa.py_buffer(self.mapped)).read_all()
        except (OSError, ValueError, pa.ArrowInvalid) as error:
            raise DataError(f"{path} cannot be read as Arrow ({error}); prepare the dataset again") from None
        expected = [*BARE, *card.modalities]
        if self.table.column_names != expected:
            raise DataError(f"{path} must have the columns {expected}; found {self.table.column_names}")
        self.rows = self.table.num_rows
        chunks = self.table.column("id").chunks
        self.starts = np.cumsum([0, *(len(chunk) for chunk in chunks)])
        self.columns = {name: [_Chunk(part) for part in self.table.column(name).chunks] for name in card.modalities}

    def features(self, row: int) -> dict[str, Values | None]:
        """Return the values of one row, views of the file."""
        which = int(np.searchsorted(self.starts, row, side="right")) - 1
        place = row - int(self.starts[which])
        return {
            name: _shaped(chunks[which].row(place), self.card.modalities[name]) for name, chunks in self.columns.items()
        }

    def sizes(self, modality: str) -> NDArray[np.int64]:
        """Return how many values each row has."""
        return np.concatenate([np.diff(chunk.offsets) for chunk in self.columns[modality]]).astype(np.int64)

    def release(self) -> None:
        if hasattr(mmap, "MADV_DONTNEED"):
            self.mapped.madvise(mmap.MADV_DONTNEED)


class _Chunk:
    """One column of the rows that were written at once."""

    def __init__(self, array: pa.ListArray) -> None:
        self.offsets: NDArray[np.int32] = array.offsets.to_numpy(zero_copy_only=True)
        self.values: Values = array.values.to_numpy(zero_copy_only=True)
        self.valid = None if array.null_count == 0 else array.is_valid().to_numpy(zero_copy_only=False)

    def row(self, place: int) -> Values | None:
        if self.valid is not None and not self.valid[place]:
            return None
        return self.values[self.offsets[place] : self.offsets[place + 1]]


def _step_size(known: ModalityCard) -> int:
    """Return how many values a step has, or an instance without steps."""
    return int(np.prod([size for size in known.shape if size is not None]))


def _shaped(values: Values | None, known: ModalityCard) -> Values | None:
    return None if values is None else values.reshape([-1 if size is None else size for size in known.shape])


def data_files(folder: Path) -> list[str]:
    """Return the names of the Arrow files of a dataset.

    Raises:
        DataError: `state.json` cannot be used.
    """
    try:
        state = json.loads((folder / STATE).read_text(encoding="utf-8"))
        files = [entry["filename"] for entry in state["_data_files"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{folder / STATE} cannot be read ({error}); prepare the dataset again") from None
    if not files or any(Path(file).name != file for file in files):
        raise DataError(f"{folder / STATE} must name files of this folder; found {files}")
    return files

"""`concordant predict`: predictions of a trained run for many instances, with reliabilities.

One row per instance: id, group, label, prediction (class names, or numbers), confidence (null for numbers), and
reliability_<modality> (null where the modality is absent, or the calibrator has none). Instances are read,
predicted and written chunk by chunk: a store of any size needs the memory of one chunk.
Axis letters: N instances of a chunk, M modalities.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from concordant.benchmarks.catalogue import BENCHMARKS, folder_of
from concordant.data.card import CARD
from concordant.data.split import Split, Task
from concordant.deploy.deployed import DeployedModel, Description
from concordant.deploy.opening import SHARED_WEIGHTS, load_shared, open_deployed
from concordant.deploy.raw import Instances, all_instances, raw_parts
from concordant.errors import UsageError
from concordant.files import csv_cell, write_atomically, writing
from concordant.robustness.predict import predict
from concordant.training.provenance import digests, versions
from concordant.training.runs import open_runs

if TYPE_CHECKING:
    import pyarrow as pa

SCHEMA = "concordant.predictions/1"
SUFFIXES = (".parquet", ".csv")
ROWS = 2048  # asked and written at a time
Progress = Callable[[int, int, str], None]


class _Writer(Protocol):
    def write_table(self, table: pa.Table) -> None: ...


def predict_run(
    folder: Path,
    out: Path,
    *,
    data: Path | None = None,
    trained_on: Path | None = None,
    label: str | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Write the predictions of a trained run; return their number and the mean reliabilities.

    Args:
        folder: of `concordant run` or `concordant share`.
        out: a file that ends in .parquet or .csv.
        data: the data folder, whose test part is asked about; or a prepared dataset that the run was not trained on,
            of which every instance is. None = the data folder that `concordant run` finds.
        trained_on: the data folder of the training, where `data` is another; a shared folder needs none.
        label: which method of a folder of `concordant run`; None = ours, else the last.
        seed: which seed of it.
        progress: called with the instances done, all of them, and "".

    Raises:
        UsageError: an argument is wrong.
        DataError: the data or the weights cannot be used.
    """
    if out.suffix not in SUFFIXES:
        raise UsageError(f"--out must end in {' or '.join(SUFFIXES)}; found {out}")
    model, instances = open_asked(folder, data=data, trained_on=trained_on, label=label, seed=seed)
    about, totals = model.description, Totals(len(model.description.names))

    def write(temporary: Path) -> None:
        with _writer(temporary, schema_of(about, instances)) as writer:
            for table in tables(model, instances, totals):
                writer.write_table(table)
                if progress is not None:
                    progress(totals.instances, len(instances.split), "")

    with writing(out):
        write_atomically(out, write)
    return {
        "schema": SCHEMA,
        "file": str(out),
        "instances": totals.instances,
        "benchmark": about.config.title,
        "fusion": about.config.fusion,
        "label": about.label,
        "seed": about.seed,
        "accuracy": totals.right / totals.instances if totals.known and totals.instances else None,
        "reliability": dict(zip(about.names, totals.means(), strict=True)) if model.has_reliability else None,
        "versions": versions(),
    }


def open_asked(
    folder: Path, *, data: Path | None, trained_on: Path | None, label: str | None, seed: int
) -> tuple[DeployedModel, Instances]:
    """Return the model of a folder and the instances to predict. Args: as for `predict_run`."""
    if (folder / SHARED_WEIGHTS).is_file():
        if label is not None or seed or trained_on is not None:
            raise UsageError(
                f"{folder} holds one model and its scaling; leave --calibrator, --seed and --trained-on out"
            )
        model = load_shared(folder)
        about = model.description
        if data is not None and _is_other(data, about.config.benchmark, about.files):
            return model, all_instances(data, about)
        return model, _test_part(raw_parts(about.config, about.seed, folder_of(about.config.benchmark, data)))
    runs = open_runs(folder)
    other = data is not None and _is_other(data, runs.config.benchmark, runs.files)
    if trained_on is not None and not other:
        raise UsageError("--trained-on goes with --data that names another prepared dataset; leave it out")
    model, parts = open_deployed(runs, label=label, seed=seed, data=trained_on if other else data)
    return model, all_instances(data, model.description) if data is not None and other else _test_part(parts)


def _is_other(data: Path, benchmark: str, trained_on: Mapping[str, str]) -> bool:
    """Return whether a data folder is a prepared dataset, and not the one of the training.

    Raises:
        UsageError: it would not be read: the data of the benchmark are embedded, and it is no prepared dataset.
    """
    files, store = BENCHMARKS[benchmark].files, (data / CARD).is_file()
    if not files and not store:
        raise UsageError(
            f"--data {data} is no prepared dataset, and {benchmark} reads no files; leave it out to predict the test "
            "part, or prepare a dataset with `concordant data`"
        )
    return store and (not files or digests(data, files) != trained_on)


def _test_part(parts: Task) -> Instances:
    return Instances(parts.test, parts.classes if parts.kind == "class" else ())


def tables(model: DeployedModel, instances: Instances, totals: Totals) -> Iterator[pa.Table]:
    """Yield the rows of all instances in order, in tables of at most `ROWS` rows."""
    for piece in instances.split.chunks():
        for start in range(0, len(piece), ROWS):
            yield _table(model, instances, piece.take(slice(start, start + ROWS)), totals)


def schema_of(about: Description, instances: Instances) -> pa.Schema:
    """Return the columns of the file."""
    import pyarrow as pa

    said = pa.string() if about.kind == "class" else pa.float32()
    named = instances.classes or not instances.labelled
    known = pa.string() if named else pa.float32()
    fixed = [("id", pa.string()), ("group", pa.string()), ("label", known), ("prediction", said)]
    return pa.schema([*fixed, ("confidence", pa.float32()), *((f"reliability_{n}", pa.float32()) for n in about.names)])


class Totals:
    """Sums over all rows."""

    def __init__(self, modalities: int) -> None:
        self.instances = 0
        self.right = 0
        self.known = True
        self._sum, self._count = np.zeros(modalities), np.zeros(modalities)

    def add(
        self, right: NDArray[np.bool_] | None, reliability: NDArray[Any] | None, present: NDArray[np.bool_]
    ) -> None:
        """Add a chunk: correctness (N,), reliabilities and presence (N, M)."""
        self.instances += len(present)
        self.known = self.known and right is not None
        self.right += 0 if right is None else int(right.sum())
        if reliability is not None:
            self._sum += np.where(present, reliability, 0).sum(0)
            self._count += present.sum(0)

    def means(self) -> list[float | None]:
        """Return the mean reliability of each modality where it is present; None where it never is."""
        return [float(s / n) if n else None for s, n in zip(self._sum, self._count, strict=True)]


def _table(model: DeployedModel, instances: Instances, split: Split, totals: Totals) -> pa.Table:
    import pyarrow as pa

    about, classes = model.description, instances.classes
    schema, answer = schema_of(about, instances), predict(model, split.only(about.names))
    real = about.kind == "real"
    names = np.array(about.classes, dtype=object)
    predicted = answer.logits[:, 0] if real else names[answer.logits.argmax(1)]
    labels = np.array(classes, dtype=object)[split.labels] if classes else split.labels
    right = None if real or not classes else predicted == labels
    reliability = answer.reliability if model.has_reliability else None
    totals.add(right, reliability, answer.present)
    columns = [
        pa.array(split.ids.tolist(), pa.string()),
        pa.array([None] * len(split) if split.groups is None else split.groups.tolist(), pa.string()),
        pa.array(labels.tolist() if instances.labelled else [None] * len(split), schema.field("label").type),
        pa.array(predicted.tolist(), pa.float32() if real else pa.string()),
        pa.nulls(len(split), pa.float32()) if real else pa.array(_confidence(answer.logits), pa.float32()),
    ]
    for column in range(len(about.names)):
        gone = ~answer.present[:, column]
        known = None if reliability is None else reliability[:, column]
        columns.append(
            pa.nulls(len(split), pa.float32()) if known is None else pa.array(known, pa.float32(), mask=gone)
        )
    return pa.table(columns, schema=schema)


def _confidence(logits: NDArray[Any]) -> NDArray[Any]:
    """Return the probability of the predicted class, (N,)."""
    return np.asarray(1 / np.exp(logits - logits.max(1, keepdims=True)).sum(1))


class _WithoutFormulas:
    """Writes a table as CSV whose names no spreadsheet takes for formulas."""

    def __init__(self, writer: _Writer) -> None:
        self._writer = writer

    def write_table(self, table: pa.Table) -> None:
        import pyarrow as pa

        for place, field in enumerate(table.schema):
            if field.type == pa.string():
                cells = [None if cell is None else csv_cell(cell) for cell in table.column(place).to_pylist()]
                table = table.set_column(place, field, pa.array(cells, pa.string()))
        self._writer.write_table(table)


@contextmanager
def _writer(path: Path, schema: pa.Schema) -> Iterator[_Writer]:
    """Open a table writer by the suffix of the file."""
    if path.suffix == ".csv":
        from pyarrow.csv import CSVWriter

        with CSVWriter(str(path), schema) as writer:
            yield _WithoutFormulas(writer)
        return
    from pyarrow.parquet import ParquetWriter

    with ParquetWriter(str(path), schema, compression="zstd") as writer:
        yield writer

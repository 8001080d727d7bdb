"""The predictions of runs as a table: one row an instance and condition.

Columns: calibrator, perturbed_training, seed, condition, id, group, label, prediction, confidence (null of numbers),
corrupted (the modality that was hit, or null), and reliability_<modality> (null where there is none, or where
the modality is absent).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from concordant.data.split import AnySplit
from concordant.errors import DataError
from concordant.files import write_atomically
from concordant.robustness.stress import Stressed
from concordant.training.config import Variant

if TYPE_CHECKING:
    import pyarrow as pa


def as_table(stressed: Stressed, test: AnySplit, variant: Variant, seed: int) -> pa.Table:
    """Return the predictions of one run."""
    import pyarrow as pa

    tables = []
    for condition, scored in stressed.scored.items():
        count = len(test)
        kind = pa.int64() if test.labels.dtype.kind == "i" else pa.float32()
        victim = np.array([None, *stressed.names], dtype=object)[
            np.where(scored.hit.any(1), scored.hit.argmax(1) + 1, 0)
        ]
        columns = {
            "calibrator": pa.array([variant.calibrator] * count).dictionary_encode(),
            "perturbed_training": pa.array([variant.perturbed] * count),
            "seed": pa.array([seed] * count, pa.int64()),
            "condition": pa.array([condition] * count).dictionary_encode(),
            "id": pa.array(test.ids.tolist(), pa.string()),
            "group": pa.array([None] * count if test.groups is None else test.groups.tolist(), pa.string()),
            "label": pa.array(test.labels, kind),
            "prediction": pa.array(scored.prediction, kind),
            "confidence": pa.nulls(count, pa.float32()) if scored.confidence is None else pa.array(scored.confidence),
            "corrupted": pa.array(victim.tolist(), pa.string()).dictionary_encode(),
        }
        for column, name in enumerate(stressed.names):
            values = None if scored.reliability is None else scored.reliability[:, column]
            gone = ~scored.present[:, column]
            columns[f"reliability_{name}"] = (
                pa.nulls(count, pa.float32()) if values is None else pa.array(values, pa.float32(), mask=gone)
            )
        tables.append(pa.table(columns))
    return pa.concat_tables(tables).unify_dictionaries()


def write_table(path: Path, table: pa.Table) -> None:
    """Write a table as parquet, atomically."""
    import pyarrow.parquet as pq

    write_atomically(path, lambda temporary: pq.write_table(table, temporary, compression="zstd"))


def read_tables(paths: Sequence[Path]) -> pa.Table:
    """Read the predictions of several runs as one table.

    Raises:
        DataError: a file is absent or is no parquet file.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    tables = []
    for path in paths:
        try:
            tables.append(pq.read_table(path))
        except (OSError, pa.ArrowInvalid) as error:
            raise DataError(f"{path} cannot be read as parquet ({error}); remove its folder to run it again") from None
    return pa.concat_tables(tables).unify_dictionaries()

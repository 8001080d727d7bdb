"""Parquet files: read as a whole, when they take no more memory than their bytes and CONCORDANT_LIMIT allow."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from concordant.errors import DataError
from concordant.files import check_size, reading

if TYPE_CHECKING:
    import pyarrow as pa


def read_parquet(path: Path, remedy: str = "copy or download it again") -> pa.Table:
    """Read a file; `remedy` ends the sentence of an error.

    Raises:
        DataError: it is absent, damaged or no Parquet file, would take more memory than is allowed, or has two columns
            of one name.
    """
    import pyarrow.parquet as pq

    with reading(path, "Parquet", remedy) as size:
        opened = pq.ParquetFile(path.absolute())  # "a:b/c" would be taken for an address
        about = opened.metadata
        packed = sum(about.row_group(place).total_byte_size for place in range(about.num_row_groups))
        check_size(str(path), max(packed, 8 * about.num_rows * about.num_columns), size)
        table = opened.read()
        table.validate(full=True)
    twice = sorted(column for column, count in Counter(table.column_names).items() if count > 1)
    if twice:
        raise DataError(f"{path}: every column may occur once; found {', '.join(twice)} again")
    return table

"""Parquet files of `gnn`: read with their columns checked, written as they are made, whole or not at all."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from kg.errors import FileFormatError, first_five
from kg.files import whole_file


def read_columns(path: Path, columns: Sequence[str] = ()) -> pa.Table:
    """Read a Parquet file that must have some columns; the file is mapped, not copied, before it is decoded.

    Args:
        path: the file.
        columns: what it must have; all columns are read.

    Raises:
        FileFormatError: if there is no such file, it is damaged or no Parquet, or it lacks a column.
    """
    try:
        table = pq.read_table(path, memory_map=True)
    except (OSError, pa.ArrowException) as error:
        reason = "there is no such file" if isinstance(error, FileNotFoundError) else str(error).splitlines()[0]
        msg = f"`{path}` cannot be read as Parquet: {reason}; make it again"
        raise FileFormatError(msg) from error
    missing = [column for column in columns if column not in table.column_names]
    if missing:
        msg = f"`{path}` lacks the column {first_five(missing)}; it has {first_five(table.column_names)}; make it again"
        raise FileFormatError(msg)
    return table


@contextmanager
def parquet_writer(path: Path, schema: pa.Schema) -> Iterator[pq.ParquetWriter]:
    """Yield a writer of tables; the file takes its name when the block ends well, and vanishes when it does not.

    Raises:
        WriteError: if the place is taken, or the disk is full or read-only.
    """
    with whole_file(path) as out, pq.ParquetWriter(out, schema, compression="zstd") as writer:
        yield writer

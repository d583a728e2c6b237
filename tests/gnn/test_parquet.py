"""Parquet files are whole or absent, and what is no such file is named."""

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gnn.parquet import parquet_writer, read_columns
from kg.errors import FileFormatError, WriteError

TABLE = pa.table({"user_id": ["u:1", "u:2"], "ndcg@20": [0.5, 0.25]})


def test_what_was_written_piece_by_piece_is_read_whole(tmp_path: Path) -> None:
    with parquet_writer(tmp_path / "new" / "t.parquet", TABLE.schema) as writer:
        for row in range(2):
            writer.write_table(TABLE[row : row + 1])
    assert read_columns(tmp_path / "new" / "t.parquet", ["user_id"]).equals(TABLE)
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["t.parquet"]


def test_a_writer_that_stops_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        pytest.raises(ValueError, match="schema does not match"),
        parquet_writer(tmp_path / "t.parquet", TABLE.schema) as writer,
    ):
        writer.write_batch(pa.record_batch({"other": [1]}))
    assert list(tmp_path.iterdir()) == []

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with (
        pytest.raises(WriteError, match=r"cannot write `.*t\.parquet`: No space left on device"),
        parquet_writer(tmp_path / "t.parquet", TABLE.schema) as writer,
    ):
        writer.write_table(TABLE)
    assert list(tmp_path.iterdir()) == []


def test_a_taken_place_is_refused(tmp_path: Path) -> None:
    pq.write_table(TABLE, tmp_path / "t.parquet")
    with pytest.raises(WriteError, match=r"t\.parquet` exists already"), parquet_writer(tmp_path / "t.parquet", None):
        pytest.fail("the block must not run")


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    with pytest.raises(FileFormatError, match=r"t\.parquet` cannot be read as Parquet: there is no such file"):
        read_columns(path)
    pq.write_table(TABLE, path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(FileFormatError, match=r"t\.parquet` cannot be read as Parquet: .*make it again"):
        read_columns(path)
    path.write_bytes(whole)
    with pytest.raises(FileFormatError, match=r"t\.parquet` lacks the column `vector`; it has `user_id`, `ndcg@20`"):
        read_columns(path, ["user_id", "vector"])

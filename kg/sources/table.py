"""One CSV or Parquet file of interactions, and perhaps one of items, with a column mapping."""

import io
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import csv

from kg.assemble import Assembly, check_ids, entity_table, prefixed, raw_id
from kg.delimited import TextTable, parse_csv, plain_name, read_bytes, read_utf8
from kg.errors import ConfigError, FileFormatError, WriteError, did_you_mean, first_five
from kg.files import write_file
from kg.graph import Graph
from kg.source import ReadReport, Source, left_out
from kg.terms import ITEM, SPLITS, UNSPLIT, USER

_CSV, _TSV, _PARQUET = ".csv", ".tsv", ".parquet"


class Table(Source, name="table"):
    """Interactions as rows of a CSV (quoted or not), TSV or Parquet file; `Config` says which column is what.

    Times are whole or broken seconds (a fraction is cut off), Parquet timestamps, or ISO dates; a row without a user
    or item is counted as `no_id`. Written files hold users and items of interactions, time, value and split under the
    default column names, and an items table NAME.items.SUFFIX with name and text beside them.
    """

    @dataclass(frozen=True)
    class Config:
        """Which column is what; an empty name means that the file has no such column.

        Attributes:
            name: of the data set; empty takes the name of the file.
            user: column of users.
            item: column of items.
            timestamp: column of times.
            value: column of ratings or counts.
            split: column of splits (train, valid, test, unsplit).
            items: file of items, beside the file of interactions; empty for none.
            item_id: its column of items.
            item_name: its column of names.
            item_text: its columns that together become the text of an item.
        """

        name: str = ""
        user: str = "user_id"
        item: str = "item_id"
        timestamp: str = ""
        value: str = ""
        split: str = ""
        items: str = ""
        item_id: str = "item_id"
        item_name: str = ""
        item_text: tuple[str, ...] = ()

        def __post_init__(self) -> None:
            """Check that users and items have a column.

            Raises:
                ConfigError: if `user` or `item` is empty.
            """
            for key in ("user", "item"):
                if not getattr(self, key):
                    msg = f"`{key}` is empty; name the column that holds the {key} ids"
                    raise ConfigError(msg)

    config: Config
    suffix = ".csv"

    def read_with_report(self, path: Path) -> tuple[Graph, ReadReport]:
        """Read a file of interactions; see `Source.read_with_report`."""
        path, c = Path(path), self.config
        made = Assembly(c.name or plain_name(path))
        table = _read(path)
        columns = {"user_id": _ids(table, c.user, "user"), "item_id": _ids(table, c.item, "item")}
        if c.timestamp:
            columns["timestamp"] = _times(table, c.timestamp)
        if c.value:
            columns["value"] = table.numbers(c.value, pa.float64())
        if c.split:
            columns["split"] = _splits(table, c.split)
        made.interactions.append(pa.table(columns))
        if c.items:
            made.describe(self._items(_read(path.parent / c.items)))
        return made.finish()

    def _items(self, table: TextTable) -> pa.Table:
        c = self.config
        ids = _ids(table, c.item_id, "item")
        check_ids(table.path, c.item_id, ids)
        names = table.column(c.item_name).to_pylist() if c.item_name else None
        cells = [table.column(column).to_pylist() for column in c.item_text]
        texts = [". ".join(filter(None, row)) for row in zip(*cells, strict=True)] if cells else None
        return entity_table(ids, ITEM, names, texts)

    def write(self, graph: Graph, path: Path) -> dict[str, int]:
        """Write a file of interactions and one of items beside it; see `Source.write`."""
        path = Path(path)
        suffix = _format_of(path)
        graph = graph.canonical()
        pairs = graph.interactions
        for column, entity_type in (("user_id", USER), ("item_id", ITEM)):
            raw = [raw_id(i, entity_type) for i in pairs[column].to_pylist()]
            pairs = pairs.set_column(pairs.column_names.index(column), column, pa.array(raw, pa.string()))
        chosen = graph.entities.filter(pc.equal(graph.entities["type"], ITEM))
        raw = [raw_id(i, ITEM) for i in chosen["entity_id"].to_pylist()]
        items = pa.table({"item_id": raw, "name": chosen["name"], "text": chosen["text"]})
        beside = path.with_name(f"{path.name.removesuffix(suffix)}.items{suffix}")
        if beside.exists():
            msg = f"`{beside}` exists already; choose another place"
            raise WriteError(msg)
        write_file(path, _serialised(pairs, suffix))
        write_file(beside, _serialised(items, suffix))
        return left_out(graph, "interactions")


def _format_of(path: Path) -> str:
    suffix = Path(path.name.removesuffix(".gz")).suffix.lower()
    if suffix in (_CSV, _TSV, _PARQUET):
        return suffix
    msg = f"`{path}` is neither {_CSV}, {_TSV} nor {_PARQUET}; rename or convert it"
    raise FileFormatError(msg)


def _read(path: Path) -> TextTable:
    suffix = _format_of(path)
    if suffix == _PARQUET:
        return _read_parquet(path)
    data = read_utf8(path)
    delimiter = "," if suffix == _CSV else "\t"
    parsing = csv.ParseOptions(delimiter=delimiter, newlines_in_values=True)
    first = data.lstrip(b"\r\n").partition(b"\n")[0]
    try:
        names = csv.read_csv(pa.BufferReader(first + b"\n"), parse_options=csv.ParseOptions(delimiter=delimiter))
    except pa.ArrowInvalid as error:
        msg = f"`{path}`, line 1: `{first[:80].decode(errors='replace')}` is no header; name every column on one line"
        raise FileFormatError(msg) from error
    return TextTable(path, parse_csv(path, data, names.column_names, parsing))


def _read_parquet(path: Path) -> TextTable:
    data = read_bytes(path)
    try:
        cells = pq.read_table(io.BytesIO(data))
    except pa.ArrowInvalid as error:
        msg = f"`{path}` is not readable Parquet: {error}; write it again"
        raise FileFormatError(msg) from error
    return TextTable(path, cells)


def _ids(table: TextTable, column: str, prefix: str) -> pa.ChunkedArray:
    cells = table.column(column)
    try:
        return prefixed(prefix, cells)
    except pa.ArrowNotImplementedError as error:
        msg = f"`{table.path}`, column `{column}` holds {cells.type}; expected texts or numbers that name a {prefix}"
        raise FileFormatError(msg) from error


def _times(table: TextTable, column: str) -> pa.ChunkedArray:
    cells = table.column(column)
    if pa.types.is_timestamp(cells.type) or pa.types.is_date(cells.type):
        return cells.cast(pa.timestamp("s"), safe=False).cast(pa.int64())
    first = next((c.as_py() for c in cells if c.as_py() not in (None, "")), "")
    if isinstance(first, str) and "-" in first[1:]:
        try:
            return pc.if_else(pc.equal(cells, ""), None, cells).cast(pa.timestamp("s")).cast(pa.int64())
        except pa.ArrowInvalid as error:
            msg = f"`{table.path}`, column `{column}`: {error}; expected seconds or ISO dates like 2014-07-22T10:00:00"
            raise FileFormatError(msg) from error
    return table.seconds(column)


def _splits(table: TextTable, column: str) -> pa.ChunkedArray:
    cells = table.column(column)
    allowed = (*SPLITS, UNSPLIT)
    wrong = [v for v in pc.unique(cells).to_pylist() if v not in allowed]
    if wrong:
        msg = f"`{table.path}`, column `{column}` has {first_five(wrong)}; {did_you_mean(str(wrong[0]), allowed)}"
        raise FileFormatError(msg)
    return cells


def _serialised(table: pa.Table, suffix: str) -> bytes:
    sink = io.BytesIO()
    if suffix == _PARQUET:
        pq.write_table(table, sink, compression="zstd")
    else:
        csv.write_csv(table, sink, csv.WriteOptions(delimiter="," if suffix == _CSV else "\t"))
    return sink.getvalue()

"""What the command line prints: results on stdout, everything else on stderr."""

import json
import os
import re
import sys
import traceback
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import pyarrow as pa
import pyarrow.parquet as pq
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from kg.files import write_file

console = Console(emoji=False)  # else `:star:` in an id would become one
errors = Console(stderr=True, emoji=False)
_WIDEST = 1 << 20
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # what a model wrote may not steer the terminal


def fail(error: BaseException, *, debug: bool, is_bug: bool = False) -> NoReturn:
    """Print an error as one line with its notes, and exit with status 1."""
    if debug:
        traceback.print_exception(error)
    what = f"{type(error).__name__}: {error}" if is_bug else str(error)
    errors.print(f"[bold red]error:[/] {escape(what)}", highlight=False, soft_wrap=True)
    for note in getattr(error, "__notes__", ()):
        errors.print(f"  {escape(note)}", highlight=False, soft_wrap=True)
    if is_bug and not debug:
        errors.print("  this is a bug of kglift; run the command again with --debug and report what it prints")
    sys.exit(1)


def say(text: str) -> None:
    """Print a line for a person, on stderr, so that stdout stays for results."""
    errors.print(text, highlight=False, soft_wrap=True)


def print_json(value: Any) -> None:
    """Print a plain value as JSON on stdout."""
    sys.stdout.write(_json(value))


def print_rows(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print a table; numbers to the right."""
    table = Table(title=title or None, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
    listed = [[_cell(v) for v in row] for row in rows]
    for place, column in enumerate(columns):
        numeric = all(
            row[place].replace(",", "").replace(".", "").lstrip("-").isdigit() for row in listed if row[place]
        )
        table.add_column(column, justify="right" if numeric and listed else "left", overflow="fold")
    for row in listed:
        table.add_row(*(escape(v) for v in row))
    _as_wide_as_it_is(table).print(table)


def _as_wide_as_it_is(table: Table) -> Console:
    """Return where to print a table: a pipe has no width at which its cells should be folded."""
    if console.is_terminal or "COLUMNS" in os.environ:
        return console
    return Console(emoji=False, width=console.measure(table, options=console.options.update(width=_WIDEST)).maximum)


def print_arrow(table: pa.Table, how: str) -> None:
    """Print an Arrow table as `table`, `json` or `csv`."""
    if how == "json":
        print_json(table.to_pylist())
    elif how == "csv":
        sys.stdout.write(_csv(table))
    else:
        print_rows("", table.column_names, (row.values() for row in table.to_pylist()))


def write_arrow(table: pa.Table, how: str, path: Path) -> None:
    """Write an Arrow table to a new file, whole or not at all: `json`, `parquet`, and as CSV whatever else.

    Raises:
        WriteError: if `path` is taken, or the disk is full or read-only.
    """
    if how == "parquet":
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink)
        write_file(path, sink.getvalue().to_pybytes())
    else:
        write_file(path, (_json(table.to_pylist()) if how == "json" else _csv(table)).encode())


def print_counts(title: str, counts: Mapping[str, Any]) -> None:
    """Print names and numbers."""
    print_rows(title, ["what", "number"], counts.items())


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n"


def _csv(table: pa.Table) -> str:
    columns = [_flat(column) for column in table.columns]
    frame = pa.table(columns, names=table.column_names).to_pandas(integer_object_nulls=True)
    return str(frame.to_csv(index=False))


def _flat(column: pa.ChunkedArray) -> pa.ChunkedArray | pa.Array:
    """Turn lists and structures into JSON texts, which a cell of CSV can hold."""
    if not pa.types.is_nested(column.type):
        return column
    return pa.array([None if v is None else json.dumps(v, default=str, ensure_ascii=False) for v in column.to_pylist()])


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4f}"
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", str(value))

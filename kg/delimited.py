"""Text tables and lists, plain or gzipped: read whole and fast; every complaint names the file and the line."""

import gzip
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from kg.errors import FileFormatError, WriteError, did_you_mean, first_five

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class TextTable:
    """Columns of text that remember the file they came from.

    Attributes:
        path: the file.
        cells: every column as strings; an empty cell is the empty string.
        data: the bytes of the file, to find the line of a bad cell; None where a row need not be a line.
        n_header: how many lines stand above row 0.
    """

    path: Path
    cells: pa.Table
    data: bytes | None = None
    n_header: int = 1

    def column(self, name: str) -> pa.ChunkedArray:
        """Return one column as strings.

        Raises:
            FileFormatError: if the file has no such column; the text lists those it has.
        """
        if name not in self.cells.column_names:
            msg = f"`{self.path}` has no column `{name}`; {did_you_mean(name, self.cells.column_names)}"
            raise FileFormatError(msg)
        return self.cells[name]

    def numbers(self, name: str, kind: pa.DataType) -> pa.ChunkedArray:
        """Return one column as numbers of type `kind`; an empty cell is null.

        Raises:
            FileFormatError: if there is no such column, or a cell is no such number; the text names its place.
        """
        cells = self._filled(name)
        try:
            numbers = cells.cast(kind)
            row = pc.index(pc.is_finite(numbers), False).as_py()
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            row = next(i for i, cell in enumerate(cells) if not _casts(cell, kind))
        if row >= 0:
            raise self._refusal(name, row, "a whole number" if pa.types.is_integer(kind) else "a number")
        return numbers

    def seconds(self, name: str) -> pa.ChunkedArray:
        """Return one column as whole seconds, a fraction cut off; an empty cell is null.

        Raises:
            FileFormatError: if there is no such column, or a cell is no number; the text names its place.
        """
        try:
            return self._filled(name).cast(pa.int64())
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            floats = pc.floor(self.numbers(name, pa.float64()))
        row = pc.index(pc.less(pc.abs(floats), 2.0**63), False).as_py()
        if row >= 0:
            raise self._refusal(name, row, "a number of seconds")
        return floats.cast(pa.int64(), safe=False)

    def integers(self, name: str) -> Ints:
        """Return one column as (n,) int64 without gaps.

        Raises:
            FileFormatError: if a cell is empty or no whole number; the text names its place.
        """
        numbers = self.numbers(name, pa.int64())
        if numbers.null_count:
            raise self._refusal(name, pc.index(pc.is_null(numbers), True).as_py(), "a whole number")
        whole: Ints = numbers.to_numpy()
        return whole

    def _filled(self, name: str) -> pa.ChunkedArray:
        cells = self.column(name)
        return pc.if_else(pc.equal(cells, ""), None, cells) if pa.types.is_string(cells.type) else cells

    def _refusal(self, name: str, row: int, what: str) -> FileFormatError:
        cell = self.cells[name][row].as_py()
        return FileFormatError(
            f"`{self.path}`, {self.place_of(row)}, column `{name}`: `{cell}` is not {what}; "
            "correct the cell or map another column"
        )

    def place_of(self, row: int) -> str:
        """Say where a row is: its line (blank lines are no rows), or its number where rows are not lines."""
        if self.data is None:
            return f"row {row + 1}"
        return f"line {_nth_filled_line(self.data, row + 1 + self.n_header)}"


def locate(folder: Path, *names: str) -> Path | None:
    """Return the first of some files that `folder` holds, plain or with `.gz`; None if it holds none."""
    for name in names:
        for path in (folder / name, folder / f"{name}.gz"):
            if path.is_file():
                return path
    return None


def require(folder: Path, *names: str) -> Path:
    """Return the first of some files that `folder` holds, plain or with `.gz`.

    Raises:
        FileFormatError: if `folder` is no directory or holds none of them; the text lists what it holds.
    """
    if not folder.is_dir():
        msg = f"`{folder}` is no directory; give the folder that holds {' or '.join(f'`{n}`' for n in names)}"
        raise FileFormatError(msg)
    found = locate(folder, *names)
    if found is None:
        held = first_five(sorted(p.name for p in folder.iterdir() if p.is_file()))
        wanted = " or ".join(f"`{n}`" for n in names)
        msg = f"`{folder}` holds no {wanted} (nor with `.gz`); it holds {held or 'no file'}. Give another folder"
        raise FileFormatError(msg)
    return found


def plain_name(path: Path) -> str:
    """Return the name of a file or folder without `.gz` and the suffix of its format."""
    name = path.resolve().name.removesuffix(".gz")
    return name if path.is_dir() else Path(name).stem


def read_bytes(path: Path) -> bytes:
    """Read a plain or gzipped file whole.

    Raises:
        FileFormatError: if it is absent, a directory, empty, or no whole gzip file.
    """
    try:
        data = path.read_bytes()
        data = gzip.decompress(data) if path.suffix == ".gz" else data
    except FileNotFoundError as error:
        msg = f"`{path}` does not exist; give the path of a file"
        raise FileFormatError(msg) from error
    except IsADirectoryError as error:
        msg = f"`{path}` is a directory; give the path of a file"
        raise FileFormatError(msg) from error
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        msg = f"`{path}` is no whole gzip file ({error}); fetch it again"
        raise FileFormatError(msg) from error
    if not data.strip():
        msg = f"`{path}` is empty; fetch it again, or remove it if it is optional"
        raise FileFormatError(msg)
    return data


def read_utf8(path: Path) -> bytes:
    """Read a plain or gzipped file whole and check that it is UTF-8; a byte order mark is dropped.

    Raises:
        FileFormatError: as `read_bytes`, and if the file is not UTF-8; the text names the line and the byte.
    """
    data = read_bytes(path)
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        msg = (
            f"`{path}`, line {line}: byte 0x{data[error.start]:02x} is not UTF-8; "
            "save the file as UTF-8, e.g. `iconv -f latin1 -t utf-8`"
        )
        raise FileFormatError(msg) from error
    return data.removeprefix(b"\xef\xbb\xbf")


def read_delimited(
    path: Path, delimiter: str | None = None, columns: Sequence[str] | None = None, *, header: bool = True
) -> TextTable:
    """Read a text table without quoting, one row a line.

    Args:
        path: plain or gzipped UTF-8.
        delimiter: between cells; None takes the tab if the first line has one, else the blank.
        columns: names of the columns; None takes them from the first line.
        header: whether the first line is a header (skipped where `columns` is given).

    Raises:
        FileFormatError: for a file that cannot be read, or a line with too many or too few cells.
    """
    data = read_utf8(path)
    first = data.lstrip(b"\r\n").partition(b"\n")[0].rstrip(b"\r")
    delimiter = delimiter or ("\t" if b"\t" in first else " ")
    names = list(columns) if columns is not None else first.decode("utf-8").split(delimiter)
    n_header = int(header)
    options = csv.ParseOptions(delimiter=delimiter, quote_char=False)
    return TextTable(path, parse_csv(path, data, names, options, n_header), data, n_header)


def parse_csv(path: Path, data: bytes, names: Sequence[str], options: csv.ParseOptions, n_header: int = 1) -> pa.Table:
    """Parse delimited bytes into columns of strings.

    Raises:
        FileFormatError: for a column named twice, or a line with too many or too few cells.
    """
    twice = [n for i, n in enumerate(names) if n in names[:i]]
    if twice:
        msg = f"`{path}` names the column `{twice[0]}` more than once; rename one of them in its first line"
        raise FileFormatError(msg)
    wrong: list[csv.InvalidRow] = []

    def note(row: csv.InvalidRow) -> str:
        wrong.append(row)
        return "skip"

    options.invalid_row_handler = note
    size = min(max(len(data) + 1, 1 << 16), 2**31 - 1)
    read = csv.ReadOptions(use_threads=False, block_size=size, column_names=names, skip_rows=n_header)
    convert = csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False)
    cells = csv.read_csv(pa.BufferReader(data), read_options=read, parse_options=options, convert_options=convert)
    if wrong:
        number = wrong[0].number
        place = f"row {number - n_header}" if options.quote_char else f"line {_nth_filled_line(data, number)}"
        msg = (
            f"`{path}`, {place}: {wrong[0].actual_columns} columns, expected {wrong[0].expected_columns} "
            f"({', '.join(names)}); correct the line `{wrong[0].text[:80]}`"
        )
        raise FileFormatError(msg)
    return cells


def read_lists(path: Path) -> tuple[Ints, Ints, Ints]:
    """Read lines of whole numbers `first second second ...`, as LightGCN and KGAT store interactions.

    Returns:
        The first number of each line, (m,); then for each pair its first and its second number, (n,) each.

    Raises:
        FileFormatError: if a token is no whole number; the text names the line.
    """
    data = read_utf8(path)
    rows = [tokens for line in data.splitlines() if (tokens := line.split())]
    flat = pa.array([token for row in rows for token in row], pa.binary()).cast(pa.string())
    sizes = np.fromiter((len(row) for row in rows), np.int64, len(rows))
    try:
        numbers = flat.cast(pa.int64()).to_numpy()
    except pa.ArrowInvalid as error:
        lines = enumerate(data.splitlines(), start=1)
        found = ((n, token.decode("utf-8")) for n, line in lines for token in line.split())
        number, bad = next((n, token) for n, token in found if not _casts(pa.scalar(token), pa.int64()))
        msg = f"`{path}`, line {number}: `{bad}` is not a whole number; expected `user item item ...`"
        raise FileFormatError(msg) from error
    starts = np.cumsum(sizes) - sizes
    is_second = np.ones(len(numbers), dtype=bool)
    is_second[starts] = False
    return numbers[starts], np.repeat(numbers[starts], sizes - 1), numbers[is_second]


def one_line(values: Iterable[str | None]) -> list[str]:
    """Make texts fit into one cell of a table without quoting: tabs and line ends become blanks, None is empty."""
    return [" ".join((value or "").split()) for value in values]


def write_lists(path: Path, firsts: Iterable[int], seconds: Iterable[int]) -> None:
    """Write pairs of numbers as `read_lists` reads them, one line for each distinct first number, in order."""
    rows: dict[int, list[int]] = {}
    for first, second in sorted(zip(firsts, seconds, strict=True)):
        rows.setdefault(first, [first]).append(second)
    path.write_text("".join(" ".join(map(str, row)) + "\n" for row in rows.values()), encoding="utf-8")


def write_columns(path: Path, columns: Sequence[Sequence[str]], *, titles: Sequence[str], delimiter: str) -> None:
    """Write columns of text as `read_delimited` reads them; without `titles` there is no first line for them.

    Raises:
        WriteError: if a cell holds the delimiter or a line end, which the format cannot quote.
    """
    for column in columns[:-1] if delimiter == " " else columns:
        bad = next((cell for cell in column if delimiter in cell or "\n" in cell or "\r" in cell), None)
        if bad is not None:
            msg = f"cannot write `{path.name}`: `{bad}` holds a blank, tab or line end; use another format or id"
            raise WriteError(msg)
    lines = [titles, *zip(*columns, strict=True)] if titles else zip(*columns, strict=True)
    path.write_text("".join(delimiter.join(line).rstrip(" ") + "\n" for line in lines), encoding="utf-8")


def _casts(cell: pa.Scalar, kind: pa.DataType) -> bool:
    try:
        cell.cast(kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return False
    return True


def _nth_filled_line(data: bytes, n: int) -> int:
    filled = (number for number, line in enumerate(data.split(b"\n"), start=1) if line.rstrip(b"\r"))
    return next((number for i, number in enumerate(filled, start=1) if i == n), 0)

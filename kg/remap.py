"""Lists `org_id remap_id [name]`: from the running numbers of LightGCN and KGAT files back to the ids behind them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from kg.assemble import readable_name
from kg.delimited import one_line, read_utf8, write_columns
from kg.errors import DuplicateIdError, FileFormatError, UnknownIdError, first_five

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Remap:
    """What one list file says.

    Attributes:
        path: the file; None where there is none, and numbers stand for themselves.
        raw: number -> the id behind it.
        names: number -> name, where the list has a column of names.
    """

    path: Path | None = None
    raw: Mapping[int, str] = field(default_factory=dict)
    names: Mapping[int, str] = field(default_factory=dict)

    def name(self, number: int) -> str:
        """Return the name of a number, an IRI shortened to its readable end; empty where it has none."""
        name = self.names.get(number, "")
        return readable_name(name) if "://" in name else name

    def ids(self, numbers: Ints, qualify: Callable[[str], str], used_in: Path) -> pa.Array:
        """Turn numbers, (n,) int64, into ids.

        Args:
            numbers: as the files use them.
            qualify: makes an id of what the list, or without a list the number itself, says.
            used_in: the file that uses them, named in errors.

        Raises:
            FileFormatError: if a number is negative.
            UnknownIdError: if a list is there and lacks a number.
        """
        distinct, places = np.unique(numbers, return_inverse=True)
        plain = [int(n) for n in distinct]
        if plain and plain[0] < 0:
            msg = f"`{used_in}` uses the number `{plain[0]}`; expected numbers from 0 on"
            raise FileFormatError(msg)
        unknown = [n for n in plain if n not in self.raw] if self.path else []
        if unknown:
            msg = (
                f"`{used_in}` uses {len(unknown)} numbers that `{self.path}` does not list: {first_five(unknown)}; "
                "add them to the list, or remove the list to use the numbers as ids"
            )
            raise UnknownIdError(msg)
        return pa.array([qualify(self.raw.get(n, str(n))) for n in plain], pa.string()).take(pa.array(places))


def read_remap(path: Path | None) -> Remap:
    """Read a list; without a file numbers stand for themselves.

    A first line whose second word is no number is a header; its third word tells whether the rest of each line is a
    name.

    Raises:
        FileFormatError: if a line is not `org_id remap_id ...`; the text names the line.
        DuplicateIdError: if an id or a number occurs twice.
    """
    if path is None:
        return Remap()
    raw: dict[int, str] = {}
    names: dict[int, str] = {}
    lines = read_utf8(path).decode("utf-8").split("\n")
    header = lines[0].split()
    has_header = len(header) > 1 and not header[1].isdigit()
    named = not has_header or "name" in (header[2:3] or [""])[0]
    for number, line in enumerate(lines[has_header:], start=1 + has_header):
        cells = line.rstrip("\r").replace("\t", " ").split(" ", 2)
        if cells == [""]:
            continue
        if len(cells) < 2 or not cells[1].isdigit():
            msg = f"`{path}`, line {number}: `{line[:80]}` is not `org_id remap_id`; correct the line"
            raise FileFormatError(msg)
        if int(cells[1]) in raw:
            msg = f"`{path}`, line {number}: number `{cells[1]}` occurs more than once; keep one line of each"
            raise DuplicateIdError(msg)
        raw[int(cells[1])] = cells[0]
        if named and len(cells) > 2:
            names[int(cells[1])] = cells[2]
    twice = len(raw) - len(set(raw.values()))
    if twice:
        same = [a for a, b in pairwise(sorted(raw.values())) if a == b]
        msg = f"`{path}`: {twice} ids occur more than once: {first_five(same)}; keep one line of each"
        raise DuplicateIdError(msg)
    return Remap(path, raw, names)


def write_remap(path: Path, raw: Sequence[str], names: Sequence[str] | None = None) -> None:
    """Write a list in which the place of an id is its number.

    Raises:
        WriteError: if an id holds a blank or a line end.
    """
    numbers = [str(n) for n in range(len(raw))]
    columns = [raw, numbers, one_line(names)] if names is not None else [raw, numbers]
    titles = ["org_id", "remap_id", "entity_name"][: len(columns)]
    write_columns(path, columns, titles=titles, delimiter=" ")

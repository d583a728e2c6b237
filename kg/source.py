"""The contract of a source: files of some format in, a `Graph` and a count of what was dropped out."""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from kg.graph import Graph
from kg.registry import Registered


@dataclass(frozen=True)
class ReadReport:
    """What became of the rows of the files that were read.

    Attributes:
        read: kind of row (interactions, triples, links, ...) -> rows found in the files.
        dropped: kind of row -> reason -> rows that are not in the graph. Empty where everything was kept.
    """

    read: Mapping[str, int]
    dropped: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    def kept(self) -> dict[str, int]:
        """Return for each kind of row how many were kept: read minus dropped."""
        return {kind: n - sum(self.dropped.get(kind, {}).values()) for kind, n in self.read.items()}

    def __str__(self) -> str:
        """Say in one line what was read and dropped."""
        parts = [f"{n:,} {kind}" for kind, n in self.read.items()]
        lost = [f"{n:,} {kind} ({why})" for kind, reasons in self.dropped.items() for why, n in reasons.items()]
        return f"read {', '.join(parts) or 'nothing'}; dropped {', '.join(lost) or 'nothing'}"


def left_out(graph: Graph, *held: str) -> dict[str, int]:
    """Return table -> rows of the tables that a format does not hold; entities and sources it holds in some way."""
    return {name: n for name, n in graph.counts().items() if n and name not in ("entities", "sources", *held)}


class Source(Registered, package="kg.sources"):
    """A file format that holds interactions, facts or both; a member is one file.

    Ids come out the same for every reading and every format: `user:196` and `item:242` from the raw ids of the files,
    other entities `entity:m.0abc`; a raw entity id that is qualified already (it has a colon: an IRI, `genre:comedy`)
    is kept. A file may be gzipped, with `.gz` behind its name. A pair of user and item is kept once: that of the
    earliest timestamp, then of the earliest split (train, valid, test), then the first in the file. Every fact that
    comes from files has confidence 1.0 and the source `dataset:NAME`, except where the format says otherwise.

    Attributes:
        suffix: how the name of a file of this format ends; empty where the format is a folder.
    """

    Config: ClassVar[type[Any]]
    suffix: ClassVar[str] = ""

    def __init__(self, config: Any = None) -> None:
        self.config = self.Config() if config is None else config

    @abstractmethod
    def read_with_report(self, path: Path) -> tuple[Graph, ReadReport]:
        """Read a file or folder and count what was dropped.

        Raises:
            FileFormatError: if a file is missing, empty, not UTF-8, lacks a column or has a wrong cell; the text
                names the file and the line.
            DuplicateIdError: if a file defines an entity twice.
            UnknownIdError: if a row names an id that the lists of the same folder do not define.
        """

    @abstractmethod
    def write(self, graph: Graph, path: Path) -> dict[str, int]:
        """Write a graph in this format, whole or not at all.

        Returns:
            Table -> rows that the format cannot hold and that were left out.

        Raises:
            WriteError: if the place is taken, or the disk is full or read-only.
            SplitError: if the format needs a split and the interactions have none.
        """

    def read(self, path: Path) -> Graph:
        """Read a file or folder; see `read_with_report` for what is raised and for the counts."""
        return self.read_with_report(path)[0]

"""What a step did to a graph, row by row, so that it can be undone."""

from dataclasses import dataclass
from typing import Any, Self

import pyarrow as pa

from kg.graph import Graph
from kg.tables import TABLES


@dataclass(frozen=True)
class Difference:
    """Rows that one graph has and another has not.

    Attributes:
        removed: table -> rows of the graph before that are not in the one after.
        added: table -> rows of the graph after that were not in the one before.
    """

    removed: dict[str, pa.Table]
    added: dict[str, pa.Table]

    @classmethod
    def between(cls, before: Graph, after: Graph) -> Self:
        """Compare two graphs."""
        return cls(*({n: _without(a, b) for n, a, b in _tables(*pair)} for pair in ((before, after), (after, before))))

    def n_missing(self, graph: Graph) -> int:
        """Count the added rows that a graph has not: 0 where this was done to it."""
        return sum(len(_without(rows, graph.tables()[name])) for name, rows in self.added.items())

    def undo(self, graph: Graph) -> Graph:
        """Take back what was done; what was written to the graph since then stays.

        Raises:
            SchemaError: if something that was written since rests on what goes; the text names it.
        """
        left = {name: _without(table, self.added[name]) for name, table in graph.tables().items()}
        back = {name: _without(table, left[name]) for name, table in self.removed.items()}
        return Graph.from_tables(**{name: pa.concat_tables([left[name], back[name]]) for name in TABLES}).canonical()


def _tables(one: Graph, other: Graph) -> list[tuple[str, pa.Table, pa.Table]]:
    return [(name, table, other.tables()[name]) for name, table in one.tables().items()]


def _without(table: pa.Table, other: pa.Table) -> pa.Table:
    """Return the rows of a table that another does not have."""
    known = set(_rows(other))
    return table.filter(pa.array([row not in known for row in _rows(table)], pa.bool_()))


def _rows(table: pa.Table) -> list[tuple[Any, ...]]:
    columns = [[repr(v) for v in c.to_pylist()] if pa.types.is_list(c.type) else c.to_pylist() for c in table.columns]
    return list(zip(*columns, strict=True))

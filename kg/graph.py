"""`Graph`: the one value that flows from stage to stage."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kg.errors import DuplicateIdError, SchemaError, first_five
from kg.tables import TABLES, check_references, conform, empty_table
from kg.terms import INTERACTS, ITEM, SPLITS, UNSPLIT, USER


@dataclass(frozen=True)
class Graph:
    """Entities, interactions, triples and hyperedges with the texts, features and sources that belong to them.

    The same value is a data set (entities and interactions only), the output of an extraction and a fused graph: the
    stages differ in which tables they fill. It is immutable; functions return a new one. Construct it with
    `from_tables`, which validates; the bare constructor trusts its arguments.
    """

    entities: pa.Table
    interactions: pa.Table
    triples: pa.Table
    hyperedges: pa.Table
    members: pa.Table
    texts: pa.Table
    features: pa.Table
    sources: pa.Table

    @classmethod
    def from_tables(cls, **tables: pa.Table) -> Self:
        """Build a graph; a table that is not given is empty.

        Raises:
            SchemaError: if a table breaks its schema, a user or item has the wrong type, an id is unknown or double, or
                a triple has the reserved relation `interacts`.
        """
        checked = {name: empty_table(name) for name in TABLES}
        checked.update({name: conform(name, table) for name, table in tables.items()})
        check_references(checked)
        graph = cls(**checked)
        graph._check_endpoints()
        graph._check_reserved()
        return graph

    @classmethod
    def from_rows(cls, **rows: list[dict[str, Any]]) -> Self:
        """Build a graph from lists of row dictionaries, for small graphs and tests.

        Raises:
            SchemaError: as `from_tables`, and for a row with an unknown or a missing key.
        """
        tables = {}
        for name, values in rows.items():
            columns = {key: [row.get(key) for row in values] for key in dict.fromkeys(k for row in values for k in row)}
            try:
                tables[name] = pa.table(
                    {
                        key: pa.array(column, type=_field_type(name, key), from_pandas=True)
                        for key, column in columns.items()
                    }
                )
            except (ValueError, TypeError, OverflowError) as error:  # Arrow's own derive from these
                msg = f"table `{name}`: a value has the wrong type: {error}; correct that row"
                raise SchemaError(msg) from error
            if not values:
                tables[name] = empty_table(name) if name in TABLES else tables[name]
        return cls.from_tables(**tables)

    def tables(self) -> dict[str, pa.Table]:
        """Return the eight tables by name, in their fixed order."""
        return {name: getattr(self, name) for name in TABLES}

    def replace(self, **tables: pa.Table) -> Self:
        """Return a validated copy with some tables replaced."""
        return type(self).from_tables(**{**self.tables(), **tables})

    def counts(self) -> dict[str, int]:
        """Return the number of rows of each table."""
        return {name: len(table) for name, table in self.tables().items()}

    def ids_of(self, entity_type: str) -> list[str]:
        """Return the ids of all entities of one type, sorted."""
        chosen = self.entities.filter(pc.equal(self.entities["type"], entity_type))
        return sorted(chosen["entity_id"].to_pylist())

    def interactions_of(self, split: str) -> pa.Table:
        """Return the interactions of one split.

        Raises:
            SchemaError: if `split` is no split.
        """
        if split not in (*SPLITS, UNSPLIT):
            msg = f"`{split}` is no split; expected one of {', '.join(SPLITS)}"
            raise SchemaError(msg)
        return self.interactions.filter(pc.equal(self.interactions["split"], split))

    def names(self) -> dict[str, str]:
        """Return the name of each entity by id."""
        return dict(zip(self.entities["entity_id"].to_pylist(), self.entities["name"].to_pylist(), strict=True))

    def canonical(self) -> Self:
        """Return the graph with the rows of each table sorted by key: equal graphs get equal bytes."""
        return type(self)(**{name: _sort(name, table) for name, table in self.tables().items()})

    def equals(self, other: Self) -> bool:
        """Compare two graphs fact by fact, whatever the order of rows."""
        mine, others = self.canonical().tables(), other.canonical().tables()
        return all(mine[name].equals(others[name]) for name in TABLES)

    def _check_endpoints(self) -> None:
        types = {USER: "user_id", ITEM: "item_id"}
        for entity_type, column in types.items():
            known = pa.array(self.ids_of(entity_type), pa.string())
            values = pc.unique(self.interactions[column])
            wrong = values.filter(pc.invert(pc.is_in(values, value_set=known)))
            if len(wrong):
                msg = (
                    f"interactions, column `{column}`: `{wrong[0].as_py()}` is an entity of another type than "
                    f"`{entity_type}`; correct its `type` in the entities table"
                )
                raise SchemaError(msg)

    def _check_reserved(self) -> None:
        if pc.any(pc.equal(self.triples["relation"], INTERACTS)).as_py():
            msg = (
                f"triples have the relation `{INTERACTS}`, which is kept for interactions: put them into the "
                "interactions table, where they carry a split, or rename the relation"
            )
            raise SchemaError(msg)
        edges = self.hyperedges["hyperedge_id"]
        both = edges.filter(pc.is_in(edges, value_set=self.entities["entity_id"].combine_chunks()))
        if len(both):
            msg = f"{len(both)} ids name an entity and a hyperedge: {first_five(both.to_pylist())}; rename one of each"
            raise DuplicateIdError(msg)


def concat(*graphs: Graph) -> Graph:
    """Put graphs together; rows that are equal in every column are kept once.

    The order of the graphs does not matter to which facts come out, only to the order of rows. Resolution of entities
    that are the same under different ids is `kg.fuse`'s work.

    Raises:
        DuplicateIdError: if two graphs say different things under one key.
    """
    merged = {}
    for name in TABLES:
        stacked = pa.concat_tables([getattr(g, name) for g in graphs])
        merged[name] = _distinct(name, stacked)
    return Graph.from_tables(**merged)


def mapping_of(table: pa.Table, key: str, value: str) -> Mapping[Any, Any]:
    """Return one column of a table by another, as a dictionary."""
    return dict(zip(table[key].to_pylist(), table[value].to_pylist(), strict=True))


def _field_type(name: str, column: str) -> pa.DataType | None:
    if name not in TABLES or column not in TABLES[name].schema.names:
        return None
    return TABLES[name].schema.field(column).type


def _sort(name: str, table: pa.Table) -> pa.Table:
    return table.sort_by([(column, "ascending") for column in TABLES[name].key]).combine_chunks()


def _distinct(name: str, table: pa.Table) -> pa.Table:
    key = list(TABLES[name].key)
    if len(table.select(key).group_by(key).aggregate([])) == len(table):
        return table
    columns = {field.name: _comparable(table[field.name], field.type) for field in table.schema}
    rows = pa.table({**columns, "_row": np.arange(len(table))})
    first = rows.group_by(list(columns)).aggregate([("_row", "min")])["_row_min"]
    return table.take(first.take(pc.sort_indices(first)))


def _comparable(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray | pa.Array:
    """Return a column that Arrow can group by; it cannot group lists."""
    return pa.array([repr(v) for v in column.to_pylist()]) if pa.types.is_list(kind) else column

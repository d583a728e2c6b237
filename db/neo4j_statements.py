"""The Cypher that writes each table into Neo4j: static statements, values only as parameters.

Labels and relationship types cannot be parameters; `db.model` makes them of letters, digits and `_` alone, and they are
quoted besides. So rows are grouped by label or type, and each group has one statement that the planner keeps. Rows go
as one list for each column, `$head[i]`: a list or a map for each row takes the server a fifth longer to unpack.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from db.merge import digest_key
from db.model import (
    FEATURE,
    HAS_FEATURE,
    HAS_TEXT,
    TEXT,
    label_of,
    relationship_type_of,
)
from kg.tables import TABLES

CONSTRAINTS: Final = tuple(
    f"CREATE CONSTRAINT kglift_{label.lower()} IF NOT EXISTS FOR (n:{label}) REQUIRE n.{key} IS UNIQUE"
    for label, key in (
        ("KgliftStore", "format"),
        ("Entity", "entity_id"),
        ("Hyperedge", "hyperedge_id"),
        ("Source", "source"),
        ("Run", "run"),
        ("Text", "row_key"),
        ("Feature", "row_key"),
        ("KgliftBatch", "batch"),
    )
)
NODES: Final = ("sources", "entities", "hyperedges")
RELATIONSHIPS: Final = ("interactions", "triples", "members", "texts", "features")
_FIXED: Final = {
    "interactions": (
        "MATCH (u:Entity {entity_id: $user_id[i]}) MATCH (v:Entity {entity_id: $item_id[i]}) "
        "MERGE (u)-[x:INTERACTED]->(v) "
        "SET x.timestamp = $timestamp[i], x.value = $value[i], x.split = $split[i]"
    ),
    "members": (
        "MATCH (h:Hyperedge {hyperedge_id: $hyperedge_id[i]}) MATCH (e:Entity {entity_id: $entity_id[i]}) "
        # MERGE takes no null, and a member may have no position
        "MERGE (h)-[x:MEMBER {role: $role[i], slot: coalesce(toString($position[i]), '')}]->(e) "
        "SET x.position = $position[i]"
    ),
}
_ATTACHED: Final = {"texts": (TEXT, HAS_TEXT), "features": (FEATURE, HAS_FEATURE)}


@dataclass(frozen=True)
class Group:
    """Rows that one statement writes.

    Attributes:
        table: the table that they are of.
        statement: takes each column as a list and their length as `$n`; returns how many rows it wrote, as `n`, and
            for entities the other types that these had before, as `former`.
        rows: what is written is among them.
        places: which of the rows; None for all. A million numbers take a tenth of what a million rows do.
    """

    table: str
    statement: str
    rows: pa.Table
    places: npt.NDArray[np.int64] | None = None

    def __len__(self) -> int:
        """Return how many rows are written."""
        return len(self.rows) if self.places is None else len(self.places)

    def at(self, which: slice | npt.NDArray[np.int64]) -> "Group":
        """Choose some of the rows, without a copy of them."""
        places = np.arange(len(self.rows)) if self.places is None else self.places
        return replace(self, places=places[which])

    def taken(self) -> "Group":
        """Copy the chosen rows."""
        return self if self.places is None else replace(self, rows=self.rows.take(self.places), places=None)


def groups(name: str, tables: dict[str, pa.Table]) -> Iterator[Group]:
    """Split table `name` of `db.model.stored_tables` into groups."""
    rows = tables[name]
    if name == "entities":
        for entity_type, chosen in _by(rows, "type"):
            label = label_of(entity_type)
            writes = (
                "MERGE (x:Entity {entity_id: $entity_id[i]}) WITH x, i, x.type AS was "
                f"SET x:`{label}`, {_settings('entities')} WITH CASE WHEN was <> $type[i] THEN was END AS was"
            )
            yield _group(name, writes, rows, chosen, "count(*) AS n, collect(DISTINCT was) AS former")
    elif name in ("sources", "hyperedges"):
        label, (key,) = name[:-1].capitalize(), TABLES[name].key
        yield _group(name, f"MERGE (x:{label} {{{key}: ${key}[i]}}) SET {_settings(name)}", rows)
    elif name == "triples":
        for relation, chosen in _by(rows, "relation"):
            kind = relationship_type_of(relation)
            writes = (
                "MATCH (h:Entity {entity_id: $head[i]}) MATCH (t:Entity {entity_id: $tail[i]}) "
                f"MERGE (h)-[x:`{kind}` {{relation: $relation[i], source: $source[i]}}]->(t) "
                "SET x.confidence = $confidence[i]"
            )
            yield _group(name, writes, rows, chosen)
    elif name in _ATTACHED:
        yield from _attached(name, rows, tables["entities"]["entity_id"])
    else:
        yield _group(name, _FIXED[name], rows)


def remove_label(entity_type: str) -> str:
    """Return the statement that takes the label of a former type from the entities `$entity_id`."""
    return f"UNWIND $entity_id AS id MATCH (x:Entity {{entity_id: id}}) REMOVE x:`{label_of(entity_type)}`"


def _attached(name: str, rows: pa.Table, entities: pa.ChunkedArray) -> Iterator[Group]:
    label, relationship = _ATTACHED[name]
    keyed = rows.append_column("row_key", digest_key(rows, TABLES[name].key))
    is_entity = pc.is_in(rows["entity_id"], value_set=entities.combine_chunks())
    for owner, chosen in (("Entity {entity_id", is_entity), ("Hyperedge {hyperedge_id", pc.invert(is_entity))):
        writes = (
            f"MATCH (o:{owner}: $entity_id[i]}}) MERGE (x:{label} {{row_key: $row_key[i]}}) "
            f"SET {_settings(name, without=())} MERGE (o)-[:{relationship}]->(x)"
        )
        yield _group(name, writes, keyed, chosen)


def _settings(name: str, without: tuple[str, ...] | None = None) -> str:
    """Set every column but the key, by which MERGE found the node."""
    kept = TABLES[name].key if without is None else without
    return ", ".join(f"x.{column} = ${column}[i]" for column in TABLES[name].schema.names if column not in kept)


def _by(rows: pa.Table, column: str) -> Iterator[tuple[str, pa.Array]]:
    for value in sorted(pc.unique(rows[column]).to_pylist()):
        yield value, pc.equal(rows[column], value)


def _group(
    table: str, writes: str, rows: pa.Table, chosen: pa.ChunkedArray | None = None, returns: str = "count(*) AS n"
) -> Group:
    places = None if chosen is None else np.flatnonzero(chosen.to_numpy())
    return Group(table, f"UNWIND range(0, $n - 1) AS i {writes} RETURN {returns}", rows, places)

"""The Cypher that writes each table into Neo4j: static statements, values only as parameters.

Labels and relationship types cannot be parameters; `db.model` makes them of letters, digits and `_` alone, and they are
quoted besides. So rows are grouped by label or type, and each group has one statement that the planner keeps.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

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
    )
)
ORDER: Final = ("sources", "entities", "hyperedges", "interactions", "triples", "members", "texts", "features")
STALE_TYPES: Final = (
    "UNWIND $rows AS row MATCH (x:Entity {entity_id: row.entity_id}) WHERE x.type <> row.type "
    "RETURN DISTINCT x.type AS type"
)
_FIXED: Final = {
    "sources": "MERGE (x:Source {source: row.source}) SET x += row",
    "hyperedges": "MERGE (x:Hyperedge {hyperedge_id: row.hyperedge_id}) SET x += row",
    "interactions": (
        "MATCH (u:Entity {entity_id: row.user_id}) MATCH (i:Entity {entity_id: row.item_id}) "
        "MERGE (u)-[x:INTERACTED]->(i) SET x.timestamp = row.timestamp, x.value = row.value, x.split = row.split"
    ),
    "members": (
        "MATCH (h:Hyperedge {hyperedge_id: row.hyperedge_id}) MATCH (e:Entity {entity_id: row.entity_id}) "
        # MERGE takes no null, and a member may have no position
        "MERGE (h)-[x:MEMBER {role: row.role, slot: coalesce(toString(row.position), '')}]->(e) "
        "SET x.position = row.position"
    ),
}
_ATTACHED: Final = {"texts": (TEXT, HAS_TEXT), "features": (FEATURE, HAS_FEATURE)}


@dataclass(frozen=True)
class Group:
    """Rows that one statement writes; it takes them as `$rows` and returns how many it wrote, as `n`."""

    statement: str
    rows: pa.Table


def groups(name: str, tables: dict[str, pa.Table]) -> Iterator[Group]:
    """Split table `name` of `db.model.stored_tables` into groups."""
    rows = tables[name]
    if name == "entities":
        for entity_type, chosen in _by(rows, "type"):
            yield _group(
                f"MERGE (x:Entity {{entity_id: row.entity_id}}) SET x:`{label_of(entity_type)}`, x += row", chosen
            )
    elif name == "triples":
        for relation, chosen in _by(rows, "relation"):
            yield _group(
                "MATCH (h:Entity {entity_id: row.head}) MATCH (t:Entity {entity_id: row.tail}) "
                f"MERGE (h)-[x:`{relationship_type_of(relation)}` {{relation: row.relation, source: row.source}}]->(t) "
                "SET x.confidence = row.confidence",
                chosen,
            )
    elif name in _ATTACHED:
        yield from _attached(name, rows, tables["entities"]["entity_id"])
    else:
        yield _group(_FIXED[name], rows)


def remove_label(entity_type: str) -> str:
    """Return the statement that takes the label of a former type from entities that now have another."""
    return (
        "UNWIND $rows AS row MATCH (x:Entity {entity_id: row.entity_id}) WHERE x.type <> row.type AND x.type = $type "
        f"REMOVE x:`{label_of(entity_type)}`"
    )


def _attached(name: str, rows: pa.Table, entities: pa.ChunkedArray) -> Iterator[Group]:
    label, relationship = _ATTACHED[name]
    keyed = rows.append_column("row_key", digest_key(rows, TABLES[name].key))
    is_entity = pc.is_in(rows["entity_id"], value_set=entities.combine_chunks())
    for owner, chosen in (("Entity {entity_id", is_entity), ("Hyperedge {hyperedge_id", pc.invert(is_entity))):
        yield _group(
            f"MATCH (o:{owner}: row.entity_id}}) MERGE (x:{label} {{row_key: row.row_key}}) SET x += row "
            f"MERGE (o)-[:{relationship}]->(x)",
            keyed.filter(chosen),
        )


def _by(rows: pa.Table, column: str) -> Iterator[tuple[str, pa.Table]]:
    for value in sorted(pc.unique(rows[column]).to_pylist()):
        yield value, rows.filter(pc.equal(rows[column], value))


def _group(writes: str, rows: pa.Table) -> Group:
    rows = rows.sort_by(rows.column_names[0])  # neighbours in one batch share page and lock: a third less work
    return Group(f"UNWIND $rows AS row {writes} RETURN count(*) AS n", rows)

"""The facts around one node, by the same Cypher in every database."""

from collections.abc import Iterable
from typing import Final

import pyarrow as pa

NEIGHBOUR_SCHEMA: Final = pa.schema(
    [
        ("entity_id", pa.string()),
        ("relation", pa.string()),
        ("direction", pa.string()),
        ("neighbour_id", pa.string()),
        ("confidence", pa.float64()),
        ("source", pa.string()),
    ]
)
_PATTERNS: Final = (
    ("(e:Entity)-[f]->(n:Entity) WHERE f.relation IS NOT NULL AND e.entity_id = $id", "fact", "out", "n.entity_id"),
    ("(e:Entity)<-[f]-(n:Entity) WHERE f.relation IS NOT NULL AND e.entity_id = $id", "fact", "in", "n.entity_id"),
    ("(e:Entity)-[:INTERACTED]->(n:Entity) WHERE e.entity_id = $id", "interaction", "out", "n.entity_id"),
    ("(e:Entity)<-[:INTERACTED]-(n:Entity) WHERE e.entity_id = $id", "interaction", "in", "n.entity_id"),
    ("(e:Entity)<-[m:MEMBER]-(n:Hyperedge) WHERE e.entity_id = $id", "membership", "out", "n.hyperedge_id"),
    ("(n:Hyperedge)-[m:MEMBER]->(e:Entity) WHERE n.hyperedge_id = $id", "membership", "in", "e.entity_id"),
)
_COLUMNS: Final = {
    "fact": "f.relation AS relation, f.confidence AS confidence, f.source AS source",
    "interaction": "'interacts' AS relation, null AS confidence, null AS source",
    "membership": "'member/' + m.role AS relation, n.weight AS confidence, n.source AS source",
}


def neighbour_statements() -> list[str]:
    """Return the Cypher statements that find all kinds of neighbours; parameters `id` and `limit`."""
    return [
        f"MATCH {pattern} RETURN $id AS entity_id, '{direction}' AS direction, {neighbour} AS neighbour_id, "
        f"{_COLUMNS[kind]} ORDER BY relation, neighbour_id, source LIMIT $limit"
        for pattern, kind, direction, neighbour in _PATTERNS
    ]


def neighbour_table(answers: Iterable[pa.Table], limit: int) -> pa.Table:
    """Put the answers of the statements together, sorted, at most `limit` rows."""
    columns = [answer.select(NEIGHBOUR_SCHEMA.names).cast(NEIGHBOUR_SCHEMA) for answer in answers]
    found = pa.concat_tables([NEIGHBOUR_SCHEMA.empty_table(), *columns])
    order = ("relation", "direction", "neighbour_id", "source")
    return found.sort_by([(column, "ascending") for column in order]).slice(0, limit)

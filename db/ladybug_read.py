"""Reading LadybugDB into Arrow: relationships come with the places of their nodes, which Arrow turns into ids.

A string for each end of each relationship would take most of the time of a read; places are integers, and `take` on the
ids of the nodes gives the strings.
"""

from collections.abc import Callable
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from db.model import ENTITY, FACT, HYPEREDGE, INTERACTED, MEMBER, read_statement
from kg.tables import TABLES

Ask = Callable[[str], pa.Table]

_IDS: Final = {ENTITY: "entity_id", HYPEREDGE: "hyperedge_id"}
_RELATIONSHIPS: Final = {
    "interactions": ((ENTITY, "user_id"), INTERACTED, (ENTITY, "item_id")),
    "triples": ((ENTITY, "head"), FACT, (ENTITY, "tail")),
    "members": ((HYPEREDGE, "hyperedge_id"), MEMBER, (ENTITY, "entity_id")),
}


def read_tables(ask: Ask) -> dict[str, pa.Table]:
    """Read the eight tables, in the columns of `db.model.stored_tables`.

    Args:
        ask: answers a Cypher statement, always on the same state of the store.
    """
    ids = {label: _ids_by_place(ask, label, key) for label, key in _IDS.items()}
    return {name: _related(ask, name, ids) if name in _RELATIONSHIPS else ask(read_statement(name)) for name in TABLES}


def _ids_by_place(ask: Ask, label: str, key: str) -> pa.Array:
    found = ask(f"MATCH (n:{label}) RETURN offset(id(n)) AS place, n.{key} AS id").sort_by("place").combine_chunks()
    places = found["place"].to_numpy()
    if not len(places) or places[-1] == len(places) - 1:
        return found["id"].combine_chunks()
    every = pa.array(range(places[-1] + 1), pa.int64())  # deleted nodes leave places empty
    return found["id"].combine_chunks().take(pc.index_in(every, value_set=found["place"].combine_chunks()))


def _related(ask: Ask, name: str, ids: dict[str, pa.Array]) -> pa.Table:
    (start, first), relationship, (end, last) = _RELATIONSHIPS[name]
    ends = {first: "offset(id(a))", last: "offset(id(b))"}
    columns = ", ".join(f"{ends.get(n, 'x.' + n)} AS {n}" for n in TABLES[name].schema.names)
    rows = ask(f"MATCH (a:{start})-[x:{relationship}]->(b:{end}) RETURN {columns}")
    for label, column in ((start, first), (end, last)):
        rows = rows.set_column(rows.schema.get_field_index(column), column, ids[label].take(rows[column]))
    return rows

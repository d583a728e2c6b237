"""The ids of hyperedges, where sources use one for different things."""

from collections.abc import Mapping
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from kg.graph import Graph

_COLUMNS: Final = {
    "hyperedges": "hyperedge_id",
    "members": "hyperedge_id",
    "texts": "entity_id",
    "features": "entity_id",
}


def id_of_source(hyperedge_id: str, source: str) -> str:
    """Return the id that a source's hyperedge gets where another source has the plain one.

    Example:
        >>> id_of_source("hyperedge:1", "llm:new")
        'hyperedge:1@llm:new'
    """
    return f"{hyperedge_id}@{source}"


def rename_hyperedges(graph: Graph, renamed: Mapping[str, str]) -> Graph:
    """Give some hyperedges other ids, with their members, texts and features.

    Texts and features under an id that an entity has too are the entity's.

    Args:
        graph: any.
        renamed: new id by the id that it replaces.
    """
    if not renamed:
        return graph
    changes, ids = {}, graph.entities["entity_id"]
    entities = set(pc.filter(ids, pc.is_in(ids, value_set=pa.array(list(renamed)))).to_pylist())
    alone = {old: new for old, new in renamed.items() if old not in entities}
    for name, column in _COLUMNS.items():
        table, names = getattr(graph, name), renamed if column == "hyperedge_id" else alone
        ids = pa.array([names.get(i, i) for i in table[column].to_pylist()], pa.string())
        changes[name] = table.set_column(table.column_names.index(column), table.schema.field(column), ids)
    return graph.replace(**changes)

"""Reading Neo4j into Arrow: pages of nodes, then pages of their relationships, each page one record of whole columns.

The driver takes some 20 microseconds to make a record and next to none for a value in a list, and Python as long again
for a row made of a list. So a record holds a page by columns, which become Arrow arrays as they are. Relationships come
with the places of their nodes (the server's integer ids), which Arrow turns into the ids of the graph. Memory holds one
page of Python objects at a time, on either side.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from db.errors import StoreUnreachableError
from db.model import ENTITY, FEATURE, HYPEREDGE, SOURCE, TEXT, stored_schema
from kg.tables import TABLES

Ask = Callable[[str, Mapping[str, Any]], Mapping[str, Any]]

_PAGE: Final = {ENTITY: 10_000, HYPEREDGE: 10_000, SOURCE: 2_000, TEXT: 2_000, FEATURE: 2_000}
_PAGE_OF_RELATIONSHIPS: Final = 50_000
_NODES: Final = {
    "entities": (ENTITY, "entity_id"),
    "hyperedges": (HYPEREDGE, "hyperedge_id"),
    "texts": (TEXT, "row_key"),
    "features": (FEATURE, "row_key"),
    "sources": (SOURCE, "source"),
}
_RELATIONSHIPS: Final = {
    "interactions": ("entities", "user_id", "-[x:INTERACTED]->(:Entity)", "item_id"),
    "triples": ("entities", "head", "-[x]->(:Entity) WHERE x.relation IS NOT NULL", "tail"),
    "members": ("hyperedges", "hyperedge_id", "-[x:MEMBER]->(:Entity)", "entity_id"),
}


class _Nodes:
    """The ids of the nodes of one label by their places, and how many relationships leave each."""

    def __init__(self, ids: pa.Array, places: npt.NDArray[np.int64], degrees: npt.NDArray[np.int64]) -> None:
        order = np.argsort(places)
        self.places, self.degrees = places[order], degrees[order]
        self._ids = ids.take(pa.array(order))

    def ids_at(self, places: npt.NDArray[np.int64]) -> pa.Array:
        """Return the ids of the nodes at some places."""
        found = np.searchsorted(self.places, places)
        if len(places) and (found.max() == len(self.places) or np.any(self.places[found] != places)):
            msg = "the graph changed while it was read: a fact names a node that is new; repeat when nobody writes"
            raise StoreUnreachableError(msg)
        return self._ids.take(pa.array(found))

    def pages(self) -> Iterator[list[int]]:
        """Yield the places of nodes with relationships, so that a page has about as many relationships as another."""
        chosen = self.places[self.degrees > 0]
        page_of = np.cumsum(self.degrees[self.degrees > 0]) // _PAGE_OF_RELATIONSHIPS
        for page in np.split(chosen, np.flatnonzero(np.diff(page_of)) + 1):
            if len(page):
                yield page.tolist()


def read_tables(ask: Ask) -> dict[str, pa.Table]:
    """Read the eight tables, in the columns of `db.model.stored_tables`.

    Args:
        ask: runs a statement with parameters, all in one transaction, and returns its only record.

    Raises:
        StoreUnreachableError: if somebody adds nodes in the meantime.
    """
    tables, nodes = {}, {}
    for name in _NODES:
        tables[name], nodes[name] = _read_nodes(ask, name)
    for name in _RELATIONSHIPS:
        tables[name] = _read_relationships(ask, name, nodes)
    return {name: tables[name] for name in TABLES}


def _read_nodes(ask: Ask, name: str) -> tuple[pa.Table, _Nodes]:
    label, key = _NODES[name]
    schema = stored_schema(name)
    columns = ", ".join(f"[x IN xs | x.{column}] AS {column}" for column in schema.names)
    returned = f"[x IN xs | id(x)] AS _place, [x IN xs | COUNT {{ (x)-->() }}] AS _degree, xs[-1].{key} AS _last"
    chunks, places, degrees = [schema.empty_table()], [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    compared, last = ">=", ""
    while last is not None:
        page = ask(
            f"MATCH (x:{label}) WHERE x.{key} {compared} $last WITH x ORDER BY x.{key} LIMIT $page "
            f"WITH collect(x) AS xs RETURN {returned}, {columns}",
            {"last": last, "page": _PAGE[label]},
        )
        chunks.append(_columns(page, schema))
        places.append(np.array(page["_place"], np.int64))
        degrees.append(np.array(page["_degree"], np.int64))
        compared, last = ">", page["_last"]
    table = pa.concat_tables(chunks)
    ids = table[schema.names[0]].combine_chunks()
    return table, _Nodes(ids, np.concatenate(places), np.concatenate(degrees))


def _read_relationships(ask: Ask, name: str, nodes: Mapping[str, _Nodes]) -> pa.Table:
    starts, first, pattern, last = _RELATIONSHIPS[name]
    schema = stored_schema(name)
    label, _ = _NODES[starts]
    ends = {first: "id(startNode(x))", last: "id(endNode(x))"}
    columns = ", ".join(f"[x IN xs | {ends.get(column, f'x.{column}')}] AS {column}" for column in schema.names)
    statement = f"MATCH (a:{label}) WHERE id(a) IN $places MATCH (a){pattern} WITH collect(x) AS xs RETURN {columns}"
    chunks = [schema.empty_table()]
    for places in nodes[starts].pages():
        page = dict(ask(statement, {"places": places}))
        for column, table in ((first, starts), (last, "entities")):
            page[column] = nodes[table].ids_at(np.array(page[column], np.int64))
        chunks.append(_columns(page, schema))
    return pa.concat_tables(chunks)


def _columns(page: Mapping[str, Any], schema: pa.Schema) -> pa.Table:
    arrays = [page[field.name] for field in schema]
    typed = [a if isinstance(a, pa.Array) else pa.array(a, f.type) for a, f in zip(arrays, schema, strict=True)]
    return pa.table(typed, schema=schema)

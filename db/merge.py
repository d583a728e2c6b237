"""What a write changes and what a deletion leaves: pure functions on tables, shared by the stores."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kg.graph import Graph
from kg.tables import TABLES


@dataclass(frozen=True)
class Delta:
    """The rows of a table that a store lacks, and those it has with other values."""

    absent: pa.Table
    changed: pa.Table


def row_key(table: pa.Table, columns: tuple[str, ...]) -> pa.Array:
    r"""Join some columns of each row into one string that no other values give.

    The values are joined by `|`; in a value `\` becomes `\\` and `|` becomes `\p`; a null is `\n`.

    Example:
        >>> row_key(pa.table({"a": ["x|y", None], "b": [1, 2]}), ("a", "b")).to_pylist()
        ['x\\py|1', '\\n|2']
    """
    parts = []
    for column in columns:
        text = table[column].combine_chunks().cast(pa.string())
        text = pc.replace_substring(text, pattern="\\", replacement="\\\\")
        parts.append(pc.replace_substring(text, pattern="|", replacement="\\p"))
    return pc.binary_join_element_wise(*parts, "|", null_handling="replace", null_replacement="\\n")


def digest_key(table: pa.Table, columns: tuple[str, ...]) -> pa.Array:
    """Return the sha256 of each row's `row_key`: of one short length, so that every database can index it."""
    keys = row_key(table, columns).to_pylist()
    return pa.array([hashlib.sha256(key.encode()).hexdigest() for key in keys], pa.string())


def delta(name: str, stored: pa.Table, incoming: pa.Table) -> Delta:
    """Compare incoming rows of table `name` with the stored ones, by key.

    Args:
        name: one of the eight tables.
        stored: its rows in a store, in the columns of `db.model.stored_tables`.
        incoming: its rows in a graph, in the same columns.
    """
    key = TABLES[name].key
    place = pc.index_in(row_key(incoming, key), value_set=row_key(stored, key))
    absent = incoming.filter(pc.is_null(place))
    both = incoming.filter(pc.is_valid(place))
    then = stored.take(place.drop_null())
    same = pa.array(np.ones(len(both), dtype=bool))
    for column in incoming.column_names:
        if column not in key:
            same = pc.and_(same, _equal(both[column].combine_chunks(), then[column].combine_chunks()))
    return Delta(absent, both.filter(pc.invert(same)))


def merge(stored: Graph, incoming: Graph) -> Graph:
    """Add a graph to a stored one; of two rows with one key the incoming one stays."""
    merged = {}
    for name, new in incoming.tables().items():
        old, key = getattr(stored, name), TABLES[name].key
        replaced = pc.is_in(row_key(old, key), value_set=row_key(new, key))
        merged[name] = pa.concat_tables([old.filter(pc.invert(replaced)), new])
    return Graph.from_tables(**merged)


def without_sources(graph: Graph, sources: Sequence[str]) -> tuple[Graph, int]:
    """Remove the facts of some sources.

    Their triples, hyperedges (with their members, texts and features), texts and the source rows go; entities,
    interactions and what another source states stay.

    Returns:
        The rest, and the number of triples, hyperedges and texts of those sources.
    """
    tables = graph.tables()
    named = pa.array(sources, pa.string())
    gone = graph.hyperedges.filter(pc.is_in(graph.hyperedges["source"], named))["hyperedge_id"].combine_chunks()
    removed = 0
    for name in ("triples", "hyperedges", "texts"):
        tables[name] = tables[name].filter(pc.invert(pc.is_in(tables[name]["source"], named)))
        removed += len(getattr(graph, name)) - len(tables[name])
    orphans = gone.filter(pc.invert(pc.is_in(gone, value_set=graph.entities["entity_id"].combine_chunks())))
    for name, column, lost in (
        ("members", "hyperedge_id", gone),
        ("texts", "entity_id", orphans),
        ("features", "entity_id", orphans),
    ):
        tables[name] = tables[name].filter(pc.invert(pc.is_in(tables[name][column], value_set=lost)))
    tables["sources"] = graph.sources.filter(pc.invert(pc.is_in(graph.sources["source"], named)))
    return Graph.from_tables(**tables), removed


def _equal(mine: pa.Array, others: pa.Array) -> pa.Array:
    if pa.types.is_list(mine.type):
        mine, others = _as_bytes(mine), _as_bytes(others)
    both_null = pc.and_(pc.is_null(mine), pc.is_null(others))
    return pc.or_(pc.fill_null(pc.equal(mine, others), False), both_null)


def _as_bytes(lists: pa.Array) -> pa.Array:
    """View each list of numbers as its bytes: Arrow compares bytes, not lists."""
    values = np.ascontiguousarray(lists.values.to_numpy(zero_copy_only=False))
    offsets = lists.offsets.to_numpy().astype(np.int64) * values.itemsize
    whole = pa.Array.from_buffers(pa.large_binary(), len(lists), [None, pa.py_buffer(offsets), pa.py_buffer(values)])
    return pc.if_else(pc.is_valid(lists), whole, None)

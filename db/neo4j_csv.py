"""A graph as the CSV files that `neo4j-admin database import` takes, written by Arrow."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from db.merge import digest_key
from db.model import STORE_FORMAT, STORE_VERSION, label_of, relationship_type_of, stored_tables
from kg.graph import Graph
from kg.tables import TABLES

_Columns = dict[str, pa.Array]

_TYPES: Final = {pa.int64(): ":long", pa.int32(): ":long", pa.float64(): ":double", pa.string(): ""}
_LONGEST_FIELD: Final = 4 << 20
_KEYS: Final = {
    "KgliftStore": "format",
    "Source": "source",
    "Hyperedge": "hyperedge_id",
    "Entity": "entity_id",
    "Text": "row_key",
    "Feature": "row_key",
}
_ATTACHED: Final = {"texts": ("Text", "HAS_TEXT"), "features": ("Feature", "HAS_FEATURE")}


def write_csv(graph: Graph, folder: Path) -> list[str]:
    """Write the files of a graph.

    Nodes are numbered here, and the importer takes the numbers as they are: finding them by name took it half its time.

    Returns:
        The options of an importer that is started in the folder; they name the files and say how to read them.
    """
    tables = stored_tables(graph)
    nodes = _nodes(tables)
    firsts = dict(zip(nodes, np.cumsum([0, *map(len, nodes.values())]).tolist(), strict=False))
    files = [*_node_files(nodes, firsts), *_relationship_files(tables, nodes, firsts)]
    options, longest, lines = [], 0, False
    for number, (what, columns) in enumerate(files):
        rows = pa.table(columns)
        if len(rows):
            name = f"{number}.csv"
            csv.write_csv(rows, folder / name, csv.WriteOptions(quoting_style="needed"))
            options.append(f"--{what}={name}")
            longest, lines = max(longest, _longest(rows)), lines or _has_lines(rows)
    reading = ["--id-type=actual", f"--multiline-fields={str(lines).lower()}", "--max-off-heap-memory=40%"]
    if longest * 4 > _LONGEST_FIELD:
        reading.append(f"--read-buffer-size={longest * 4 + 1024}")
    return [*options, *reading]


def _nodes(tables: dict[str, pa.Table]) -> dict[str, pa.Table]:
    nodes = {
        "KgliftStore": pa.table({"format": [STORE_FORMAT], "version": [STORE_VERSION]}),
        "Source": tables["sources"],
        "Hyperedge": tables["hyperedges"],
        "Entity": tables["entities"],
    }
    for name, (label, _) in _ATTACHED.items():
        nodes[label] = tables[name].append_column("row_key", digest_key(tables[name], TABLES[name].key))
    return nodes


def _node_files(nodes: dict[str, pa.Table], firsts: dict[str, int]) -> Iterator[tuple[str, _Columns]]:
    for label, rows in nodes.items():
        columns = {":ID": pa.array(np.arange(len(rows)) + firsts[label]), **_properties(rows)}
        if label == "Entity":
            columns[":LABEL"] = _renamed(rows["type"], label_of)
        yield f"nodes={label}", columns


def _relationship_files(
    tables: dict[str, pa.Table], nodes: dict[str, pa.Table], firsts: dict[str, int]
) -> Iterator[tuple[str, _Columns]]:
    def edges(rows: pa.Table, start: tuple[str, str], end: tuple[str, str]) -> _Columns:
        ends = {}
        for name, (column, label) in ((":START_ID", start), (":END_ID", end)):
            place = pc.index_in(rows[column], value_set=nodes[label][_KEYS[label]].combine_chunks())
            ends[name] = pc.add(place.cast(pa.int64()), firsts[label])
        return {**ends, **_properties(rows.drop_columns([start[0], end[0]]))}

    yield "relationships=INTERACTED", edges(tables["interactions"], ("user_id", "Entity"), ("item_id", "Entity"))
    triples = tables["triples"]
    facts = edges(triples, ("head", "Entity"), ("tail", "Entity"))
    yield "relationships", {**facts, ":TYPE": _renamed(triples["relation"], relationship_type_of)}
    members = tables["members"]
    members = members.append_column("slot", pc.fill_null(pc.cast(members["position"], pa.string()), ""))
    yield "relationships=MEMBER", edges(members, ("hyperedge_id", "Hyperedge"), ("entity_id", "Entity"))
    known = tables["entities"]["entity_id"].combine_chunks()
    for label, relationship in _ATTACHED.values():
        rows = nodes[label].select(["entity_id", "row_key"])
        is_entity = pc.is_in(rows["entity_id"], value_set=known)
        for owner, chosen in (("Entity", is_entity), ("Hyperedge", pc.invert(is_entity))):
            columns = edges(rows.filter(chosen), ("entity_id", owner), ("row_key", label))
            yield f"relationships={relationship}", columns


def _properties(rows: pa.Table) -> _Columns:
    columns = {}
    for name in rows.column_names:
        values = rows[name]
        if pa.types.is_list(values.type):
            texts = pc.cast(pc.cast(values, pa.list_(pa.float64())), pa.list_(pa.string()))
            columns[f"{name}:double[]"] = pc.binary_join(texts, ";")
        elif pa.types.is_floating(values.type) and not pc.all(pc.is_finite(values)).as_py():
            texts = pc.replace_substring(pc.cast(values, pa.string()), "inf", "Infinity")
            columns[f"{name}:double"] = pc.replace_substring(texts, "nan", "NaN")
        else:
            columns[name + _TYPES[values.type]] = values
    return columns


def _renamed(names: pa.ChunkedArray, rename: Callable[[str], str]) -> pa.ChunkedArray:
    """Rename each distinct name once."""
    coded = names.combine_chunks().dictionary_encode()
    return pa.array([rename(name) for name in coded.dictionary.to_pylist()], pa.string()).take(coded.indices)


def _longest(rows: pa.Table) -> int:
    lengths = [pc.max(pc.binary_length(c)).as_py() or 0 for c in rows.columns if pa.types.is_string(c.type)]
    return max(lengths, default=0)


def _has_lines(rows: pa.Table) -> bool:
    texts = [column for column in rows.columns if pa.types.is_string(column.type)]
    return any(pc.any(pc.match_substring_regex(column, "[\r\n]")).as_py() for column in texts)

"""A graph as the CSV files that `neo4j-admin database import` takes, written by Arrow."""

from collections.abc import Callable
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from db.merge import digest_key
from db.model import STORE_FORMAT, STORE_VERSION, label_of, relationship_type_of, stored_tables
from kg.graph import Graph
from kg.tables import TABLES

_TYPES: Final = {pa.int64(): ":long", pa.int32(): ":long", pa.float64(): ":double", pa.string(): ""}
_LONGEST_FIELD: Final = 4 << 20
_ATTACHED: Final = {"texts": ("Text", "HAS_TEXT"), "features": ("Feature", "HAS_FEATURE")}


def write_csv(graph: Graph, folder: Path) -> list[str]:
    """Write the files of a graph.

    Returns:
        The options of the importer that name the files and say how they are to be read.
    """
    tables = stored_tables(graph)
    about = pa.table({"format": [STORE_FORMAT], "version": [STORE_VERSION]})
    entities, triples = tables["entities"], tables["triples"]
    files = [
        ("nodes=KgliftStore", _node(about, "format", "KgliftStore")),
        ("nodes=Source", _node(tables["sources"], "source", "Source")),
        ("nodes=Hyperedge", _node(tables["hyperedges"], "hyperedge_id", "Hyperedge")),
        ("nodes=Entity", {**_node(entities, "entity_id", "Entity"), ":LABEL": _renamed(entities["type"], label_of)}),
        ("relationships=INTERACTED", _edge(tables["interactions"], ("user_id", "Entity"), ("item_id", "Entity"))),
        (
            "relationships",
            {
                **_edge(triples, ("head", "Entity"), ("tail", "Entity")),
                ":TYPE": _renamed(triples["relation"], relationship_type_of),
            },
        ),
        ("relationships=MEMBER", _members(tables["members"])),
        *_attached(tables),
    ]
    options, longest, lines = [], 0, False
    for number, (what, columns) in enumerate(files):
        rows = pa.table(columns)
        if len(rows):
            path = folder / f"{number}.csv"
            csv.write_csv(rows, path, csv.WriteOptions(quoting_style="all_valid"))
            options.append(f"--{what}={path}")
            longest, lines = max(longest, _longest(rows)), lines or _has_lines(rows)
    reading = ["--id-type=string", f"--multiline-fields={str(lines).lower()}", "--max-off-heap-memory=40%"]
    if longest * 4 > _LONGEST_FIELD:
        reading.append(f"--read-buffer-size={longest * 4 + 1024}")
    return [*options, *reading]


def _node(rows: pa.Table, key: str, label: str) -> dict[str, pa.Array]:
    return {f"{key}:ID({label})": rows[key], **_properties(rows.drop_columns(key))}


def _edge(rows: pa.Table, start: tuple[str, str], end: tuple[str, str]) -> dict[str, pa.Array]:
    ends = {f":START_ID({start[1]})": rows[start[0]], f":END_ID({end[1]})": rows[end[0]]}
    return {**ends, **_properties(rows.drop_columns([start[0], end[0]]))}


def _members(rows: pa.Table) -> dict[str, pa.Array]:
    slot = pc.fill_null(pc.cast(rows["position"], pa.string()), "")
    return _edge(rows.append_column("slot", slot), ("hyperedge_id", "Hyperedge"), ("entity_id", "Entity"))


def _attached(tables: dict[str, pa.Table]) -> list[tuple[str, dict[str, pa.Array]]]:
    files = []
    known = tables["entities"]["entity_id"].combine_chunks()
    for name, (label, relationship) in _ATTACHED.items():
        rows = tables[name]
        rows = rows.append_column("row_key", digest_key(rows, TABLES[name].key))
        files.append((f"nodes={label}", _node(rows, "row_key", label)))
        is_entity = pc.is_in(rows["entity_id"], value_set=known)
        for owner, chosen in (("Entity", is_entity), ("Hyperedge", pc.invert(is_entity))):
            ends = rows.select(["entity_id", "row_key"]).filter(chosen)
            files.append((f"relationships={relationship}", _edge(ends, ("entity_id", owner), ("row_key", label))))
    return files


def _properties(rows: pa.Table) -> dict[str, pa.Array]:
    columns = {}
    for name in rows.column_names:
        values = rows[name]
        if pa.types.is_list(values.type):
            texts = pc.cast(pc.cast(values, pa.list_(pa.float64())), pa.list_(pa.string()))
            columns[f"{name}:double[]"] = pc.binary_join(texts, ";")
        elif pa.types.is_floating(values.type):
            columns[f"{name}:double"] = pc.replace_substring(pc.cast(values, pa.string()), "inf", "Infinity")
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

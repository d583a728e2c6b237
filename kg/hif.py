"""Hypergraph Interchange Format (HIF): hyperedges with their members as one JSON file, and back.

Nodes are the entities, edges the hyperedges, incidences the members. Columns that HIF has no word for (type, name,
text; relation, source; role, position) are `attrs`; the texts about a node or edge are its `attrs.texts`, the sources
table is `metadata.sources`.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kg.assemble import ENTITY, readable_name
from kg.delimited import plain_name, read_utf8
from kg.errors import DuplicateIdError, FileFormatError
from kg.files import write_file
from kg.graph import Graph
from kg.source import ReadReport, left_out
from kg.tables import TABLES
from kg.terms import DATASET

NETWORK_TYPES = ("undirected", "directed", "asc")

_Rows = dict[str, dict[str, Any]]


def write_hif(graph: Graph, path: Path) -> dict[str, int]:
    """Write entities, hyperedges, members, texts and sources; equal graphs give equal bytes.

    Returns:
        Table -> rows that were left out (interactions, triples, features).

    Raises:
        WriteError: if the place is taken, or the disk is full or read-only.
    """
    tables = {name: table.to_pylist() for name, table in graph.canonical().tables().items()}
    texts: dict[str, list[dict[str, Any]]] = {}
    for row in tables["texts"]:
        texts.setdefault(row.pop("entity_id"), []).append(row)
    document = {
        "network-type": "undirected",
        "metadata": {"sources": [_filled(row) for row in tables["sources"]]},
        "nodes": [_described("node", row.pop("entity_id"), row, texts) for row in tables["entities"]],
        "edges": [
            {"weight": row.pop("weight"), **_described("edge", row.pop("hyperedge_id"), row, texts)}
            for row in tables["hyperedges"]
        ],
        "incidences": [
            {"edge": row.pop("hyperedge_id"), "node": row.pop("entity_id"), "attrs": _filled(row)}
            for row in tables["members"]
        ],
    }
    write_file(Path(path), (json.dumps(document, ensure_ascii=False, indent=1) + "\n").encode("utf-8"))
    return left_out(graph, "hyperedges", "members", "texts")


def read_hif(path: Path, *, name: str = "") -> tuple[Graph, ReadReport]:
    """Read a HIF file of any origin, perhaps gzipped; one that `write_hif` made comes back equal.

    Nodes and edges that only incidences name are added; a weight that is absent is 1, a relation `related_to`, a role
    `member`. The direction of an incidence becomes its role where it has no other.

    Args:
        path: the file.
        name: of the data set, for edges without a source; empty takes the name of the file.

    Raises:
        FileFormatError: if the file is missing, empty, not UTF-8, no JSON or no HIF.
        SchemaError: if an id occurs twice or an attribute has a wrong type.
    """
    path = Path(path)
    document = _load(path)
    nodes, edges = _by_id(path, document, "nodes", "node"), _by_id(path, document, "edges", "edge")
    members = []
    for place, row in enumerate(document["incidences"]):
        edge, node = (_id_of(path, row, key, f"incidences[{place}]") for key in ("edge", "node"))
        edges.setdefault(edge, {})
        nodes.setdefault(node, {})
        told = _columns("members", row.get("attrs", {}))
        members.append({"role": row.get("direction", "member"), **told, "hyperedge_id": edge, "entity_id": node})
    read = {"nodes": len(nodes), "edges": len(edges), "incidences": len(members)}
    try:
        tables = {"members": members, **_node_tables(nodes, edges, f"dataset:{name or plain_name(path)}")}
        tables["sources"] = _sources(document, tables["hyperedges"])
    except FileFormatError as error:
        error.add_note(f"in `{path}`")
        raise
    return Graph.from_rows(**tables), ReadReport(read)


def _node_tables(nodes: _Rows, edges: _Rows, source: str) -> dict[str, list[dict[str, Any]]]:
    entities, hyperedges, texts = [], [], []
    for node, row in nodes.items():
        attrs = row.get("attrs", {})
        told = {"type": ENTITY, "name": readable_name(node), **_columns("entities", attrs)}
        entities.append({**told, "entity_id": node})
        texts += [{**text, "entity_id": node} for text in attrs.get("texts", ())]
    for edge, row in edges.items():
        attrs = row.get("attrs", {})
        told = {"relation": "related_to", "source": source, **_columns("hyperedges", attrs)}
        hyperedges.append({**told, "weight": _weight(edge, row), "hyperedge_id": edge})
        texts += [{**text, "entity_id": edge} for text in attrs.get("texts", ())]
    return {"entities": entities, "hyperedges": hyperedges, "texts": texts}


def _weight(edge: str, row: Mapping[str, Any]) -> float:
    weight = row.get("weight", 1.0)
    if isinstance(weight, (int, float)):
        return float(weight)
    msg = f"weight of edge `{edge}` is `{weight}`; expected a number"
    raise FileFormatError(msg)


def _sources(document: dict[str, Any], hyperedges: list[dict[str, Any]]) -> list[dict[str, Any]]:
    told = document.get("metadata", {}).get("sources", [])
    if not isinstance(told, list) or not all(isinstance(row, dict) for row in told):
        msg = f"metadata.sources is `{str(told)[:80]}`, no list of objects; remove or correct it"
        raise FileFormatError(msg)
    used = {row["source"] for row in hyperedges} - {row.get("source") for row in told}
    return [*told, *({"source": source, "kind": DATASET} for source in sorted(used))]


def _load(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(read_utf8(path))
    except ValueError as error:
        if isinstance(error, FileFormatError):
            raise
        msg = f"`{path}` is not valid JSON: {error}; export it again"
        raise FileFormatError(msg) from error
    if not isinstance(document, dict) or not isinstance(document.get("incidences"), list):
        msg = f"`{path}` has no list `incidences`; expected a HIF object with network-type, nodes, edges, incidences"
        raise FileFormatError(msg)
    for part, kind in (("nodes", list), ("edges", list), ("metadata", dict)):
        if not isinstance(document.get(part, kind()), kind):
            msg = f"`{path}`: `{part}` is no {'list' if kind is list else 'object'}; export it again"
            raise FileFormatError(msg)
    if (named := document.get("network-type", "undirected")) not in NETWORK_TYPES:
        msg = f"`{path}`: network-type is `{named}`; expected one of {', '.join(NETWORK_TYPES)}"
        raise FileFormatError(msg)
    return document


def _by_id(path: Path, document: dict[str, Any], part: str, key: str) -> _Rows:
    found: _Rows = {}
    for place, row in enumerate(document.get(part, [])):
        name = _id_of(path, row, key, f"{part}[{place}]")
        if name in found:
            msg = f"`{path}`: {part}[{place}] repeats the id `{name}`; keep one of each"
            raise DuplicateIdError(msg)
        found[name] = row
    return found


def _id_of(path: Path, row: Any, key: str, place: str) -> str:
    if not isinstance(row, dict) or not isinstance(row.get(key), (str, int)):
        msg = f"`{path}`: {place} is `{str(row)[:80]}`; expected an object with `{key}` (a text or whole number)"
        raise FileFormatError(msg)
    attrs = row.get("attrs", {})
    texts = attrs.get("texts", []) if isinstance(attrs, dict) else None
    if not isinstance(texts, list) or not all(isinstance(text, dict) for text in texts):
        msg = (
            f"`{path}`: attrs of {place} are `{str(attrs)[:80]}`; expected an object whose `texts`, if any, are objects"
        )
        raise FileFormatError(msg)
    return str(row[key])


def _described(key: str, name: str, row: dict[str, Any], texts: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    attrs = {**_filled(row), **({"texts": texts[name]} if name in texts else {})}
    return {key: name, "attrs": attrs}


def _columns(table: str, attrs: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in attrs.items() if name in TABLES[table].schema.names}


def _filled(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if value is not None}

"""networkx and GraphML: a graph as a `MultiDiGraph` whose nodes and edges carry every column, and back.

A node is an entity (`kind` "entity") or a hyperedge (`kind` "hyperedge"); an edge is a triple, an interaction (user to
item) or a membership (entity to hyperedge), as its `kind` says. Columns are attributes, an absent one is left away.
The sources table is the JSON text of the graph attribute `sources`.
"""

import io
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree.ElementTree import ParseError

from kg.assemble import ENTITY, readable_name
from kg.delimited import plain_name, read_utf8
from kg.errors import FileFormatError, SchemaError, WriteError
from kg.files import write_file
from kg.graph import Graph
from kg.source import ReadReport, left_out
from kg.tables import TABLES
from kg.terms import DATASET, INTERACTS

if TYPE_CHECKING:
    import networkx

_ENDS = {"triples": ("head", "tail"), "interactions": ("user_id", "item_id"), "members": ("entity_id", "hyperedge_id")}
_KINDS = {"triple": "triples", "interaction": "interactions", "member": "members"}
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def to_networkx(graph: Graph) -> "networkx.MultiDiGraph[str]":
    """Return a graph as a `networkx.MultiDiGraph`; everything but texts by a model and features comes along."""
    import networkx

    made: networkx.MultiDiGraph[str] = networkx.MultiDiGraph()
    made.graph["sources"] = json.dumps([_filled(row) for row in graph.sources.to_pylist()], ensure_ascii=False)
    for row in graph.entities.to_pylist():
        made.add_node(row.pop("entity_id"), kind="entity", **_filled(row))
    for row in graph.hyperedges.to_pylist():
        made.add_node(row.pop("hyperedge_id"), kind="hyperedge", **_filled(row))
    for kind, table in _KINDS.items():
        head, tail = _ENDS[table]
        for row in graph.tables()[table].to_pylist():
            made.add_edge(row.pop(head), row.pop(tail), kind=kind, **{"relation": INTERACTS, **_filled(row)})
    return made


def from_networkx(graph: "networkx.Graph[Any]", *, name: str = "networkx") -> Graph:
    """Return any networkx graph as a `Graph`; one that `to_networkx` made comes back equal.

    A node without `kind` is an entity: its `type`, `name` (or `label`) and `text` are used where it has them. An edge
    without `kind` is a triple: its `relation` (or `label`, else `related_to`) and `confidence` (else 1) are used; an
    undirected edge goes from the end that was added first. Other attributes are left out.

    Args:
        graph: nodes may be of any type; their texts become the ids.
        name: of the data set, for edges without a source.

    Raises:
        SchemaError: if an attribute has a wrong type or value, or two nodes have the same text.
    """
    rows: dict[str, list[dict[str, Any]]] = {"entities": [], "hyperedges": []}
    for node, attributes in graph.nodes(data=True):
        table, row = _node_row(str(node), attributes)
        rows[table].append(row)
    rows |= {table: [] for table in _ENDS}
    for table, row in _edge_rows(graph, f"dataset:{name}"):
        rows[table].append(row)
    rows["triples"] = list({tuple(r[k] for k in TABLES["triples"].key): r for r in rows["triples"]}.values())
    rows["sources"] = _sources(graph.graph.get("sources", "[]"))
    known = {row.get("source") for row in rows["sources"]}
    used = {row["source"] for table in ("triples", "hyperedges") for row in rows[table]} - known
    rows["sources"] += [{"source": source, "kind": DATASET} for source in sorted(used)]
    return Graph.from_rows(**rows)


def write_graphml(graph: Graph, path: Path) -> dict[str, int]:
    """Write a graph as GraphML, equal graphs to equal bytes; a carriage return becomes a line feed, as XML has it.

    Returns:
        Table -> rows that were left out (texts by a model, features).

    Raises:
        WriteError: if a text holds a character that XML cannot carry, the place is taken, or the disk is full.
    """
    import networkx

    made, sink = to_networkx(graph.canonical()), io.BytesIO()
    for texts in (*(d for _, d in made.nodes(data=True)), *(d for _, _, d in made.edges(data=True)), made.graph):
        _check_xml(path, texts)
    networkx.write_graphml_xml(made, sink)
    write_file(Path(path), sink.getvalue())
    return left_out(graph, *_ENDS, "hyperedges")


def read_graphml(path: Path, *, name: str = "") -> tuple[Graph, ReadReport]:
    """Read GraphML of any origin, perhaps gzipped; see `from_networkx` for what is used.

    Raises:
        FileFormatError: if the file is missing, empty, not UTF-8 or no GraphML.
        SchemaError: if an attribute has a wrong type or value.
    """
    import networkx

    path = Path(path)
    data = read_utf8(path)
    try:
        found = networkx.read_graphml(io.BytesIO(data), force_multigraph=True)
    except (ParseError, networkx.NetworkXError, ValueError, KeyError) as error:
        msg = f"`{path}` is not valid GraphML: {error}; export it again"
        raise FileFormatError(msg) from error
    graph = from_networkx(found, name=name or plain_name(path))
    n_facts = sum(len(graph.tables()[table]) for table in _ENDS)
    repeated = found.number_of_edges() - n_facts
    read = {"nodes": found.number_of_nodes(), "edges": found.number_of_edges()}
    return graph, ReadReport(read, {"edges": {"duplicate": repeated}} if repeated else {})


def _sources(text: object) -> list[dict[str, Any]]:
    try:
        rows = json.loads(str(text))
    except ValueError:
        rows = None
    if isinstance(rows, list) and all(isinstance(row, dict) for row in rows):
        return rows
    msg = f"the graph attribute `sources` is `{str(text)[:80]}`; expected a JSON list of objects: correct or remove it"
    raise SchemaError(msg)


def _node_row(node: str, attributes: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    if attributes.get("kind") == "hyperedge":
        return "hyperedges", {"hyperedge_id": node, **_columns("hyperedges", attributes)}
    name = attributes.get("name", attributes.get("label", readable_name(node)))
    return "entities", {
        "entity_id": node,
        "type": attributes.get("type", ENTITY),
        "name": str(name),
        "text": attributes.get("text"),
    }


def _edge_rows(graph: "networkx.Graph[Any]", source: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for head, tail, attributes in graph.edges(data=True):
        table = _KINDS.get(str(attributes.get("kind")), "triples")
        ends = dict(zip(_ENDS[table], (str(head), str(tail)), strict=True))
        row = {**_columns(table, attributes), **ends}
        if table == "triples":
            relation = attributes.get("relation", attributes.get("label", "related_to"))
            row = {"confidence": 1.0, "source": source, **row, "relation": str(relation)}
        yield table, row


def _columns(table: str, attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in attributes.items() if name in TABLES[table].schema.names}


def _filled(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if value is not None}


def _check_xml(path: Path, texts: Mapping[str, Any]) -> None:
    for column, text in texts.items():
        found = _NOT_XML.search(text) if isinstance(text, str) else None
        if found:
            msg = (
                f"cannot write `{path}`: `{column}` of `{str(text)[:40]!r}` holds the control character "
                f"U+{ord(found[0]):04X}, which XML has no place for; remove it or use another format"
            )
            raise WriteError(msg)

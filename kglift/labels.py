"""What a reader calls the nodes of a graph."""

from typing import Final

import pyarrow.compute as pc

from kg.graph import Graph

HYPEREDGE: Final = "hyperedge"
"""The type of hyperedges, beside those of entities."""


def node_labels(graph: Graph) -> tuple[dict[str, str], dict[str, str]]:
    """Return type and name of each entity and hyperedge by id; a hyperedge is called by its texts."""
    types = dict(zip(graph.entities["entity_id"].to_pylist(), graph.entities["type"].to_pylist(), strict=True))
    names = graph.names()
    hyperedges = graph.hyperedges["hyperedge_id"].combine_chunks()
    texts = graph.texts.filter(pc.is_in(graph.texts["entity_id"], value_set=hyperedges)).sort_by("kind").to_pylist()
    said: dict[str, list[str]] = {}
    for row in texts:
        said.setdefault(row["entity_id"], []).append(row["text"])
    for hyperedge in hyperedges.to_pylist():
        types[hyperedge] = HYPEREDGE
        names[hyperedge] = ": ".join(said.get(hyperedge, [hyperedge]))
    return types, names

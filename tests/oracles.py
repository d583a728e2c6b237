"""Slow, obvious versions of what the packages do fast; each is written from the definition, not from the code."""

from collections import defaultdict

from kg.graph import Graph

Edge = tuple[str, str, str]


def edges_of_ckg(graph: Graph) -> dict[Edge, float]:
    """Return (head, relation, tail) -> confidence of every forward edge of a CKG; train interactions have 1."""
    doubt: dict[Edge, float] = defaultdict(lambda: 1.0)
    for row in graph.triples.to_pylist():
        doubt[row["head"], row["relation"], row["tail"]] *= 1.0 - row["confidence"]
    weights = {row["hyperedge_id"]: min(row["weight"], 1.0) for row in graph.hyperedges.to_pylist()}
    for row in graph.members.to_pylist():
        edge = row["entity_id"], f"member/{row['role']}", row["hyperedge_id"]
        doubt[edge] *= 1.0 - weights[row["hyperedge_id"]]
    edges = {edge: 1.0 - left for edge, left in doubt.items()}
    for row in graph.interactions.to_pylist():
        if row["split"] == "train":
            edges[row["user_id"], "interacts", row["item_id"]] = 1.0
    return edges

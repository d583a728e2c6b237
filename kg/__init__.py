"""kg: the graph, as values and pure functions; no torch, no driver, no HTTP."""

from kg.ckg import CollaborativeKG
from kg.files import read_graph, write_graph
from kg.graph import Graph, concat
from kg.ids import IdMap
from kg.schema import DomainSchema, Relation

__all__ = ["CollaborativeKG", "DomainSchema", "Graph", "IdMap", "Relation", "concat", "read_graph", "write_graph"]

"""Stores that keep a graph and answer Cypher: `memory`, `ladybug` (embedded, one file) and `neo4j`."""

from db.queries import load_query, saved_queries
from db.store import GraphStore

__all__ = ["GraphStore", "load_query", "saved_queries"]

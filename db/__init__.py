"""Stores that keep a graph and answer Cypher: `memory`, `ladybug` (embedded, one file) and `neo4j`."""

"""Fixtures that more than one package's tests need."""

from tests.db.servers import locked_neo4j, neo4j_uri

__all__ = ["locked_neo4j", "neo4j_uri"]

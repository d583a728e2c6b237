"""Fixtures that more than one package's tests need."""

from hypothesis import settings

from tests.db.servers import locked_neo4j, neo4j_uri

settings.register_profile("kglift", deadline=None)  # the first example may wait for numba to compile
settings.load_profile("kglift")

__all__ = ["locked_neo4j", "neo4j_uri"]

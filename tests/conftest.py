"""Fixtures that more than one package's tests need."""

import signal

from hypothesis import settings

from tests.db.servers import locked_neo4j, neo4j_uri, own_neo4j

settings.register_profile("kglift", deadline=None)  # the first example may wait for numba to compile
settings.load_profile("kglift")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # so a shell starts what runs in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)

__all__ = ["locked_neo4j", "neo4j_uri", "own_neo4j"]

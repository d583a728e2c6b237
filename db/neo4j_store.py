"""`neo4j`: a Neo4j server, Community Edition or above, by the official driver and without plugins."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from typing import Any, Final

import neo4j
import pyarrow as pa

from db.errors import QueryError, StoreFormatError, StoreUnreachableError, StoreWriteError
from db.model import delete_statements, graph_of
from db.neighbours import neighbour_statements, neighbour_table
from db.neo4j_connection import Neo4jConfig, Neo4jConnection, refuse_other_version, stored_version
from db.neo4j_load import CLEAR_LEDGER, load
from db.neo4j_plan import check_plan
from db.neo4j_read import read_tables
from db.neo4j_values import inferred_table
from db.queries import missing_parameters
from db.store import GraphStore
from kg.graph import Graph
from kg.progress import Progress, silent

__all__ = ["Neo4jConfig", "Neo4jStore"]

_FACT: Final = "(h:Entity)-[f]->(t:Entity)"
_DELETION: Final = re.compile(r" ((?:DETACH )?DELETE) ")
_DELETED_AT_ONCE: Final = 50_000
_SPOKEN_OF: Final = {
    "f": "UNWIND [startNode(f), endNode(f)] AS e",
    "h": "OPTIONAL MATCH (h)-[:MEMBER]->(e:Entity)",
    "t": "OPTIONAL MATCH (t)<-[:HAS_TEXT]-(e:Entity)",
}
_DELETE_ORPHANS: Final = (
    "UNWIND lists AS es UNWIND es AS e WITH DISTINCT e WHERE NOT e.type IN ['User', 'Item'] "
    "AND NOT EXISTS { (e)--(:Entity) } AND NOT EXISTS { (e)<-[:MEMBER]-(:Hyperedge) } "
    "AND NOT EXISTS { (e)-[:HAS_TEXT]->(:Text) } OPTIONAL MATCH (e)-[:HAS_FEATURE]->(x:Feature) DETACH DELETE x, e"
)


class Neo4jStore(GraphStore, name="neo4j"):
    """Keep the graph in a Neo4j database.

    Rows go in batches, each a transaction that may be repeated: a killed write leaves whole batches, and the same write
    again completes them.
    """

    Config = Neo4jConfig

    def __init__(self, config: Neo4jConfig, password: str | None = None) -> None:
        super().__init__(config)
        self._connection = Neo4jConnection(config, password)

    def write(self, graph: Graph, progress: Progress = silent) -> None:
        """Add a graph; of two rows with one key the last written stays.

        Raises:
            StoreUnreachableError: if the server does not answer or does not let us in.
            StoreFormatError: if the database holds a store of another version.
            StoreWriteError: if the server refuses a row; whole batches before it stay, and may be written again.
        """
        load(self._connection, graph, progress)

    def read(self) -> Graph:
        """Return everything that was written, from one transaction.

        Raises:
            StoreUnreachableError: if the server does not answer or does not let us in.
            StoreFormatError: if nothing was written yet, or by another version.
        """
        with (
            self._connection.session(neo4j.READ_ACCESS) as session,
            self._connection.refusals(StoreUnreachableError, "the read broke off"),
        ):
            self._check_version(session)
            return graph_of(session.execute_read(_read_tables))

    def query(
        self,
        cypher: str,
        parameters: Mapping[str, Any] | None = None,
        *,
        timeout_s: float = 60.0,
        max_rows: int | None = None,
        write: bool = False,
    ) -> pa.Table:
        """Answer a Cypher query, in a session that the server lets only read unless it may write.

        Raises:
            QueryError: if the query is wrong, writes without leave, or takes longer than `timeout_s`.
            StoreFormatError: if the database holds a store of another version.
            StoreUnreachableError: if the server does not answer or does not let us in.
        """
        access = neo4j.WRITE_ACCESS if write else neo4j.READ_ACCESS
        with self._connection.session(access) as session, self._query_errors(timeout_s):
            if (version := stored_version(session)) is not None:
                refuse_other_version(version)
            if not write:
                explained = neo4j.Query(f"EXPLAIN {cypher}", timeout=timeout_s)
                check_plan(session.run(explained, dict(parameters or {})).consume().plan)
            else:
                session.run(CLEAR_LEDGER, load="").consume()  # what it changes, a load that was broken off sends again
            result = session.run(neo4j.Query(cypher, timeout=timeout_s), dict(parameters or {}))
            return inferred_table(result.keys(), islice(result, max_rows))

    def neighbours(self, entity_id: str, *, limit: int = 100) -> pa.Table:
        """Return the facts around one entity or hyperedge, as `GraphStore.neighbours`."""
        parameters = {"id": entity_id, "limit": limit}
        return neighbour_table([self.query(cypher, parameters) for cypher in neighbour_statements()], limit)

    def delete(self, *sources: str, orphans: bool = False) -> int:
        """Remove the facts of some sources; returns how many triples, hyperedges and texts.

        Rows go in batches, each a transaction: a server with little memory can delete a large source, too. The sources
        themselves go last, so that a deletion that was broken off is completed by repeating it.
        """
        with (
            self._connection.session(neo4j.WRITE_ACCESS) as session,
            self._connection.refusals(StoreWriteError, "the deletion was refused"),
        ):
            self._check_version(session)
            return _delete_sources(session, list(sources), orphans=orphans)

    def ping(self) -> str:
        """Return the name and version of the server, e.g. `Neo4j/5.26.26`.

        Raises:
            StoreUnreachableError: if the server does not answer, does not let us in, or is too old.
        """
        with (
            self._connection.session(neo4j.READ_ACCESS) as session,
            self._connection.refusals(StoreUnreachableError, "the server refused"),
        ):
            return session.run("RETURN 1").consume().server.agent

    def close(self) -> None:
        """Close the connections."""
        self._connection.close()

    def _check_version(self, session: neo4j.Session) -> None:
        version = stored_version(session)
        if version is None:
            msg = f"database `{self.config.database}` holds no kglift store; write a graph first: python -m db load DIR"
            raise StoreFormatError(msg)
        refuse_other_version(version)

    @contextmanager
    def _query_errors(self, timeout_s: float) -> Iterator[None]:
        try:
            with self._connection.refusals(QueryError, "the query was refused"):
                yield
        except QueryError as error:
            code, text = (getattr(error.__cause__, name, None) or "" for name in ("code", "message"))
            if "TransactionTimedOut" in code:
                msg = f"the query took longer than {timeout_s} s and was stopped; narrow it or allow more time"
            elif code.endswith("Statement.AccessMode"):
                msg = "the query writes, and queries may only read; let it, by `write=True` or --write"
            elif code.endswith("Statement.ParameterMissing"):
                msg = missing_parameters(text.rpartition(": ")[2])
            else:
                raise
            raise QueryError(msg) from error.__cause__


def _read_tables(tx: neo4j.ManagedTransaction) -> dict[str, pa.Table]:
    return read_tables(lambda statement, parameters: tx.run(statement, dict(parameters)).single(strict=True))


def _delete_sources(session: neo4j.Session, sources: list[str], *, orphans: bool) -> int:
    counts, deletes = delete_statements(_FACT)
    session.run(CLEAR_LEDGER, load="").consume()  # a load that was broken off may not count on what goes now
    removed = sum(session.execute_read(_only, count, sources) for count in counts)
    for statement in deletes:
        match, verb, name = _DELETION.split(statement)[:3]
        rest = f"{verb} {name} RETURN count(*) AS n"
        if orphans and (spoken_of := _SPOKEN_OF.get(name)):  # gone with the last that speaks of them, even after a kill
            rest = (
                f"{spoken_of} WITH {name}, collect(DISTINCT e) AS es {verb} {name} "
                f"WITH count(*) AS n, collect(es) AS lists CALL {{ WITH lists {_DELETE_ORPHANS} }} RETURN n"
            )
        batch = f"{match} WITH {name} LIMIT {_DELETED_AT_ONCE} {rest}"
        while session.execute_write(_only, batch, sources) == _DELETED_AT_ONCE:
            pass
    return removed


def _only(tx: neo4j.ManagedTransaction, statement: str, sources: list[str]) -> int:
    return int(tx.run(statement, sources=sources).single(strict=True)["n"])

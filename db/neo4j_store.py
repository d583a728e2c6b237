"""`neo4j`: a Neo4j server, Community Edition or above, by the official driver and without plugins."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

import neo4j
import pyarrow as pa
from neo4j.exceptions import (
    AuthError,
    ClientError,
    ConfigurationError,
    DriverError,
    Neo4jError,
    ServiceUnavailable,
    SessionExpired,
)

from db.errors import QueryError, StoreFormatError, StoreUnreachableError, StoreWriteError
from db.model import (
    STORE_FORMAT,
    STORE_VERSION,
    delete_statements,
    graph_of,
    label_of,
    stored_schema,
    stored_tables,
)
from db.neighbours import neighbour_statements, neighbour_table
from db.neo4j_plan import check_plan
from db.neo4j_statements import CONSTRAINTS, ORDER, STALE_TYPES, groups, read_rows, remove_label, rows_of
from db.neo4j_values import inferred_table, typed_table
from db.store import GraphStore
from kg.errors import ConfigError
from kg.graph import Graph
from kg.progress import Progress, silent
from kg.tables import TABLES

_FACT: Final = "(h:Entity)-[f]->(t:Entity)"
_SCHEME: Final = re.compile(r"(bolt|neo4j)(\+s|\+ssc)?://[^@]+")
_OLDEST_SERVER: Final = 5
_FETCH_SIZE: Final = 10_000


@dataclass(frozen=True)
class Neo4jConfig:
    """Which server; the password is no part of it.

    Attributes:
        uri: bolt:// or neo4j://, with +s for TLS, +ssc for TLS with a self-signed certificate.
        user: name of the user.
        database: name of the database; Community Edition has one, `neo4j`.
        batch_size: rows in one transaction.
        connect_timeout_s: how long to wait for the server to answer.
    """

    uri: str = "bolt://127.0.0.1:7687"
    user: str = "neo4j"
    database: str = "neo4j"
    batch_size: int = 5_000
    connect_timeout_s: float = 10.0

    def __post_init__(self) -> None:
        """Check the address and the sizes."""
        if "@" in self.uri:
            msg = "the address of Neo4j holds a user or a password; give `user` and the password on their own"
            raise ConfigError(msg)
        if not _SCHEME.fullmatch(self.uri):
            msg = f"`{self.uri}` is no address of Neo4j; expected e.g. bolt://127.0.0.1:7687 or neo4j+s://host"
            raise ConfigError(msg)
        if self.batch_size < 1 or self.connect_timeout_s <= 0:
            msg = f"batch_size {self.batch_size} and connect_timeout_s {self.connect_timeout_s} must be above 0"
            raise ConfigError(msg)


class Neo4jStore(GraphStore, name="neo4j"):
    """Keep the graph in a Neo4j database.

    Rows go in batches, each a transaction that may be repeated: a killed write leaves whole batches, and the same write
    again completes them.
    """

    Config = Neo4jConfig

    def __init__(self, config: Neo4jConfig, password: str | None = None) -> None:
        super().__init__(config)
        self._password = password
        self._driver: neo4j.Driver | None = None

    def write(self, graph: Graph, progress: Progress = silent) -> None:
        """Add a graph; of two rows with one key the last written stays.

        Raises:
            StoreUnreachableError: if the server does not answer or does not let us in.
            StoreFormatError: if the database holds a store of another version.
            StoreWriteError: if the server refuses a row; whole batches before it stay, and may be written again.
        """
        tables = stored_tables(graph)
        total, done = sum(len(table) for table in tables.values()), 0
        with self._session(neo4j.WRITE_ACCESS) as session, self._refusals(StoreWriteError, "the write was refused"):
            self._prepare(session)
            for name in ORDER:
                for group in groups(name, tables):
                    for batch in group.rows.to_batches(self.config.batch_size):
                        rows = batch.to_pylist()
                        if name == "entities":
                            session.execute_write(_remove_stale_labels, rows)
                        session.execute_write(_write_rows, group.statement, rows)
                        done += len(rows)
                        progress(done, total, name)
        progress(total, total)

    def read(self) -> Graph:
        """Return everything that was written, from one transaction.

        Raises:
            StoreUnreachableError: if the server does not answer or does not let us in.
            StoreFormatError: if nothing was written yet, or by another version.
        """
        with self._session(neo4j.READ_ACCESS) as session, self._refusals(StoreUnreachableError, "the read broke off"):
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
            StoreUnreachableError: if the server does not answer or does not let us in.
        """
        access = neo4j.WRITE_ACCESS if write else neo4j.READ_ACCESS
        with self._session(access) as session, self._query_errors(timeout_s):
            if not write:
                explained = neo4j.Query(f"EXPLAIN {cypher}", timeout=timeout_s)
                check_plan(session.run(explained, dict(parameters or {})).consume().plan)
            result = session.run(neo4j.Query(cypher, timeout=timeout_s), dict(parameters or {}))
            return inferred_table(result.keys(), islice(result, max_rows))

    def neighbours(self, entity_id: str, *, limit: int = 100) -> pa.Table:
        """Return the facts around one entity or hyperedge, as `GraphStore.neighbours`."""
        parameters = {"id": entity_id, "limit": limit}
        return neighbour_table([self.query(cypher, parameters) for cypher in neighbour_statements()], limit)

    def delete(self, *sources: str) -> int:
        """Remove the facts of some sources in one transaction; returns how many triples, hyperedges and texts."""
        with self._session(neo4j.WRITE_ACCESS) as session, self._refusals(StoreWriteError, "the deletion was refused"):
            self._check_version(session)
            return session.execute_write(_delete_sources, list(sources))

    def ping(self) -> str:
        """Return the name and version of the server, e.g. `Neo4j/5.26.26`.

        Raises:
            StoreUnreachableError: if the server does not answer, does not let us in, or is too old.
        """
        with self._session(neo4j.READ_ACCESS) as session, self._refusals(StoreUnreachableError, "the server refused"):
            return session.run("RETURN 1").consume().server.agent

    def close(self) -> None:
        """Close the connections."""
        if self._driver is not None:
            self._driver.close()
            self._driver = None

    @contextmanager
    def _session(self, access: str) -> Iterator[neo4j.Session]:
        if self._driver is None:
            self._driver = self._connect()
        with self._driver.session(
            database=self.config.database, default_access_mode=access, fetch_size=_FETCH_SIZE
        ) as session:
            yield session

    def _connect(self) -> neo4j.Driver:
        config = self.config
        auth = (config.user, self._password) if self._password else None
        driver = neo4j.GraphDatabase.driver(
            config.uri,
            auth=auth,
            connection_timeout=config.connect_timeout_s,
            notifications_min_severity="OFF",
            user_agent="kglift",
        )
        try:
            with (
                self._refusals(StoreUnreachableError, "the server refused"),
                driver.session(database=config.database, default_access_mode=neo4j.READ_ACCESS) as session,
            ):
                _check_server(session.run("RETURN 1").consume().server.agent)
        except BaseException:
            driver.close()
            raise
        return driver

    def _prepare(self, session: neo4j.Session) -> None:
        if (version := _stored_version(session)) is not None:
            _refuse_other_version(version)
        for statement in CONSTRAINTS:
            session.run(statement).consume()
        if version is None:
            session.run(
                "MERGE (s:KgliftStore {format: $format}) SET s.version = $version",
                format=STORE_FORMAT,
                version=STORE_VERSION,
            ).consume()

    def _check_version(self, session: neo4j.Session) -> None:
        version = _stored_version(session)
        if version is None:
            msg = f"database `{self.config.database}` holds no kglift store; write a graph first: python -m db load DIR"
            raise StoreFormatError(msg)
        _refuse_other_version(version)

    @contextmanager
    def _query_errors(self, timeout_s: float) -> Iterator[None]:
        try:
            with self._refusals(QueryError, "the query was refused"):
                yield
        except QueryError as error:
            code = getattr(error.__cause__, "code", None) or ""
            if "TransactionTimedOut" in code:
                msg = f"the query took longer than {timeout_s} s and was stopped; narrow it or allow more time"
            elif code.endswith("Statement.AccessMode"):
                msg = "the query writes, and queries may only read; let it, by `write=True` or --write"
            else:
                raise
            raise QueryError(msg) from error.__cause__

    @contextmanager
    def _refusals(self, otherwise: type[Exception], what: str) -> Iterator[None]:
        """Turn the driver's errors into ours; none of them holds the password."""
        config = self.config
        try:
            yield
        except AuthError as error:
            msg = f"{config.uri} does not let user `{config.user}` in: wrong user or password; see NEO4J_PASSWORD"
            raise StoreUnreachableError(msg) from error
        except (ServiceUnavailable, SessionExpired, ConfigurationError, OSError) as error:
            msg = f"no Neo4j answers at {config.uri} ({_one_line(error)}); start one: make neo4j, or correct NEO4J_URI"
            raise StoreUnreachableError(msg) from error
        except ClientError as error:
            if error.code == "Neo.ClientError.Database.DatabaseNotFound":
                msg = f"{config.uri} has no database `{config.database}`; correct NEO4J_DATABASE (default: neo4j)"
                raise StoreUnreachableError(msg) from error
            msg = f"{what}: {_one_line(error)}"
            raise otherwise(msg) from error
        except (Neo4jError, DriverError) as error:
            msg = f"{what}: {_one_line(error)}"
            raise otherwise(msg) from error


def _write_rows(tx: neo4j.ManagedTransaction, statement: str, rows: list[dict[str, Any]]) -> None:
    record = tx.run(statement, rows=rows).single(strict=True)
    if record["n"] < len(rows):
        msg = f"only {record['n']} of {len(rows)} rows found their nodes: somebody deletes at the same time; repeat it"
        raise StoreWriteError(msg)


def _remove_stale_labels(tx: neo4j.ManagedTransaction, rows: list[dict[str, Any]]) -> None:
    label = label_of(rows[0]["type"])
    for record in tx.run(STALE_TYPES, rows=rows).fetch(_FETCH_SIZE):
        if label_of(record["type"]) != label:
            tx.run(remove_label(record["type"]), rows=rows, type=record["type"]).consume()


def _read_tables(tx: neo4j.ManagedTransaction) -> dict[str, pa.Table]:
    return {name: typed_table(stored_schema(name), rows_of(name, tx.run(read_rows(name)))) for name in TABLES}


def _delete_sources(tx: neo4j.ManagedTransaction, sources: list[str]) -> int:
    counts, deletes = delete_statements(_FACT)
    removed = sum(tx.run(c, sources=sources).single(strict=True)["n"] for c in counts)
    for statement in deletes:
        tx.run(statement, sources=sources).consume()
    return int(removed)


def _stored_version(session: neo4j.Session) -> int | None:
    record = session.run("MATCH (s:KgliftStore {format: $format}) RETURN s.version AS v", format=STORE_FORMAT).single()
    return None if record is None else record["v"]


def _refuse_other_version(version: int) -> None:
    if version != STORE_VERSION:
        msg = (
            f"the database holds store version {version}, this kglift reads {STORE_VERSION}; "
            "empty it and load the graph directory again, or use the kglift that wrote it"
        )
        raise StoreFormatError(msg)


def _check_server(agent: str) -> None:
    number = re.match(r"Neo4j/(\d+)", agent)
    if number is not None and int(number[1]) < _OLDEST_SERVER:
        msg = f"the server is {agent}; kglift needs Neo4j {_OLDEST_SERVER} or newer"
        raise StoreUnreachableError(msg)


def _one_line(error: BaseException) -> str:
    text = getattr(error, "message", None) or str(error)
    return " ".join(text.split())

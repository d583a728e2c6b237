"""Writing a graph into Neo4j: batches of rows, each a transaction that may be repeated."""

from typing import Any

import neo4j

from db.errors import StoreWriteError
from db.model import STORE_FORMAT, STORE_VERSION, label_of, stored_tables
from db.neo4j_connection import FETCH_SIZE, Neo4jConnection, refuse_other_version, stored_version
from db.neo4j_statements import CONSTRAINTS, ORDER, STALE_TYPES, groups, remove_label
from kg.graph import Graph
from kg.progress import Progress, silent


def load(connection: Neo4jConnection, graph: Graph, progress: Progress = silent) -> None:
    """Add a graph; of two rows with one key the last written stays.

    Raises:
        StoreUnreachableError: if the server does not answer or does not let us in.
        StoreFormatError: if the database holds a store of another version.
        StoreWriteError: if the server refuses a row; whole batches before it stay, and may be written again.
    """
    tables = stored_tables(graph)
    total, done = sum(len(table) for table in tables.values()), 0
    with (
        connection.session(neo4j.WRITE_ACCESS) as session,
        connection.refusals(StoreWriteError, "the write was refused"),
    ):
        _prepare(session)
        for name in ORDER:
            for group in groups(name, tables):
                for batch in group.rows.to_batches(connection.config.batch_size):
                    rows = batch.to_pylist()
                    if name == "entities":
                        session.execute_write(_remove_stale_labels, rows)
                    session.execute_write(_write_rows, group.statement, rows)
                    done += len(rows)
                    progress(done, total, name)
    progress(total, total)


def _prepare(session: neo4j.Session) -> None:
    if (version := stored_version(session)) is not None:
        refuse_other_version(version)
    for statement in CONSTRAINTS:
        session.run(statement).consume()
    if version is None:
        session.run(
            "MERGE (s:KgliftStore {format: $format}) SET s.version = $version",
            format=STORE_FORMAT,
            version=STORE_VERSION,
        ).consume()


def _write_rows(tx: neo4j.ManagedTransaction, statement: str, rows: list[dict[str, Any]]) -> None:
    record = tx.run(statement, rows=rows).single(strict=True)
    if record["n"] < len(rows):
        msg = f"only {record['n']} of {len(rows)} rows found their nodes: somebody deletes at the same time; repeat it"
        raise StoreWriteError(msg)


def _remove_stale_labels(tx: neo4j.ManagedTransaction, rows: list[dict[str, Any]]) -> None:
    label = label_of(rows[0]["type"])
    for record in tx.run(STALE_TYPES, rows=rows).fetch(FETCH_SIZE):
        if label_of(record["type"]) != label:
            tx.run(remove_label(record["type"]), rows=rows, type=record["type"]).consume()

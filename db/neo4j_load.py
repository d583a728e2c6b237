"""Writing a graph into Neo4j: parallel batches, each a transaction that may be repeated, with a ledger.

A batch and its line in the ledger, a node `KgliftBatch`, are written in one transaction. So a killed load goes on where
it stopped, and where nobody knows whether a batch arrived, it is sent again: the ledger knows. The ledger is for one
load. It is emptied when the load ends, and when a load of another graph or a deletion begins, since rows that were
written may be other ones then.

Writers hold different nodes (`db.batches`), and take turns to commit: while it commits, Neo4j also locks the
relationship that came before a new one at each of its ends, and that may lead to anybody's node.
"""

import hashlib
import io
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, wait
from dataclasses import replace
from typing import Any, Final

import neo4j
import pyarrow as pa
import pyarrow.compute as pc
from neo4j.exceptions import DriverError, IncompleteCommit, Neo4jError, ResultFailedError

from db.batches import Batch, Limits, cut_nodes, cut_relationships, write_in_parallel
from db.errors import RefusedRow, RowsRefusedError, StoreWriteError
from db.model import STORE_FORMAT, STORE_VERSION, label_of, stored_tables
from db.neo4j_connection import Neo4jConnection, one_line, refuse_other_version, stored_version
from db.neo4j_statements import CONSTRAINTS, NODES, RELATIONSHIPS, Group, groups, remove_label
from kg.errors import first_five
from kg.graph import Graph
from kg.progress import Progress, silent
from kg.tables import TABLES

_Columns = dict[str, list[Any]]

CLEAR_LEDGER: Final = "MATCH (b:KgliftBatch) WHERE b.load <> $load DELETE b"
_NOTE: Final = "MERGE (b:KgliftBatch {batch: $batch}) SET b.load = $load"
_CLOSE: Final = "MATCH (b:KgliftBatch {load: $load}) DELETE b"
_NEW_STORE: Final = "MERGE (s:KgliftStore {format: $format}) SET s.version = $version"
_TURN_S: Final = 5.0
_LAST_BATCHES_S: Final = 10.0
_FIRST_PAUSE_S: Final = 0.1
_LONGEST_PAUSE_S: Final = 5.0
_MAX_REFUSED: Final = 100
# Neo4j 5.26 sometimes never answers a BEGIN that follows at once on the RESET after a failure: the driver gives the
# connection up after two minutes
_PAUSE_S: Final = 0.02
_ABOUT_ROWS: Final = ("Neo.ClientError.Statement.", "Neo.ClientError.Schema.", "Neo.DatabaseError.Statement.")
ID_COLUMN: Final = {"entities": "entity_id", "hyperedges": "hyperedge_id", "sources": "source"}


def load(connection: Neo4jConnection, graph: Graph, progress: Progress = silent) -> None:
    """Add a graph; of two rows with one key the last written stays.

    Raises:
        StoreUnreachableError: if the server does not answer or does not let us in.
        StoreFormatError: if the database holds a store of another version.
        RowsRefusedError: if the server refuses some rows; all others are written.
        StoreWriteError: if the server refuses more; whole batches stay, and the same load goes on after them.
    """
    tables = {name: rows.combine_chunks() for name, rows in stored_tables(graph).items()}  # else each take joins them
    with connection.refusals(StoreWriteError, "the write was refused"):
        _Load(connection, tables, progress).run()


class _Load:
    """One load: what it writes, how far it is, and what was refused."""

    def __init__(self, connection: Neo4jConnection, tables: dict[str, pa.Table], progress: Progress) -> None:
        self.connection = connection
        self.tables = tables
        self.name = _fingerprint(tables)
        self.progress = progress
        self.total = sum(len(table) for table in tables.values())
        self.done = 0
        self.turn = threading.Lock()
        self.is_stopped = threading.Event()
        self.refused: list[RefusedRow] = []

    def run(self) -> None:
        with self.connection.session(neo4j.WRITE_ACCESS) as session:
            prepare(session)
            _commit(session, _run, CLEAR_LEDGER, {"load": self.name})
        self._write(NODES)
        self._drop_rows_of_refused_nodes()
        self._write(RELATIONSHIPS)
        with self.connection.session(neo4j.WRITE_ACCESS) as session:
            _commit(session, _run, _CLOSE, {"load": self.name})
        self.progress(self.total, self.total)
        if self.refused:
            raise RowsRefusedError(self._refusal("all others are written"), tuple(self.refused))

    def _write(self, names: tuple[str, ...]) -> None:
        config = self.connection.config
        limits = Limits(config.batch_size, config.batch_bytes, config.n_writers)
        nodes = pa.concat_arrays(
            [self.tables[name][ID_COLUMN[name]].combine_chunks() for name in ("entities", "hyperedges")]
        )
        parts = [group for name in names for group in groups(name, self.tables)]
        batches = cut_nodes(parts, limits) if names == NODES else cut_relationships(parts, nodes, limits)
        for batch, refused in write_in_parallel(batches, self._write_batch, config.n_writers, self._stop):
            self.refused += refused
            if len(self.refused) > _MAX_REFUSED:
                raise StoreWriteError(self._refusal("that is more than a few bad rows, and the load was given up"))
            self.done += len(batch)
            self.progress(self.done, self.total, batch.parts[-1].table)

    def _stop(self, running: Iterable[Future[list[RefusedRow]]]) -> None:
        """Let what is being written end, but not be repeated; where the server does not answer, give it up."""
        self.is_stopped.set()
        if wait(running, timeout=_LAST_BATCHES_S).not_done:
            self.connection.close()

    def _write_batch(self, batch: Batch) -> list[RefusedRow]:
        batch = batch.taken()
        values = [part.rows.to_pydict() for part in batch.parts]
        pauses = iter(_pauses(self.connection.config.retry_for_s))
        while True:
            try:
                with self.connection.session(neo4j.WRITE_ACCESS, retry_for_s=0) as session:
                    return self._try_batch(session, batch, values)
            except (DriverError, Neo4jError) as error:
                if not error.is_retryable() or not self._is_left(next(pauses, None)):
                    raise

    def _try_batch(self, session: neo4j.Session, batch: Batch, values: list[_Columns]) -> list[RefusedRow]:
        try:
            _commit_in_turn(session, self.turn, _write_once, batch, values, self.name)
        except Neo4jError as error:
            if not (error.code or "").startswith(_ABOUT_ROWS):
                raise
            return list(_bisect(session, self.turn, batch, error))
        return []

    def _is_left(self, pause_s: float | None) -> bool:
        """Wait, and say whether there is time to write a batch again; none is where the load was stopped."""
        return pause_s is not None and not self.is_stopped.wait(pause_s)

    def _drop_rows_of_refused_nodes(self) -> None:
        for name in RELATIONSHIPS if self.refused else ():
            for column, targets in TABLES[name].references.items():
                gone = [r.row[ID_COLUMN[r.table]] for r in self.refused if r.table in targets]
                rows = self.tables[name]
                lost = pc.is_in(rows[column], value_set=pa.array(gone, pa.string()))
                self.refused += [
                    RefusedRow(name, row, f"its {column} was refused") for row in rows.filter(lost).to_pylist()
                ]
                self.tables[name] = rows.filter(pc.invert(lost))

    def _refusal(self, outcome: str) -> str:
        shown = first_five(f"{r.table} {_shortened(r.row)}: {r.reason}" for r in self.refused)
        return f"the server refused {len(self.refused)} of {self.total} rows; {outcome}. Refused: {shown}; correct them"


def _pauses(retry_for_s: float) -> Iterator[float]:
    """Give the pauses between the attempts to write a batch, until the time for them is over."""
    pause, until = _FIRST_PAUSE_S, time.monotonic() + retry_for_s
    while time.monotonic() < until:
        yield pause
        pause = min(2 * pause, _LONGEST_PAUSE_S)


def prepare(session: neo4j.Session) -> None:
    """Make the constraints, and let the database be a kglift store.

    Raises:
        StoreFormatError: if it is one of another version.
    """
    if (version := stored_version(session)) is not None:
        refuse_other_version(version)
    constrain(session)
    if version is None:
        _commit(session, _run, _NEW_STORE, {"format": STORE_FORMAT, "version": STORE_VERSION})


def constrain(session: neo4j.Session) -> None:
    """Make the constraints, and with them the indexes by which nodes are found."""
    for statement in CONSTRAINTS:
        _commit(session, _run, statement)


def _commit(session: neo4j.Session, work: Callable[..., None], *arguments: Any) -> None:
    """Run work that may be repeated; where the connection broke during the commit, nobody knows: repeat it."""
    while True:
        try:
            session.execute_write(work, *arguments)
            return
        except IncompleteCommit:
            continue


def _commit_in_turn(session: neo4j.Session, turn: threading.Lock, work: Callable[..., None], *arguments: Any) -> None:
    """Run work that may be repeated, and commit it when no other writer of this load does.

    Who has waited long commits without a turn: its locks may be what a loader in another process waits for, and that
    one may hold what the writer whose turn it is waits for. Neo4j sees such a ring only if all are in the database.
    """
    held = False

    def work_and_wait(tx: neo4j.ManagedTransaction) -> None:
        nonlocal held
        if held:  # the commit of the attempt before failed
            turn.release()
            held = False
        try:
            work(tx, *arguments)
        except ResultFailedError as error:  # says neither what failed nor whether to repeat it; its cause does
            raise error.__cause__ or error from error
        held = turn.acquire(timeout=_TURN_S)

    try:
        _commit(session, work_and_wait)
    finally:
        if held:
            turn.release()


def _write_once(tx: neo4j.ManagedTransaction, batch: Batch, values: list[_Columns], load: str) -> None:
    digest = hashlib.sha256()
    for part in batch.parts:
        digest.update(part.statement.encode())
        _add_rows(digest, part.rows)
    noted = tx.run(_NOTE, batch=f"{load}:{digest.hexdigest()}", load=load).consume()
    if noted.counters.nodes_created:
        for part, columns in zip(batch.parts, values, strict=True):
            _write_rows(tx, part, columns)


def _write_rows(tx: neo4j.ManagedTransaction, part: Group, values: _Columns) -> None:
    n = len(part.rows)
    record = tx.run(part.statement, values, n=n).single(strict=True)
    if record["n"] < n:
        msg = f"only {record['n']} of {n} {part.table} found their nodes: somebody deletes them; repeat the load"
        raise StoreWriteError(msg)
    for former in record.get("former", ()):
        if label_of(former) != label_of(values["type"][0]):
            tx.run(remove_label(former), entity_id=values["entity_id"]).consume()


def _bisect(session: neo4j.Session, turn: threading.Lock, batch: Batch, error: Neo4jError) -> Iterator[RefusedRow]:
    """Write a refused batch by smaller and smaller parts, down to the rows that the server does not take."""
    time.sleep(_PAUSE_S)
    first = batch.parts[0]
    if len(batch) == 1:
        yield RefusedRow(first.table, first.rows.to_pylist()[0], one_line(error))
        return
    parts = batch.parts
    if len(parts) == 1:
        half = len(first.rows) // 2
        parts = tuple(replace(first, rows=rows) for rows in (first.rows.slice(0, half), first.rows.slice(half)))
    for part in parts:
        try:
            _commit_in_turn(session, turn, _write_rows, part, part.rows.to_pydict())
        except Neo4jError as refusal:
            if not (refusal.code or "").startswith(_ABOUT_ROWS):
                raise
            yield from _bisect(session, turn, Batch((part,)), refusal)


def _run(tx: neo4j.ManagedTransaction, statement: str, parameters: dict[str, Any] | None = None) -> None:
    tx.run(statement, parameters).consume()


def _fingerprint(tables: dict[str, pa.Table]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tables):
        digest.update(name.encode())
        _add_rows(digest, tables[name])
    return digest.hexdigest()


def _add_rows(digest: Any, rows: pa.Table) -> None:
    """Feed rows to a hash, without a second copy of them."""
    with pa.ipc.new_stream(_Hashing(digest), rows.schema) as stream:
        stream.write_table(rows.combine_chunks())


class _Hashing(io.RawIOBase):
    """A file whose bytes go into a hash."""

    def __init__(self, digest: Any) -> None:
        self._digest = digest

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._digest.update(data)
        return len(data)


def _shortened(row: dict[str, Any]) -> str:
    return "{" + ", ".join(f"{key}: {str(value)[:40]}" for key, value in row.items() if value is not None) + "}"

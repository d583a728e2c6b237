"""The ledger: every reply that was paid for, on disk before it is counted.

One SQLite file in WAL mode. A reply is addressed by the sha256 of all that made it: model, request parameters, system
text, prompt text and reply schema; a changed prompt is another address, and the old answer stays. Invalid replies are
kept too, with their errors: after a kill the engine goes on where the chain of question, refusal and second question
stood, without paying for a link of it again.

Commits are `synchronous=FULL`, so that a paid reply survives a power cut and not only a kill. One sync costs
milliseconds; the replies that arrive during one are therefore committed together by the next (`Ledger.write`), which
keeps hundreds of requests in flight fed. SQLite's WAL needs a local file system.
"""

import asyncio
import json
import sqlite3
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from extract.claims import Runner
from extract.errors import LedgerError

T = TypeVar("T")
Operation = Callable[[sqlite3.Connection], T]

LEDGER_VERSION = 1
PENDING, DONE, EMPTY, REJECTED, SET_ASIDE = "pending", "done", "empty", "rejected", "set_aside"
STATES = (PENDING, DONE, EMPTY, REJECTED, SET_ASIDE)

_APPLICATION_ID = 0x6B676C66
_BUSY_S = 60.0
_TABLES = """
CREATE TABLE runs (
    run TEXT PRIMARY KEY, method TEXT NOT NULL, prompt TEXT NOT NULL, prompt_version TEXT NOT NULL,
    model TEXT NOT NULL, parameters TEXT NOT NULL, created REAL NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE replies (
    reply_id INTEGER PRIMARY KEY, key TEXT NOT NULL, run TEXT NOT NULL, unit_id TEXT NOT NULL,
    attempt INTEGER NOT NULL, prompt TEXT NOT NULL, text TEXT NOT NULL, is_cut_off INTEGER NOT NULL,
    errors TEXT NOT NULL, n_prompt_tokens INTEGER NOT NULL, n_completion_tokens INTEGER NOT NULL,
    seconds REAL NOT NULL, created REAL NOT NULL, is_retired INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE UNIQUE INDEX replies_by_key ON replies (key) WHERE is_retired = 0;
CREATE INDEX replies_by_unit ON replies (run, unit_id);
CREATE TABLE units (
    run TEXT NOT NULL, unit_id TEXT NOT NULL, place INTEGER NOT NULL, state TEXT NOT NULL,
    attempts INTEGER NOT NULL, reason TEXT NOT NULL, PRIMARY KEY (run, unit_id)
) STRICT, WITHOUT ROWID;
CREATE TABLE runners (runner TEXT PRIMARY KEY, beat REAL NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE claims (key TEXT PRIMARY KEY, runner TEXT NOT NULL) STRICT, WITHOUT ROWID;
"""


@dataclass(frozen=True)
class StoredReply:
    """One reply, as it came.

    Attributes:
        key: address of the request that it answers.
        text: what the model wrote.
        is_cut_off: it ended at the token limit.
        n_prompt_tokens: tokens read.
        n_completion_tokens: tokens written.
    """

    key: str
    text: str
    is_cut_off: bool
    n_prompt_tokens: int
    n_completion_tokens: int


@dataclass(frozen=True)
class NewReply:
    """A reply on its way into the ledger: the reply, and what it belongs to."""

    reply: StoredReply
    run: str
    unit_id: str
    attempt: int
    prompt: str
    errors: tuple[str, ...]
    seconds: float


@dataclass(frozen=True)
class UnitState:
    """Where a unit stands; `reason` says why it is not done."""

    unit_id: str
    place: int
    state: str
    attempts: int
    reason: str


class Ledger:
    """A ledger file, opened for one extraction.

    Raises:
        LedgerError: if the file is no ledger, is one of another version, or cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self.runner = str(Runner.this())
        self._waiting: list[tuple[Operation[Any], asyncio.Future[Any]]] = []
        self._flusher: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, "ledger")
        with self._clear_errors():
            _check_place(self.path)
            self._writing = _connect(self.path)
            _prepare(self._writing, self.path)
            self._reading = _connect(self.path)
        self.write_now([_sweep_dead, lambda c: _beat(c, self.runner)])

    def __enter__(self) -> Self:
        """Return the open ledger."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the ledger, whatever happened."""
        self.close()

    def close(self) -> None:
        """Store what still waits, give up this runner's claims and close the file."""
        self._thread.shutdown(wait=True)
        waiting, self._waiting = self._waiting, []
        try:
            self.write_now([operation for operation, _ in waiting])
            self.write_now([lambda c: _leave(c, self.runner)])
        finally:
            self._reading.close()
            self._writing.close()

    def reply(self, key: str) -> StoredReply | None:
        """Return the reply to a request, valid or not, if there is one."""
        with self._clear_errors():
            return _find(self._reading, key)

    def unit(self, run: str, unit_id: str) -> UnitState | None:
        """Return where one unit of a run stands, if the run has that unit."""
        states = self._states("WHERE run = ? AND unit_id = ?", (run, unit_id))
        return states[0] if states else None

    def units(self, run: str, state: str) -> list[UnitState]:
        """Return the units of a run that are in one state, in order."""
        return self._states("WHERE run = ? AND state = ? ORDER BY place", (run, state))

    def counts(self, run: str) -> dict[str, int]:
        """Return the number of units of a run in each state."""
        rows = self._all("SELECT state, count(*) FROM units WHERE run = ? GROUP BY state", (run,))
        return {**dict.fromkeys(STATES, 0), **dict(rows)}

    def paid(self, run: str) -> tuple[int, int, int]:
        """Return the replies, prompt tokens and completion tokens that a run has paid for, in all processes."""
        columns = "count(*), coalesce(sum(n_prompt_tokens), 0), coalesce(sum(n_completion_tokens), 0)"
        ((replies, prompt, completion),) = self._all(f"SELECT {columns} FROM replies WHERE run = ?", (run,))
        return replies, prompt, completion

    def retire(self, run: str) -> int:
        """Let the set-aside units of a run be asked afresh: their refused replies stay but no longer count.

        Returns:
            The number of units that the next run asks again.
        """

        def operation(connection: sqlite3.Connection) -> int:
            chosen = "SELECT unit_id FROM units WHERE run = ? AND state = ?"
            connection.execute(
                f"UPDATE replies SET is_retired = 1 WHERE run = ? AND errors != '[]' AND unit_id IN ({chosen})",
                (run, run, SET_ASIDE),
            )
            reset = "UPDATE units SET state = ?, attempts = 0, reason = '' WHERE run = ? AND state = ?"
            return connection.execute(reset, (PENDING, run, SET_ASIDE)).rowcount

        (count,) = self.write_now([operation])
        return int(count)

    async def write(self, operation: Operation[T]) -> T:
        """Run an operation in a durable transaction, shared with all others that arrive while one is under way.

        Raises:
            LedgerError: if it could not be written; nothing of the transaction was then.
        """
        return await self.submit(operation)

    def submit(self, operation: Operation[T]) -> asyncio.Future[T]:
        """Queue an operation; it is kept even when the caller is cancelled while it waits."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        future.add_done_callback(_retrieve)
        self._waiting.append((operation, future))
        if self._flusher is None or self._flusher.done():
            self._flusher = loop.create_task(self._flush())
        return future

    async def drain(self) -> None:
        """Wait until everything queued is on disk."""
        while self._flusher is not None and not self._flusher.done():
            await asyncio.shield(self._flusher)

    def write_now(self, operations: Sequence[Operation[Any]]) -> list[Any]:
        """Run operations in one durable transaction, at once.

        Raises:
            LedgerError: if it could not be written; nothing of the transaction was then.
        """
        with self._clear_errors():
            self._writing.execute("BEGIN IMMEDIATE")
            try:
                results = [operation(self._writing) for operation in operations]
                self._writing.execute("COMMIT")
            except BaseException:
                self._writing.execute("ROLLBACK")
                raise
        return results

    async def _flush(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            batch, self._waiting = self._waiting, []
            try:
                results = await loop.run_in_executor(self._thread, self.write_now, [o for o, _ in batch])
            except LedgerError as error:
                for _, future in batch:
                    if not future.done():
                        future.set_exception(error)
                continue
            except asyncio.CancelledError:
                self._waiting[:0] = batch  # `close` runs it; an operation that ran already changes nothing
                raise
            for (_, future), result in zip(batch, results, strict=True):
                if not future.done():
                    future.set_result(result)

    def _states(self, where: str, values: tuple[str, ...]) -> list[UnitState]:
        rows = self._all(f"SELECT unit_id, place, state, attempts, reason FROM units {where}", values)
        return [UnitState(*row) for row in rows]

    def _all(self, statement: str, values: tuple[str, ...]) -> list[tuple[Any, ...]]:
        with self._clear_errors():
            return self._reading.execute(statement, values).fetchall()

    @contextmanager
    def _clear_errors(self) -> Any:
        try:
            yield
        except sqlite3.OperationalError as error:
            hint = "another process holds it; wait or stop that one" if "locked" in str(error) else "free the disk"
            msg = (
                f"the ledger `{self.path}` cannot be used: {error}; what it holds is kept. Next: {hint}, then run again"
            )
            raise LedgerError(msg) from error
        except sqlite3.DatabaseError as error:
            msg = f"`{self.path}` is no ledger or is damaged: {error}; choose another path or move it away"
            raise LedgerError(msg) from error


def _retrieve(future: asyncio.Future[Any]) -> None:
    """Look at a failure, so that one nobody waits for is not reported as forgotten."""
    if not future.cancelled():
        future.exception()


def open_run(run: str, method: str, prompt: tuple[str, str], model: str, parameters: str) -> Operation[None]:
    """Enter a run: what is the same for all its units."""
    row = (run, method, *prompt, model, parameters, time.time())
    return lambda c: _execute(c, "INSERT OR IGNORE INTO runs VALUES (?, ?, ?, ?, ?, ?, ?)", row)


def enter_units(run: str, places: Iterable[tuple[str, int]]) -> Operation[None]:
    """Enter units as pending; a unit that is known keeps its state."""
    rows = [(run, unit_id, place, PENDING, 0, "") for unit_id, place in places]
    return lambda c: _execute_many(
        c,
        "INSERT INTO units VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (run, unit_id) DO UPDATE SET place = excluded.place",
        rows,
    )


def settle_units(run: str, states: Iterable[UnitState]) -> Operation[None]:
    """Write where units stand."""
    rows = [(s.state, s.attempts, s.reason, run, s.unit_id) for s in states]
    statement = "UPDATE units SET state = ?, attempts = ?, reason = ? WHERE run = ? AND unit_id = ?"
    return lambda c: _execute_many(c, statement, rows)


def store(new: NewReply) -> Operation[StoredReply]:
    """Store a reply and return the one that counts: an earlier one under the same key stays."""
    reply = new.reply
    errors = json.dumps(new.errors, ensure_ascii=False)
    tokens = (reply.n_prompt_tokens, reply.n_completion_tokens)
    row = (
        *(reply.key, new.run, new.unit_id, new.attempt, new.prompt, reply.text, int(reply.is_cut_off)),
        *(errors, *tokens, new.seconds, time.time()),
    )

    def operation(connection: sqlite3.Connection) -> StoredReply:
        connection.execute(
            "INSERT OR IGNORE INTO replies (key, run, unit_id, attempt, prompt, text, is_cut_off, errors, "
            "n_prompt_tokens, n_completion_tokens, seconds, created) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            row,
        )
        statement = "UPDATE units SET attempts = ? WHERE run = ? AND unit_id = ?"
        connection.execute(statement, (new.attempt, new.run, new.unit_id))
        return _find(connection, reply.key) or reply

    return operation


def claim(key: str, runner: str) -> Operation[bool]:
    """Take the exclusive right to ask a question; a dead runner's claim is taken over."""

    def operation(connection: sqlite3.Connection) -> bool:
        held = connection.execute(
            "SELECT claims.runner, beat FROM claims LEFT JOIN runners USING (runner) WHERE key = ?", (key,)
        ).fetchone()
        if held is not None and Runner.parse(held[0]).is_alive(held[1] or 0.0):
            return False
        connection.execute("INSERT OR REPLACE INTO claims VALUES (?, ?)", (key, runner))
        return True

    return operation


def release(key: str, runner: str) -> Operation[None]:
    """Give a claim back."""
    return lambda c: _execute(c, "DELETE FROM claims WHERE key = ? AND runner = ?", (key, runner))


def beat(runner: str) -> Operation[None]:
    """Say that a runner lives."""
    return lambda c: _beat(c, runner)


def _execute(connection: sqlite3.Connection, statement: str, values: tuple[Any, ...]) -> None:
    connection.execute(statement, values)


def _execute_many(connection: sqlite3.Connection, statement: str, rows: list[tuple[Any, ...]]) -> None:
    connection.executemany(statement, rows)


def _beat(connection: sqlite3.Connection, runner: str) -> None:
    connection.execute("INSERT OR REPLACE INTO runners VALUES (?, ?)", (runner, time.time()))


def _leave(connection: sqlite3.Connection, runner: str) -> None:
    connection.execute("DELETE FROM claims WHERE runner = ?", (runner,))
    connection.execute("DELETE FROM runners WHERE runner = ?", (runner,))


def _sweep_dead(connection: sqlite3.Connection) -> None:
    for runner, last in connection.execute("SELECT runner, beat FROM runners").fetchall():
        if not Runner.parse(runner).is_alive(last):
            _leave(connection, runner)


def _find(connection: sqlite3.Connection, key: str) -> StoredReply | None:
    columns = "key, text, is_cut_off, n_prompt_tokens, n_completion_tokens"
    statement = f"SELECT {columns} FROM replies WHERE key = ? AND is_retired = 0"
    row = connection.execute(statement, (key,)).fetchone()
    return None if row is None else StoredReply(row[0], row[1], bool(row[2]), row[3], row[4])


def _check_place(path: Path) -> None:
    if path.is_dir():
        msg = f"`{path}` is a directory; give the path of a ledger file, e.g. `{path / 'ledger.sqlite'}`"
        raise LedgerError(msg)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        msg = f"cannot make the directory of the ledger `{path}`: {error.strerror}; choose another place"
        raise LedgerError(msg) from error


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    """Check whose file this is, before anything in it is changed."""
    if not _is_ours(connection, path):
        connection.execute("BEGIN IMMEDIATE")
        if not _is_ours(connection, path):  # another process may have been faster
            for statement in filter(str.strip, _TABLES.split(";")):
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {LEDGER_VERSION}")
        connection.execute("COMMIT")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")


def _is_ours(connection: sqlite3.Connection, path: Path) -> bool:
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if application == _APPLICATION_ID:
        if version != LEDGER_VERSION:
            msg = (
                f"the ledger `{path}` has version {version}, this kglift reads {LEDGER_VERSION}; "
                "use the kglift that wrote it, or choose another path"
            )
            raise LedgerError(msg)
        return True
    if connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
        msg = f"`{path}` is a database of something else, no ledger; choose another path"
        raise LedgerError(msg)
    return False

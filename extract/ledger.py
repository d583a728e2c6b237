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
import sqlite3
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from extract.claims import Runner
from extract.errors import LedgerError
from extract.ledger_file import check_place, connect, prepare
from extract.ledger_rows import (
    PENDING,
    SET_ASIDE,
    STATES,
    Operation,
    StoredReply,
    UnitState,
    beat,
    find_reply,
    leave,
    sweep_dead,
)

T = TypeVar("T")


class Ledger:
    """A ledger file, opened for one extraction.

    Raises:
        LedgerError: if the file is no ledger, is one of another version, or cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self.runner = str(Runner.this())
        self._is_closed = False
        self._waiting: list[tuple[Operation[Any], asyncio.Future[Any]]] = []
        self._flusher: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, "ledger")
        with self._clear_errors():
            check_place(self.path)
            self._writing = connect(self.path)
            prepare(self._writing, self.path)
            self._reading = connect(self.path)
        self.write_now([sweep_dead, beat(self.runner)])

    def __enter__(self) -> Self:
        """Return the open ledger."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the ledger, whatever happened."""
        self.close()

    def close(self) -> None:
        """Store what still waits, give up this runner's claims and close the file; more than once does no harm."""
        if self._is_closed:
            return
        self._is_closed = True
        self._thread.shutdown(wait=True)
        waiting, self._waiting = self._waiting, []
        try:
            self.write_now([operation for operation, _ in waiting])
            self.write_now([lambda c: leave(c, self.runner)])
        finally:
            self._reading.close()
            self._writing.close()

    def reply(self, key: str) -> StoredReply | None:
        """Return the reply to a request, valid or not, if there is one."""
        with self._clear_errors():
            return find_reply(self._reading, key)

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
                if self._writing.in_transaction:  # a full disk has ended it already
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
    def _clear_errors(self) -> Iterator[None]:
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

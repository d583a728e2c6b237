"""The ledger: every reply that was paid for, on disk before it is counted.

One SQLite file in WAL mode. A reply is addressed by the sha256 of all that made it: model, request parameters, system
text, prompt text and reply schema; a changed prompt is another address, and the old answer stays. Invalid replies are
kept too, with their errors: after a kill the engine goes on where the chain of question, refusal and second question
stood, without paying for a link of it again.

A reply is committed before it is counted or another question follows from it, in one transaction with those that came
while the commit before was under way (`extract.commits`): in WAL mode with `synchronous=NORMAL` that survives a killed
process, since the words are then with the kernel. For a power cut `sync` flushes them to the disk once a second; `FULL`
would wait for the disk at every commit, milliseconds each, and guard no more than that second. SQLite's WAL needs a
local file system.
"""

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from extract.claims import Runner
from extract.errors import LedgerError, PassingProviderError, RefusedUnitError, UnitError
from extract.ledger_file import check_place, connect, flush, prepare
from extract.ledger_rows import (
    PENDING,
    SET_ASIDE,
    STATES,
    Operation,
    Run,
    StoredReply,
    UnitState,
    beat,
    find_replies,
    leave,
    sweep_dead,
)

_ATTEMPTS = f"""CASE WHEN state = '{PENDING}' THEN (
    SELECT count(*) FROM replies WHERE replies.run = units.run AND replies.unit_id = units.unit_id AND is_retired = 0
) ELSE attempts END"""  # a pending unit's replies are counted when somebody looks, not as they come

_UNANSWERED = (UnitError.reason, RefusedUnitError.reason, PassingProviderError.reason)
_RETIRE = """
WITH aside AS (SELECT run, unit_id, first_key FROM units WHERE run = ? AND state = ?)
UPDATE replies SET is_retired = 1 WHERE errors != '[]' AND is_retired = 0 AND (run, unit_id) IN (
    SELECT run, unit_id FROM aside
    UNION SELECT run, unit_id FROM replies WHERE is_retired = 0 AND key IN (SELECT first_key FROM aside)
)"""


class Ledger:
    """A ledger file, opened for one extraction.

    Raises:
        LedgerError: if the file is no ledger, is one of another version, or cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self.runner = str(Runner.this())
        self._is_closed = False
        with self._clear_errors():
            check_place(self.path)
            self._connection = connect(self.path)
            prepare(self._connection, self.path)
        self.write(sweep_dead, beat(self.runner))

    def __enter__(self) -> Self:
        """Return the open ledger."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the ledger, whatever happened."""
        self.close()

    def close(self) -> None:
        """Give up this runner's claims and close the file; more than once does no harm."""
        if self._is_closed:
            return
        self._is_closed = True
        try:
            self.write(lambda c: leave(c, self.runner))
        finally:
            self._connection.close()

    def runs(self) -> list[Run]:
        """Return the runs that the ledger knows, the oldest first."""
        rows = self._all("SELECT run, method, prompt, prompt_version, model FROM runs ORDER BY created, run", ())
        return [Run(*row) for row in rows]

    def reply(self, key: str) -> StoredReply | None:
        """Return the reply to a request, valid or not, if there is one."""
        return self.replies([key]).get(key)

    def replies(self, keys: Sequence[str]) -> dict[str, StoredReply]:
        """Return the replies to some requests, valid or not, by their keys."""
        with self._clear_errors():
            return find_replies(self._connection, keys)

    def unit(self, run: str, unit_id: str) -> UnitState | None:
        """Return where one unit of a run stands, if the run has that unit."""
        states = self._states("WHERE run = ? AND unit_id = ?", (run, unit_id))
        return states[0] if states else None

    def units(self, run: str, state: str) -> list[UnitState]:
        """Return the units of a run that are in one state, in order."""
        return self._states("WHERE run = ? AND state = ? ORDER BY place", (run, state))

    def unanswered(self, run: str) -> dict[str, str]:
        """Return the units of a run that were set aside without an answer, and why; they wait for `retire`."""
        aside = self.units(run, SET_ASIDE)
        return {unit.unit_id: unit.reason for unit in aside if unit.reason.partition(":")[0] in _UNANSWERED}

    def counts(self, run: str) -> dict[str, int]:
        """Return the number of units of a run in each state."""
        rows = self._all("SELECT state, count(*) FROM units WHERE run = ? GROUP BY state", (run,))
        return {**dict.fromkeys(STATES, 0), **dict(rows)}

    def n_answered(self, run: str) -> int:
        """Return how many pending units of a run have a valid reply; what is made of it is settled when the run ends.

        A reply that was valid only after its form was mended, or that another run paid for, is not counted.
        """
        statement = (
            "SELECT count(DISTINCT unit_id) FROM units JOIN replies USING (run, unit_id) "
            f"WHERE run = ? AND state = '{PENDING}' AND is_retired = 0 AND errors = '[]'"
        )
        ((count,),) = self._all(statement, (run,))
        return int(count)

    def paid(self, run: str) -> tuple[int, int, int]:
        """Return the replies, prompt tokens and completion tokens that a run has paid for, in all processes."""
        columns = "count(*), coalesce(sum(n_prompt_tokens), 0), coalesce(sum(n_completion_tokens), 0)"
        ((replies, prompt, completion),) = self._all(f"SELECT {columns} FROM replies WHERE run = ?", (run,))
        return replies, prompt, completion

    def n_estimated(self, run: str) -> int:
        """Return how many replies of a run have tokens that are estimated."""
        ((count,),) = self._all("SELECT count(*) FROM replies WHERE run = ? AND is_estimated = 1", (run,))
        return int(count)

    def paid_for(self, method: str, model: str) -> tuple[int, int, int]:
        """Return the replies, prompt tokens and completion tokens of all runs of a step with a model."""
        paid = [self.paid(one.run) for one in self.runs() if (one.method, one.model) == (method, model)]
        replies, prompt, completion = (sum(column) for column in zip((0, 0, 0), *paid, strict=True))
        return replies, prompt, completion

    def history(self, run: str, unit_id: str) -> list[dict[str, Any]]:
        """Return every question and reply of a unit of a run, refused and retired ones too, the oldest first."""
        columns = (
            *("attempt", "prompt", "text", "errors", "is_cut_off", "is_retired"),
            *("n_prompt_tokens", "n_completion_tokens", "is_estimated", "seconds"),
        )
        rows = self._all(
            f"SELECT {', '.join(columns)} FROM replies WHERE run = ? AND unit_id = ? ORDER BY reply_id", (run, unit_id)
        )
        found = [dict(zip(columns, row, strict=True)) for row in rows]
        flags = ("is_cut_off", "is_retired", "is_estimated")
        return [row | {"errors": json.loads(row["errors"])} | {f: bool(row[f]) for f in flags} for row in found]

    def retire(self, run: str) -> int:
        """Let the set-aside units of a run be asked afresh: their refused replies stay but no longer count.

        So do those that another run paid for, or another unit: a unit that asks the same has the same replies.

        Returns:
            The number of units that the next run asks again.
        """

        def operation(connection: sqlite3.Connection) -> int:
            connection.execute(_RETIRE, (run, SET_ASIDE))
            reset = "UPDATE units SET state = ?, attempts = 0, reason = '' WHERE run = ? AND state = ?"
            return connection.execute(reset, (PENDING, run, SET_ASIDE)).rowcount

        (count,) = self.write(operation)
        return int(count)

    def write(self, *operations: Operation[Any]) -> list[Any]:
        """Run operations in one transaction and return what they return.

        Raises:
            LedgerError: if it could not be written; nothing of the transaction was then.
        """
        results = self.begin(*operations)
        self.commit()
        return results

    def begin(self, *operations: Operation[Any]) -> list[Any]:
        """Run operations in a transaction that `commit` ends, and return what they return.

        Raises:
            LedgerError: if it could not be written; nothing of the transaction was then.
        """
        with self._clear_errors(), self._rolled_back():
            self._connection.execute("BEGIN IMMEDIATE")
            return [operation(self._connection) for operation in operations]

    def commit(self) -> None:
        """End the transaction that was begun; may run in another thread, where it keeps nobody from the interpreter.

        Raises:
            LedgerError: if it could not be written; nothing of the transaction was then.
        """
        with self._clear_errors(), self._rolled_back():
            self._connection.execute("COMMIT")

    def sync(self) -> None:
        """Flush what was committed to the disk; may run in another thread.

        Raises:
            LedgerError: if the disk fails.
        """
        try:
            with self._clear_errors():
                flush(self.path)
        except OSError as error:
            msg = f"the ledger `{self.path}` cannot be flushed: {error.strerror}; look after the disk, then run again"
            raise LedgerError(msg) from error

    def _states(self, where: str, values: tuple[str, ...]) -> list[UnitState]:
        rows = self._all(f"SELECT unit_id, place, state, {_ATTEMPTS}, reason, first_key FROM units {where}", values)
        return [UnitState(*row) for row in rows]

    def _all(self, statement: str, values: tuple[str, ...]) -> list[tuple[Any, ...]]:
        with self._clear_errors():
            return self._connection.execute(statement, values).fetchall()

    @contextmanager
    def _rolled_back(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            if self._connection.in_transaction:  # a full disk has ended it already
                self._connection.execute("ROLLBACK")
            raise

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

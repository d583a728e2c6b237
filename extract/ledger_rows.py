"""The rows of the ledger, and the operations that write them; `Ledger` puts these into transactions."""

import json
import sqlite3
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from extract.claims import Runner

T = TypeVar("T")
Operation = Callable[[sqlite3.Connection], T]

PENDING, DONE, EMPTY, REJECTED, SET_ASIDE = "pending", "done", "empty", "rejected", "set_aside"
STATES = (PENDING, DONE, EMPTY, REJECTED, SET_ASIDE)


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
class Run:
    """What is the same for all units of an extraction; `run` is its address."""

    run: str
    method: str
    prompt: str
    prompt_version: str
    model: str


@dataclass(frozen=True)
class UnitState:
    """Where a unit stands; `reason` says why it is not done."""

    unit_id: str
    place: int
    state: str
    attempts: int
    reason: str


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


def meet_units(unit_ids: Iterable[str], is_first: bool) -> Operation[str | None]:
    """Note units for the time that the ledger is open, on disk; return one that was noted before, if there is one.

    Args:
        unit_ids: the next ones.
        is_first: forget what was noted so far.
    """

    def operation(connection: sqlite3.Connection) -> str | None:
        if is_first:
            connection.execute("CREATE TEMP TABLE IF NOT EXISTS met (unit_id TEXT PRIMARY KEY) STRICT, WITHOUT ROWID")
            connection.execute("DELETE FROM temp.met")
        insert = "INSERT OR IGNORE INTO temp.met VALUES (?)"
        return next((one for one in unit_ids if not connection.execute(insert, (one,)).rowcount), None)

    return operation


def settle_units(run: str, states: Iterable[UnitState]) -> Operation[None]:
    """Write where units stand."""
    rows = [(s.state, s.attempts, s.reason, run, s.unit_id) for s in states]
    statement = "UPDATE units SET state = ?, attempts = ?, reason = ? WHERE run = ? AND unit_id = ?"
    return lambda c: _execute_many(c, statement, rows)


def store(new: NewReply) -> Operation[None]:
    """Store a reply; an earlier one under the same key stays."""
    reply = new.reply
    errors = json.dumps(new.errors, ensure_ascii=False) if new.errors else "[]"
    tokens = (reply.n_prompt_tokens, reply.n_completion_tokens)
    row = (
        *(reply.key, new.run, new.unit_id, new.attempt, new.prompt, reply.text, int(reply.is_cut_off)),
        *(errors, *tokens, new.seconds, time.time()),
    )

    def operation(connection: sqlite3.Connection) -> None:
        connection.execute(
            "INSERT OR IGNORE INTO replies (key, run, unit_id, attempt, prompt, text, is_cut_off, errors, "
            "n_prompt_tokens, n_completion_tokens, seconds, created) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            row,
        )
        statement = "UPDATE units SET attempts = ? WHERE run = ? AND unit_id = ?"
        connection.execute(statement, (new.attempt, new.run, new.unit_id))

    return operation


def claim(key: str, runner: str) -> Operation[bool]:
    """Take the exclusive right to ask a question; a dead runner's claim is taken over."""

    def operation(connection: sqlite3.Connection) -> bool:
        if connection.execute("INSERT OR IGNORE INTO claims VALUES (?, ?)", (key, runner)).rowcount == 1:
            return True
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


def leave(connection: sqlite3.Connection, runner: str) -> None:
    """Forget a runner and its claims."""
    connection.execute("DELETE FROM claims WHERE runner = ?", (runner,))
    connection.execute("DELETE FROM runners WHERE runner = ?", (runner,))


def sweep_dead(connection: sqlite3.Connection) -> None:
    """Forget all runners that died."""
    for runner, last in connection.execute("SELECT runner, beat FROM runners").fetchall():
        if not Runner.parse(runner).is_alive(last):
            leave(connection, runner)


def find_reply(connection: sqlite3.Connection, key: str) -> StoredReply | None:
    """Return the reply that counts under a key."""
    columns = "key, text, is_cut_off, n_prompt_tokens, n_completion_tokens"
    statement = f"SELECT {columns} FROM replies WHERE key = ? AND is_retired = 0"
    row = connection.execute(statement, (key,)).fetchone()
    return None if row is None else StoredReply(row[0], row[1], bool(row[2]), row[3], row[4])

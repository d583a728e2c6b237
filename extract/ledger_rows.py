"""The rows of the ledger, and the operations that write them; `Ledger` puts these into transactions."""

import json
import sqlite3
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple, TypeVar

from extract.claims import Runner

T = TypeVar("T")
Operation = Callable[[sqlite3.Connection], T]

PENDING, DONE, EMPTY, REJECTED, SET_ASIDE = "pending", "done", "empty", "rejected", "set_aside"
STATES = (PENDING, DONE, EMPTY, REJECTED, SET_ASIDE)


class StoredReply(NamedTuple):
    """One reply, as it came.

    Attributes:
        key: address of the request that it answers.
        text: what the model wrote.
        is_cut_off: it ended at the token limit.
        n_prompt_tokens: tokens read.
        n_completion_tokens: tokens written.
        is_estimated: the server did not say how many tokens; they are estimated from the length.
    """

    key: str
    text: str
    is_cut_off: bool
    n_prompt_tokens: int
    n_completion_tokens: int
    is_estimated: bool = False


class NewReply(NamedTuple):
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
    """Where a unit stands.

    Attributes:
        unit_id: the unit.
        place: among the units of its run.
        state: one of `STATES`.
        attempts: replies so far.
        reason: why it is not done.
        first_key: address of its first question, once that is known.
    """

    unit_id: str
    place: int
    state: str
    attempts: int
    reason: str
    first_key: str = ""


class Claim(NamedTuple):
    """What became of a claim: is it ours, and was the question answered meanwhile."""

    is_ours: bool
    is_answered: bool


class Entry(NamedTuple):
    """What a task of a run writes at once; every part may be missing.

    Attributes:
        store: a reply.
        settle: where a unit stands.
        release: the key of a claim to give back.
        claims: the keys of questions to claim.
        is_beat: that the runner lives.
        also: something else, done when all replies are stored; its result comes back.
    """

    store: NewReply | None = None
    settle: UnitState | None = None
    release: str = ""
    claims: Sequence[str] = ()
    is_beat: bool = False
    also: Operation[Any] | None = None


def open_run(run: str, method: str, prompt: tuple[str, str], model: str, parameters: str) -> Operation[None]:
    """Enter a run: what is the same for all its units."""
    row = (run, method, *prompt, model, parameters, time.time())
    return lambda c: _execute(c, "INSERT OR IGNORE INTO runs VALUES (?, ?, ?, ?, ?, ?, ?)", row)


def enter_units(run: str, places: Iterable[tuple[str, int]]) -> Operation[None]:
    """Enter units as pending; a unit that is known keeps its state."""
    rows = [(run, unit_id, place, PENDING, 0, "", "") for unit_id, place in places]
    return lambda c: _execute_many(
        c,
        "INSERT INTO units VALUES (?, ?, ?, ?, ?, ?, ?) "
        "ON CONFLICT (run, unit_id) DO UPDATE SET place = excluded.place",
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
    return lambda c: _settle_all(c, run, states)


def store(new: NewReply) -> Operation[None]:
    """Store a reply; an earlier one under the same key stays."""
    return lambda c: store_all(c, [new])


def claim(keys: Sequence[str], runner: str) -> Operation[list[Claim]]:
    """Take the exclusive right to ask some questions; a dead runner's claim is taken over."""
    return lambda c: _claim_all(c, keys, runner)


def enter_all(entries: Sequence[Entry], run: str, runner: str) -> Operation[list[Any]]:
    """Write what many tasks say, each kind at once; what is stored and given back counts before anything is claimed.

    Args:
        entries: what they say.
        run: the run of their units.
        runner: who they are.

    Returns:
        For each entry what its own operation gave, or what became of its claims.
    """

    def operation(connection: sqlite3.Connection) -> list[Any]:
        store_all(connection, [entry.store for entry in entries if entry.store])
        _settle_all(connection, run, [entry.settle for entry in entries if entry.settle])
        _release_all(connection, [entry.release for entry in entries if entry.release], runner)
        if any(entry.is_beat for entry in entries):
            _beat(connection, runner)
        given = [entry.also(connection) if entry.also else None for entry in entries]
        claims = iter(_claim_all(connection, [key for entry in entries for key in entry.claims], runner))
        taken = [list(islice(claims, len(entry.claims))) for entry in entries]
        return [one if entry.also else mine for entry, one, mine in zip(entries, given, taken, strict=True)]

    return operation


def release(key: str, runner: str) -> Operation[None]:
    """Give a claim back."""
    return lambda c: _release_all(c, [key], runner)


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
    """Forget a runner, its claims and what it held of a budget."""
    connection.execute("DELETE FROM claims WHERE runner = ?", (runner,))
    connection.execute("DELETE FROM holds WHERE runner = ?", (runner,))
    connection.execute("DELETE FROM runners WHERE runner = ?", (runner,))


def sweep_dead(connection: sqlite3.Connection) -> None:
    """Forget all runners that died."""
    for runner, last in connection.execute("SELECT runner, beat FROM runners").fetchall():
        if not Runner.parse(runner).is_alive(last):
            leave(connection, runner)


def find_replies(connection: sqlite3.Connection, keys: Sequence[str]) -> dict[str, StoredReply]:
    """Return the replies that count, by their keys."""
    columns = "key, text, is_cut_off, n_prompt_tokens, n_completion_tokens, is_estimated"
    statement = f"SELECT {columns} FROM replies WHERE is_retired = 0 AND key IN (SELECT value FROM json_each(?))"
    rows = connection.execute(statement, (json.dumps(keys),))
    return {row[0]: StoredReply(row[0], row[1], bool(row[2]), row[3], row[4], bool(row[5])) for row in rows}


def store_all(connection: sqlite3.Connection, replies: Sequence[NewReply]) -> None:
    """Store replies; an earlier one under the same key stays."""
    now = time.time()
    connection.executemany(
        "INSERT OR IGNORE INTO replies (key, run, unit_id, attempt, prompt, text, is_cut_off, errors, "
        "n_prompt_tokens, n_completion_tokens, is_estimated, seconds, created) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (
                *(new.reply.key, new.run, new.unit_id, new.attempt, new.prompt, new.reply.text),
                *(new.reply.is_cut_off, json.dumps(new.errors, ensure_ascii=False) if new.errors else "[]"),
                *(new.reply.n_prompt_tokens, new.reply.n_completion_tokens, new.reply.is_estimated, new.seconds, now),
            )
            for new in replies
        ],
    )


def _settle_all(connection: sqlite3.Connection, run: str, states: Iterable[UnitState]) -> None:
    rows = [(s.state, s.attempts, s.reason, s.first_key, run, s.unit_id) for s in states]
    statement = "UPDATE units SET state = ?, attempts = ?, reason = ?, first_key = ? WHERE run = ? AND unit_id = ?"
    connection.executemany(statement, rows)


def _release_all(connection: sqlite3.Connection, keys: Sequence[str], runner: str) -> None:
    rows = [(key, runner) for key in keys]
    connection.executemany("DELETE FROM claims WHERE key = ? AND runner = ?", rows)


def _claim_all(connection: sqlite3.Connection, keys: Sequence[str], runner: str) -> list[Claim]:
    if not keys:
        return []
    among = "key IN (SELECT value FROM json_each(?))"
    given = (json.dumps(keys),)
    held = connection.execute(
        f"SELECT key, claims.runner, beat FROM claims LEFT JOIN runners USING (runner) WHERE {among}", given
    ).fetchall()
    taken = {key for key, holder, beat in held if Runner.parse(holder).is_alive(beat or 0.0)}
    is_ours = []
    for key in keys:
        is_ours.append(key not in taken)
        taken.add(key)
    rows = [(key, runner) for key, ours in zip(keys, is_ours, strict=True) if ours]
    connection.executemany("INSERT OR REPLACE INTO claims VALUES (?, ?)", rows)
    answered = {
        key for (key,) in connection.execute(f"SELECT key FROM replies WHERE is_retired = 0 AND {among}", given)
    }
    return [Claim(ours, key in answered) for key, ours in zip(keys, is_ours, strict=True)]

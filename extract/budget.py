"""How much may be spent: a hard limit that all processes on one ledger share."""

import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple

from extract.engine_config import EngineConfig
from extract.errors import BudgetError
from extract.ledger_rows import Entry, Operation, sweep_dead
from extract.pace import n_prompt_tokens
from extract.provider import Request

_LOST = "lost:"  # in place of a runner, with the model: what was sent, and never answered
_SUMS = "coalesce(sum(n_prompt_tokens), 0), coalesce(sum(n_completion_tokens), 0)"


class Tokens(NamedTuple):
    """Tokens read and written."""

    prompt: int = 0
    completion: int = 0

    def plus(self, other: "Tokens") -> "Tokens":
        """Add others up with these."""
        return Tokens(self.prompt + other.prompt, self.completion + other.completion)


NOTHING = Tokens()


class _Seen(NamedTuple):
    """What a model was paid for replies up to one of them."""

    last: int = 0
    paid: Tokens = NOTHING


class Limit:
    """A hard limit on the tokens, and on the money, for which one ledger pays one model.

    It counts every reply of the model that the ledger holds, of all methods, prompts, runs and processes, besides what
    requests under way may need, and what requests may have cost that were sent and got no answer.

    Args:
        config: has the limits and the prices.
        model: whom the ledger pays.
    """

    def __init__(self, config: EngineConfig, model: str) -> None:
        self._config, self.model = config, model
        self.is_set = config.budget_tokens is not None or config.budget_cost is not None
        self._seen = _Seen()

    def shortage(self, connection: sqlite3.Connection, most: Tokens, written: Tokens = NOTHING) -> tuple[str, bool]:
        """Return which limit a request would break, in words, and whether anything is under way.

        Args:
            connection: to the ledger, in a transaction.
            most: what the request may need.
            written: what those may need that were written into a file before it.
        """
        paid, (held, lost) = self._look(connection), self._held(connection)
        together = paid.plus(held).plus(lost).plus(written).plus(most)
        tokens, cost, price = self._config.budget_tokens, self._config.budget_cost, self._config.cost
        short = ""
        if tokens is not None and sum(together) > tokens:
            shown = [f"{sum(n)}" for n in (paid, lost, written, most)]
            short = self._said("tokens", f"{tokens} tokens", ("are", "needs"), shown)
        elif cost is not None and price(*together) > cost:
            shown = [f"{price(*n):.6g}" for n in (paid, lost, written, most)]
            short = self._said("cost", f"{cost:g}", ("is", "costs"), shown)
        return short, any(held)

    def _said(self, name: str, limit: str, verbs: tuple[str, str], shown: Sequence[str]) -> str:
        paid, lost, written, most = shown
        more = f", up to {lost} for requests that got no answer" if lost != "0" else ""
        more += f", up to {written} for those before it in the file" if written != "0" else ""
        return (
            f"the budget of {limit} is spent: {paid} {verbs[0]} paid to `{self.model}` by this ledger{more}, and the "
            f"next request {verbs[1]} up to {most}; every answer is kept, raise `budget_{name}` and run again to go on"
        )

    def _look(self, connection: sqlite3.Connection) -> Tokens:
        """Add the replies that came since; some may not be committed yet, but if that fails the run ends."""
        (last,) = connection.execute("SELECT coalesce(max(reply_id), 0) FROM replies").fetchone()
        if last > self._seen.last:
            among = "reply_id > ? AND run IN (SELECT run FROM runs WHERE model = ?)"
            given = (self._seen.last, self.model)
            new = connection.execute(f"SELECT {_SUMS} FROM replies WHERE {among}", given).fetchone()
            self._seen = _Seen(last, self._seen.paid.plus(Tokens(*new)))
        return self._seen.paid

    def _held(self, connection: sqlite3.Connection) -> tuple[Tokens, Tokens]:
        """Return what is under way, and what was lost."""
        by_loss = f"SELECT {_SUMS} FROM holds WHERE model = ? AND (runner = ?) = ?"
        given = self.model, _LOST + self.model
        held, lost = (connection.execute(by_loss, (*given, is_lost)).fetchone() for is_lost in (False, True))
        return Tokens(*held), Tokens(*lost)


class Budget:
    """What requests under way may need is set aside, so that a limit holds for all processes on one ledger.

    A request is sent only when the most that it may need fits, beside what requests under way may need, here and in
    other processes that have a limit. The ledger is asked within its own transactions, so two processes cannot spend
    the same rest. A prompt counts as long as its text is until its reply comes.

    Args:
        config: has the limits and the prices.
        model: whom the ledger pays.
        runner: who asks.
        write: writes an entry into the ledger, and returns what became of it.
    """

    def __init__(self, config: EngineConfig, model: str, runner: str, write: Callable[[Entry], Awaitable[Any]]) -> None:
        self._limit, self._runner, self._write = Limit(config, model), runner, write

    async def reserve(self, request: Request) -> bool:
        """Set aside what a request may need; False where it may fit later, since others turn out cheaper.

        Raises:
            BudgetError: if it does not fit and nothing is under way.
        """
        if not self._limit.is_set:
            return True
        short, held = await self._write(Entry(also=self._take(most_of(request))))
        if short and not held:
            raise BudgetError(short)
        return not short

    def release(self, request: Request, *, may_be_paid: bool = False) -> Operation[None] | None:
        """Return what gives a reservation back; it belongs into the transaction that stores the reply.

        Args:
            request: what was reserved for.
            may_be_paid: it got no answer, and may have been paid for: count it from now on.
        """
        if not self._limit.is_set:
            return None
        most = most_of(request)

        def operation(connection: sqlite3.Connection) -> None:
            connection.execute(
                "UPDATE holds SET n_prompt_tokens = n_prompt_tokens - ?, "
                "n_completion_tokens = n_completion_tokens - ? WHERE runner = ?",
                (*most, self._runner),
            )
            if may_be_paid:
                self._hold(connection, _LOST + self._limit.model, most)

        return operation

    def _take(self, most: Tokens) -> Operation[tuple[str, bool]]:
        def operation(connection: sqlite3.Connection) -> tuple[str, bool]:
            short, held = self._limit.shortage(connection, most)
            if short:  # perhaps by what a killed process had under way
                sweep_dead(connection)
                short, held = self._limit.shortage(connection, most)
            if not short:
                self._hold(connection, self._runner, most)
            return short, held

        return operation

    def _hold(self, connection: sqlite3.Connection, who: str, more: Tokens) -> None:
        connection.execute(
            "INSERT INTO holds VALUES (?, ?, ?, ?) ON CONFLICT (runner) DO UPDATE SET "
            "n_prompt_tokens = n_prompt_tokens + excluded.n_prompt_tokens, "
            "n_completion_tokens = n_completion_tokens + excluded.n_completion_tokens",
            (who, self._limit.model, *more),
        )


def most_of(request: Request) -> Tokens:
    """Return the tokens that a request may need."""
    return Tokens(n_prompt_tokens(request), request.max_tokens)

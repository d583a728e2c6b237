"""How much may be spent: a hard limit that all processes on one ledger share."""

import sqlite3
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from extract.engine_config import EngineConfig
from extract.errors import BudgetError
from extract.ledger_rows import Entry, Operation, sweep_dead
from extract.pace import n_prompt_tokens
from extract.provider import Request

_SUMS = "coalesce(sum(n_prompt_tokens), 0), coalesce(sum(n_completion_tokens), 0)"


class _Tokens(NamedTuple):
    prompt: int = 0
    completion: int = 0

    def plus(self, other: "_Tokens") -> "_Tokens":
        return _Tokens(self.prompt + other.prompt, self.completion + other.completion)


class _Seen(NamedTuple):
    """What a model was paid for replies up to one of them."""

    last: int = 0
    paid: _Tokens = _Tokens()


class Budget:
    """A hard limit on the tokens, and on the money, for which one ledger pays one model.

    It counts every reply of the model that the ledger holds: of all methods, prompts, runs and processes. A request is
    sent only when the most that it may need fits, beside what requests under way may need, here and in other processes
    that have a limit. The ledger is asked within its own transactions, so two processes cannot spend the same rest.
    A prompt counts as long as its text is until its reply comes.

    Args:
        config: has the limits and the prices.
        model: whom the ledger pays.
        runner: who asks.
        write: writes an entry into the ledger, and returns what became of it.
    """

    def __init__(self, config: EngineConfig, model: str, runner: str, write: Callable[[Entry], Awaitable[Any]]) -> None:
        self._config, self._model, self._runner, self._write = config, model, runner, write
        self._is_limited = config.budget_tokens is not None or config.budget_cost is not None
        self._seen = _Seen()

    async def reserve(self, request: Request) -> bool:
        """Set aside what a request may need; False where it may fit later, since others turn out cheaper.

        Raises:
            BudgetError: if it does not fit and nothing is under way.
        """
        if not self._is_limited:
            return True
        short, held = await self._write(Entry(also=self._take(_most(request))))
        if short and not held:
            raise BudgetError(short)
        return not short

    def release(self, request: Request) -> Operation[None] | None:
        """Return what gives a reservation back; it belongs into the transaction that stores the reply."""
        if not self._is_limited:
            return None
        most = _most(request)

        def operation(connection: sqlite3.Connection) -> None:
            connection.execute(
                "UPDATE holds SET n_prompt_tokens = n_prompt_tokens - ?, "
                "n_completion_tokens = n_completion_tokens - ? WHERE runner = ?",
                (*most, self._runner),
            )

        return operation

    def _take(self, most: _Tokens) -> Operation[tuple[str, bool]]:
        def operation(connection: sqlite3.Connection) -> tuple[str, bool]:
            paid = self._look(connection)
            short, held = self._shortage(connection, paid, most)
            if short:  # perhaps by what a killed process had under way
                sweep_dead(connection)
                short, held = self._shortage(connection, paid, most)
            if not short:
                connection.execute(
                    "INSERT INTO holds VALUES (?, ?, ?, ?) ON CONFLICT (runner) DO UPDATE SET "
                    "n_prompt_tokens = n_prompt_tokens + excluded.n_prompt_tokens, "
                    "n_completion_tokens = n_completion_tokens + excluded.n_completion_tokens",
                    (self._runner, self._model, *most),
                )
            return short, held

        return operation

    def _look(self, connection: sqlite3.Connection) -> _Tokens:
        """Add the replies that came since; some may not be committed yet, but if that fails the run ends."""
        (last,) = connection.execute("SELECT coalesce(max(reply_id), 0) FROM replies").fetchone()
        if last > self._seen.last:
            among = "reply_id > ? AND run IN (SELECT run FROM runs WHERE model = ?)"
            given = (self._seen.last, self._model)
            new = connection.execute(f"SELECT {_SUMS} FROM replies WHERE {among}", given).fetchone()
            self._seen = _Seen(last, self._seen.paid.plus(_Tokens(*new)))
        return self._seen.paid

    def _shortage(self, connection: sqlite3.Connection, paid: _Tokens, most: _Tokens) -> tuple[str, bool]:
        """Return which limit a request would break, in words, and whether anything is under way."""
        held = _Tokens(*connection.execute(f"SELECT {_SUMS} FROM holds WHERE model = ?", (self._model,)).fetchone())
        tokens, cost, price = self._config.budget_tokens, self._config.budget_cost, self._config.cost
        together = paid.plus(held).plus(most)
        by_whom = f"paid to `{self._model}` by this ledger"
        kept = "every answer is kept, raise"
        short = ""
        if tokens is not None and sum(together) > tokens:
            short = (
                f"the budget of {tokens} tokens is spent: {sum(paid)} are {by_whom}, and the next request needs up to "
                f"{sum(most)}; {kept} `budget_tokens` and run again to go on"
            )
        elif cost is not None and price(*together) > cost:
            short = (
                f"the budget of {cost:g} is spent: {price(*paid):.6g} is {by_whom}, and the next request costs up to "
                f"{price(*most):.6g}; {kept} `budget_cost` and run again to go on"
            )
        return short, any(held)


def _most(request: Request) -> _Tokens:
    return _Tokens(n_prompt_tokens(request), request.max_tokens)

"""One transaction for what many tasks write at about the same time."""

import asyncio
from itertools import islice
from typing import Any

from extract.ledger import Ledger
from extract.ledger_rows import Operation


class Commits:
    """Gathers what the tasks of one event loop write within one round of it, and commits that at once.

    A task goes on only when its own words are committed. With few tasks that is at once; with hundreds, a commit, the
    most costly part of a write, is shared by all whose replies came in the same round.

    Args:
        ledger: where it is written.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._waiting: list[tuple[tuple[Operation[Any], ...], asyncio.Future[list[Any]]]] = []

    async def write(self, *operations: Operation[Any]) -> list[Any]:
        """Run operations in the next transaction and return what they return, once it is committed.

        Raises:
            LedgerError: if it could not be written; nothing of the transaction was then.
        """
        loop = asyncio.get_running_loop()
        if not self._waiting:
            loop.call_soon(self._commit)
        committed: asyncio.Future[list[Any]] = loop.create_future()
        self._waiting.append((operations, committed))
        return await committed

    def _commit(self) -> None:
        waiting, self._waiting = self._waiting, []
        try:
            results = iter(self._ledger.write(*(one for operations, _ in waiting for one in operations)))
        except Exception:  # noqa: BLE001  whose fault it is shows when each is written alone
            for operations, committed in waiting:  # what cannot be written must not take the others with it
                self._commit_alone(operations, committed)
            return
        for operations, committed in waiting:
            part = list(islice(results, len(operations)))
            if not committed.done():
                committed.set_result(part)

    def _commit_alone(self, operations: tuple[Operation[Any], ...], committed: asyncio.Future[list[Any]]) -> None:
        try:
            results = self._ledger.write(*operations)
        except Exception as error:  # noqa: BLE001  the task that waits gets it
            if not committed.done():
                committed.set_exception(error)
        else:
            if not committed.done():
                committed.set_result(results)

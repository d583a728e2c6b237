"""One transaction for what many tasks write at about the same time."""

import asyncio
from typing import Any

from extract.ledger import Ledger
from extract.ledger_rows import Entry, enter_all


class Commits:
    """Gathers what the tasks of one event loop write within one round of it, and commits that at once.

    A task goes on only when its own words are committed. With few tasks that is at once; with hundreds, a commit, the
    most costly part of a write, is shared by all whose replies came in the same round.

    Args:
        ledger: where it is written.
        run: the run whose units are settled.
    """

    def __init__(self, ledger: Ledger, run: str) -> None:
        self._ledger, self._run = ledger, run
        self._loop = asyncio.get_running_loop()  # asking for it again and again takes a system call each time
        self._waiting: list[tuple[Entry, asyncio.Future[Any]]] = []

    async def write(self, entry: Entry) -> Any:
        """Write an entry in the next transaction; return what became of its claim, once that is committed.

        Raises:
            LedgerError: if it could not be written; nothing of the entry was then.
        """
        if not self._waiting:
            self._loop.call_soon(self._commit)
        committed: asyncio.Future[Any] = self._loop.create_future()
        self._waiting.append((entry, committed))
        return await committed

    def _commit(self) -> None:
        waiting, self._waiting = self._waiting, []
        try:
            self._commit_together(waiting)
        except Exception:  # noqa: BLE001  whose fault it is shows when each is written alone
            for one in waiting:  # what cannot be written must not take the others with it
                try:
                    self._commit_together([one])
                except Exception as error:  # noqa: BLE001  the task that waits gets it
                    if not one[1].done():
                        one[1].set_exception(error)

    def _commit_together(self, waiting: list[tuple[Entry, asyncio.Future[Any]]]) -> None:
        entries = [entry for entry, _ in waiting]
        (results,) = self._ledger.write(enter_all(entries, self._run, self._ledger.runner))
        for (_, committed), result in zip(waiting, results, strict=True):
            if not committed.done():
                committed.set_result(result)

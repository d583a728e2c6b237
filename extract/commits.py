"""One transaction for what many tasks write at about the same time."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from extract.ledger import Ledger
from extract.ledger_rows import Entry, Operation, enter_all

_Waiting = list[tuple[Entry, asyncio.Future[Any]]]


class Commits:
    """Gathers what the tasks of one event loop write while a commit is under way, and commits that at once.

    A task goes on only when its own words are committed. The commit, the most costly part of a write, is shared by all
    whose replies came meanwhile, and runs in a thread, where it needs no interpreter.

    Args:
        ledger: where it is written, by nobody else meanwhile.
        run: the run whose units are settled.
    """

    def __init__(self, ledger: Ledger, run: str) -> None:
        self._ledger, self._run = ledger, run
        self._loop = asyncio.get_running_loop()  # asking for it again and again takes a system call each time
        self._pool = ThreadPoolExecutor(1, "commit")
        self._waiting: _Waiting = []
        self._under_way: asyncio.Future[None] | None = None

    async def write(self, entry: Entry) -> Any:
        """Write an entry in the next transaction; return what became of it, once that is committed.

        Raises:
            LedgerError: if it could not be written; nothing of the entry was then.
        """
        if not self._waiting and self._under_way is None:
            self._loop.call_soon(self._begin)
        committed: asyncio.Future[Any] = self._loop.create_future()
        self._waiting.append((entry, committed))
        return await committed

    async def close(self) -> None:
        """Wait for the commit under way and let the thread go."""
        while self._under_way is not None:
            await asyncio.wait([self._under_way])
        self._pool.shutdown()

    def _begin(self) -> None:
        waiting, self._waiting = self._waiting, []
        try:
            results = self._ledger.begin(self._operation(waiting))[0]
        except Exception:  # noqa: BLE001  whose fault it is shows when each is written alone
            self._write_alone(waiting)
            return
        self._under_way = self._loop.run_in_executor(self._pool, self._ledger.commit)
        self._under_way.add_done_callback(partial(self._end, waiting, results))

    def _end(self, waiting: _Waiting, results: list[Any], commit: asyncio.Future[None]) -> None:
        self._under_way = None
        if commit.exception() is None:
            for (_, committed), result in zip(waiting, results, strict=True):
                if not committed.done():
                    committed.set_result(result)
        else:
            self._write_alone(waiting)
        if self._waiting:
            self._begin()

    def _write_alone(self, waiting: _Waiting) -> None:
        """Write one after the other: what cannot be written must not take the others with it."""
        for one in waiting:
            committed = one[1]
            try:
                ((result,),) = self._ledger.write(self._operation([one]))
            except Exception as error:  # noqa: BLE001  the task that waits gets it
                if not committed.done():
                    committed.set_exception(error)
            else:
                if not committed.done():
                    committed.set_result(result)

    def _operation(self, waiting: _Waiting) -> Operation[list[Any]]:
        return enter_all([entry for entry, _ in waiting], self._run, self._ledger.runner)

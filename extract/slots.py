"""How many may be at it at once."""

import asyncio
from collections import deque
from types import TracebackType


class Slots:
    """A semaphore that hands a slot on in constant time; asyncio's looks through all that wait, twice for each slot.

    Args:
        n_free: how many slots there are.
    """

    def __init__(self, n_free: int) -> None:
        self._n_free, self._loop = n_free, asyncio.get_running_loop()
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def __aenter__(self) -> None:
        """Take a slot, in the order of asking."""
        if self._n_free:
            self._n_free -= 1
            return
        turn: asyncio.Future[None] = self._loop.create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._hand_on()
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Hand the slot on."""
        self._hand_on()

    def _hand_on(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._n_free += 1

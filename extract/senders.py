"""As many requests under way as may be; the next one goes out as soon as an answer is there."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

from extract.provider import Completion, Request


class Senders:
    """Tasks that send what others ask for, in the order of asking.

    A sender that has its answer sends the next request before anybody looks at that answer, so that the time this takes
    is not time in which one request less is under way.

    Args:
        n_at_once: how many requests may be under way.
        send: sends one.
    """

    def __init__(self, n_at_once: int, send: Callable[[Request], Awaitable[Completion]]) -> None:
        self._n_at_once, self._send = n_at_once, send
        self._loop = asyncio.get_running_loop()
        self._asked: deque[tuple[Request, asyncio.Future[Completion]]] = deque()
        self._idle: list[asyncio.Future[None]] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def ask(self, request: Request) -> Completion:
        """Return the answer to a request, or raise what its sending raises."""
        answer: asyncio.Future[Completion] = self._loop.create_future()
        self._asked.append((request, answer))
        if self._idle:
            self._idle.pop().set_result(None)
        elif len(self._tasks) < self._n_at_once:
            self._tasks.append(self._loop.create_task(self._serve()))
        return await answer

    async def close(self) -> None:
        """End what is under way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self) -> None:
        while True:
            while self._asked:
                request, answer = self._asked.popleft()
                if not answer.done():
                    await self._answer(request, answer)
            turn: asyncio.Future[None] = self._loop.create_future()
            self._idle.append(turn)
            await turn

    async def _answer(self, request: Request, answer: asyncio.Future[Completion]) -> None:
        try:
            completion = await self._send(request)
        except asyncio.CancelledError:
            answer.cancel()
            raise
        except Exception as error:  # noqa: BLE001  whoever asked gets it
            if not answer.done():
                answer.set_exception(error)
        else:
            if not answer.done():
                answer.set_result(completion)

"""One time limit for many tasks."""

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(eq=False, slots=True)
class _Waiting:
    task: "asyncio.Task[object]"
    deadline: float
    is_late: bool = False


class TimeLimit:
    """Ends what takes longer than all may take, as `asyncio.timeout` does, with one timer instead of one for each.

    Args:
        seconds: how long each may take.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds, self._loop = seconds, asyncio.get_running_loop()
        self._waiting: dict[_Waiting, None] = {}  # in the order of their deadlines
        self._timer: asyncio.TimerHandle | None = None

    async def keep(self, work: Awaitable[T]) -> T:
        """Wait for some work.

        Raises:
            TimeoutError: if it took too long; it was cancelled.
        """
        task = asyncio.current_task(self._loop)
        assert task is not None
        one, before = _Waiting(task, self._loop.time() + self._seconds), task.cancelling()
        self._waiting[one] = None
        if self._timer is None:
            self._timer = self._loop.call_at(one.deadline, self._end_late)
        try:
            return await work
        except asyncio.CancelledError:
            if one.is_late and task.uncancel() <= before:
                raise TimeoutError from None
            raise
        finally:
            self._waiting.pop(one, None)

    def _end_late(self) -> None:
        self._timer = None
        now = self._loop.time()
        while self._waiting:
            one = next(iter(self._waiting))
            if one.deadline > now:
                self._timer = self._loop.call_at(one.deadline, self._end_late)
                return
            del self._waiting[one]
            one.is_late = True
            one.task.cancel()

"""Slots and the time limit, which many tasks share."""

import asyncio

import pytest

from extract.slots import Slots
from extract.time_limit import TimeLimit


def test_no_more_than_the_slots_are_taken_and_none_is_lost() -> None:
    async def run() -> int:
        slots, inside, most = Slots(3), 0, 0

        async def work(n: int) -> None:
            nonlocal inside, most
            async with slots:
                inside += 1
                most = max(most, inside)
                await asyncio.sleep(0.001 * (n % 3))
                inside -= 1

        tasks = [asyncio.create_task(work(n)) for n in range(40)]
        await asyncio.sleep(0.002)
        for task in tasks[::3]:
            task.cancel()  # some that wait, some that hold a slot, some that were just given one
        await asyncio.gather(*tasks, return_exceptions=True)
        inside = 0
        await asyncio.wait_for(asyncio.gather(*(work(n) for n in range(9))), 5)
        return most

    assert asyncio.run(run()) == 3


def test_a_slot_that_came_with_a_cancellation_is_handed_on() -> None:
    async def run() -> None:
        slots = Slots(1)

        async def hold(release: asyncio.Event) -> None:
            async with slots:
                await release.wait()

        release = asyncio.Event()
        first, second = (asyncio.create_task(hold(release)) for _ in range(2))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.sleep(0)  # the second has the slot now, and has not run yet
        second.cancel()
        await asyncio.gather(first, second, return_exceptions=True)
        release.set()
        await asyncio.wait_for(hold(release), 1)

    asyncio.run(run())


def test_what_takes_too_long_is_ended_and_the_rest_is_not() -> None:
    async def run() -> list[object]:
        limit = TimeLimit(0.05)
        delays = (0.0, 1.0, 0.01, 1.0)
        began = [asyncio.create_task(limit.keep(asyncio.sleep(delay, delay))) for delay in delays]
        await asyncio.sleep(0.03)
        began.append(asyncio.create_task(limit.keep(asyncio.sleep(0.03, "began late"))))
        return await asyncio.gather(*began, return_exceptions=True)

    results = asyncio.run(run())
    assert [one if isinstance(one, (float, str)) else type(one) for one in results] == [
        *(0.0, TimeoutError, 0.01, TimeoutError, "began late")
    ]


def test_a_cancellation_from_outside_stays_one() -> None:
    async def run() -> None:
        task = asyncio.create_task(TimeLimit(5.0).keep(asyncio.sleep(5.0)))
        await asyncio.sleep(0)
        task.cancel()
        await task

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(run())

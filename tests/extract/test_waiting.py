"""Senders and the time limit, which many tasks share."""

import asyncio

import pytest

from extract.errors import PassingProviderError
from extract.provider import Completion, Request
from extract.senders import Senders
from extract.time_limit import TimeLimit


def request(n: int) -> Request:
    return Request("", str(n), {}, 1)


def test_no_more_than_so_many_requests_are_under_way_and_none_is_lost() -> None:
    async def run() -> tuple[int, list[object]]:
        inside = most = 0

        async def send(asked: Request) -> Completion:
            nonlocal inside, most
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(0.001 * (int(asked.prompt) % 3))
            inside -= 1
            return Completion(asked.prompt, 0, 0)

        senders = Senders(3, send)
        tasks = [asyncio.create_task(senders.ask(request(n))) for n in range(40)]
        await asyncio.sleep(0.002)
        for task in tasks[::3]:
            task.cancel()  # some that wait, some whose request is under way, some that were just answered
        answers = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 5)
        await asyncio.wait_for(asyncio.gather(*(senders.ask(request(n)) for n in range(9))), 5)
        await senders.close()
        return most, [answer.text for n, answer in enumerate(answers) if n % 3 and isinstance(answer, Completion)]

    assert asyncio.run(run()) == (3, [str(n) for n in range(40) if n % 3])


def test_the_next_request_goes_out_before_an_answer_is_looked_at() -> None:
    async def run() -> list[str]:
        events: list[str] = []

        async def send(asked: Request) -> Completion:
            events.append(f"sent {asked.prompt}")
            await asyncio.sleep(0)
            return Completion("", 0, 0)

        async def ask(n: int) -> None:
            await senders.ask(request(n))
            events.append(f"answered {n}")

        senders = Senders(1, send)
        await asyncio.gather(ask(0), ask(1))
        await senders.close()
        return events

    assert asyncio.run(run()) == ["sent 0", "sent 1", "answered 0", "answered 1"]


def test_whoever_asked_gets_the_error_and_the_sender_goes_on() -> None:
    async def run() -> list[object]:
        async def send(asked: Request) -> Completion:
            if asked.prompt == "0":
                raise PassingProviderError("busy")
            return Completion(asked.prompt, 0, 0)

        senders = Senders(1, send)
        got = await asyncio.gather(*(senders.ask(request(n)) for n in range(2)), return_exceptions=True)
        await senders.close()
        return list(got)

    error, answer = asyncio.run(run())
    assert (str(error), answer) == ("busy", Completion("1", 0, 0))


def test_who_waits_when_the_senders_are_closed_waits_no_longer() -> None:
    async def run() -> None:
        async def send(asked: Request) -> Completion:
            await asyncio.sleep(60)
            return Completion("", 0, 0)

        senders = Senders(1, send)
        asked = asyncio.create_task(senders.ask(request(0)))
        await asyncio.sleep(0.01)
        await senders.close()
        await asyncio.wait_for(asked, 1)

    with pytest.raises(asyncio.CancelledError):
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

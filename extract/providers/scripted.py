"""A provider that says what a test tells it to."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from extract.errors import TerminalProviderError
from extract.provider import Completion, Provider, Request

Answer = str | Completion | Exception
Script = Sequence[Answer] | Callable[[Request], Answer]


class Scripted(Provider, name="scripted"):
    """Answers from a list, in order, or from a function of the request, which a test gives in Python.

    It counts what it was asked.

    Args:
        config: identity and speed.
        script: answers; an exception is raised, a string becomes a completion of as many tokens as it has words.

    Attributes:
        requests: everything that was asked, in order.
        n_closed: how often it was closed.
    """

    @dataclass(frozen=True)
    class Config:
        """Identity of the model, and how long an answer takes.

        Attributes:
            model: part of every cache key.
            latency_s: time to an answer.
            max_in_flight: requests under way at once.
        """

        model: str = "scripted"
        latency_s: float = 0.0
        max_in_flight: int = 16

    config: Config

    def __init__(self, config: Config, script: Script) -> None:
        super().__init__(config)
        self.requests: list[Request] = []
        self.n_closed = 0
        self._script = script
        self._list: Iterator[Answer] = iter(()) if callable(script) else iter(script)

    @property
    def model(self) -> str:
        """Identity of the model."""
        return self.config.model

    @property
    def max_in_flight(self) -> int:
        """How many requests may be under way at once."""
        return self.config.max_in_flight

    @property
    def n_calls(self) -> int:
        """How often it was asked."""
        return len(self.requests)

    async def complete(self, request: Request) -> Completion:
        """Give the next answer.

        Raises:
            TerminalProviderError: if the list of answers is at its end.
        """
        self.requests.append(request)
        answer = self._script(request) if callable(self._script) else next(self._list, None)
        if self.config.latency_s:
            await asyncio.sleep(self.config.latency_s)
        if answer is None:
            msg = f"the script has no answer {self.n_calls} (unit `{request.unit_id}`); give it more"
            raise TerminalProviderError(msg)
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, Completion):
            return answer
        return Completion(answer, len(request.prompt.split()), len(answer.split()))

    async def close(self) -> None:
        """Count that it was closed."""
        self.n_closed += 1

"""How fast to ask, and how much may be spent."""

import asyncio
import time

from extract.errors import BudgetError
from extract.provider import Request

_BYTES_PER_TOKEN = 3


def n_tokens(text: str) -> int:
    """Estimate the tokens of a text from its length; rather too many than too few."""
    return len(text.encode()) // _BYTES_PER_TOKEN


def n_prompt_tokens(request: Request) -> int:
    """Estimate the tokens that a request makes the model read."""
    return n_tokens(request.system + request.prompt) + 1


class Pace:
    """Requests and tokens a minute, evenly spaced, and pauses that a server asks for.

    Each request takes the next free moment: no bursts, so a limit holds in every window of a minute.

    Args:
        requests_per_minute: None = no limit.
        tokens_per_minute: None = no limit; a request counts as its estimate until its reply comes.
    """

    def __init__(self, requests_per_minute: float | None, tokens_per_minute: float | None) -> None:
        self._request_s = 60.0 / requests_per_minute if requests_per_minute else 0.0
        self._token_s = 60.0 / tokens_per_minute if tokens_per_minute else 0.0
        self._next_request = self._next_token = self._paused_until = 0.0

    async def turn(self, n_tokens: int) -> None:
        """Wait for this request's turn."""
        start = max(time.monotonic(), self._next_request, self._next_token)
        self._next_request = start + self._request_s
        self._next_token = start + n_tokens * self._token_s
        while (wait := max(start, self._paused_until) - time.monotonic()) > 0:
            await asyncio.sleep(wait)

    def give_back(self, n_tokens: int) -> None:
        """Let others have the tokens that an estimate was too high by."""
        self._next_token -= n_tokens * self._token_s

    def pause(self, seconds: float) -> None:
        """Let no request start for some seconds."""
        self._paused_until = max(self._paused_until, time.monotonic() + seconds)


class Budget:
    """A hard limit on tokens: a request starts only when its estimate still fits.

    The estimate of a request's cost is replaced by the true one when its reply comes.

    Args:
        limit: tokens; None = no limit.
        spent: tokens paid before, in earlier runs.
    """

    def __init__(self, limit: int | None, spent: int) -> None:
        self._limit = limit
        self._spent = spent
        self._reserved = 0
        self._settled = asyncio.Event()

    async def reserve(self, estimate: int) -> None:
        """Set tokens aside for a request; wait where requests under way may still turn out cheaper.

        Raises:
            BudgetError: if the estimate does not fit and nothing is under way.
        """
        while self._limit is not None and self._spent + self._reserved + estimate > self._limit:
            if self._reserved == 0:
                msg = (
                    f"the budget of {self._limit} tokens is spent: {self._spent} are paid and the next request "
                    f"needs up to {estimate}; every answer is kept, raise `budget_tokens` and run again to go on"
                )
                raise BudgetError(msg)
            self._settled.clear()
            await self._settled.wait()
        self._reserved += estimate

    def settle(self, estimate: int, used: int) -> None:
        """Replace an estimate by what was used."""
        self._reserved -= estimate
        self._spent += used
        self._settled.set()

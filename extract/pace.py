"""How fast to ask, and how much may be spent."""

import asyncio
import time

from extract.engine_config import EngineConfig
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
    """A hard limit on tokens and on money: a request starts only when the most that it may need still fits.

    What a request may need is replaced by what it took when its reply comes.

    Args:
        config: has the limits and the prices.
        n_prompt: prompt tokens paid before.
        n_completion: completion tokens paid before.
    """

    def __init__(self, config: EngineConfig, n_prompt: int, n_completion: int) -> None:
        self._config = config
        self._is_limited = config.budget_tokens is not None or config.budget_cost is not None
        self._n_prompt, self._n_completion = n_prompt, n_completion
        self._reserved_prompt = self._reserved_completion = 0
        self._settled = asyncio.Event()

    async def reserve(self, n_prompt: int, n_completion: int) -> None:
        """Set tokens aside for a request; wait where requests under way may still turn out cheaper.

        Raises:
            BudgetError: if they do not fit and nothing is under way.
        """
        while self._is_limited and (short := self._shortage(n_prompt, n_completion)):
            if not self._reserved_completion:
                msg = f"{short} and run again to go on"
                raise BudgetError(msg)
            self._settled.clear()
            await self._settled.wait()
        self._reserved_prompt += n_prompt
        self._reserved_completion += n_completion

    def settle(self, reserved: tuple[int, int], used: tuple[int, int]) -> None:
        """Replace what was reserved by what was used; prompt tokens first."""
        self._reserved_prompt -= reserved[0]
        self._reserved_completion -= reserved[1]
        self._n_prompt += used[0]
        self._n_completion += used[1]
        self._settled.set()

    def _shortage(self, n_prompt: int, n_completion: int) -> str:
        """Return which limit a request would break, in words; nothing where it fits."""
        tokens, cost, price = self._config.budget_tokens, self._config.budget_cost, self._config.cost
        most_prompt = self._n_prompt + self._reserved_prompt + n_prompt
        most_completion = self._n_completion + self._reserved_completion + n_completion
        kept = "every answer is kept, raise"
        if tokens is not None and most_prompt + most_completion > tokens:
            return (
                f"the budget of {tokens} tokens is spent: {self._n_prompt + self._n_completion} are paid and the next "
                f"request needs up to {n_prompt + n_completion}; {kept} `budget_tokens`"
            )
        if cost is not None and price(most_prompt, most_completion) > cost:
            return (
                f"the budget of {cost:g} is spent: {price(self._n_prompt, self._n_completion):.6g} is paid and the "
                f"next request costs up to {price(n_prompt, n_completion):.6g}; {kept} `budget_cost`"
            )
        return ""

"""How fast to ask."""

import asyncio
import json
import time
from collections.abc import Mapping
from typing import Any

from extract.provider import Request

SCHEMA_INSTRUCTION = "\nAnswer with one JSON object that fits this JSON schema:\n"
_BYTES_PER_TOKEN = 3


def n_tokens(text: str) -> int:
    """Estimate the tokens of a text from its length; rather too many than too few."""
    return len(text.encode()) // _BYTES_PER_TOKEN


def n_prompt_tokens(request: Request) -> int:
    """Estimate the tokens that a request makes the model read: its texts, and the reply schema as an instruction."""
    return n_tokens(request.system + request.prompt) + _schemas.n_tokens(request.schema) + 1


class _Schemas:
    """Measures a schema once; that of a run is the same mapping in every request."""

    def __init__(self) -> None:
        self._last: tuple[Mapping[str, Any], int] = ({}, 0)

    def n_tokens(self, schema: Mapping[str, Any]) -> int:
        known, n = self._last
        if known is not schema:
            n = n_tokens(SCHEMA_INSTRUCTION + json.dumps(schema)) if schema else 0
            self._last = schema, n
        return n


_schemas = _Schemas()


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

    @property
    def pause_s(self) -> float:
        """How long no request starts from now."""
        return max(0.0, self._paused_until - time.monotonic())

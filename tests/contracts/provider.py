"""What every provider must do; each member runs this class."""

import asyncio
import json
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from extract.provider import Completion, Provider, Request

SCHEMA = {
    "type": "object",
    "properties": {"mood": {"type": "string", "enum": ["dark", "light"]}},
    "required": ["mood"],
    "additionalProperties": False,
}
REQUEST = Request("Answer in JSON.", "The mood of Heat (1995)?", SCHEMA, max_tokens=40, unit_id="item:1")


def run(work: Coroutine[Any, Any, Any]) -> Any:
    """Run in a loop of its own, as the engine does."""
    return asyncio.run(work)


class ProviderContract:
    """The contract; a subclass gives `new_provider`, which returns one that answers `REQUEST` with a mood."""

    @pytest.fixture
    def new_provider(self) -> Callable[[], Provider]:
        raise NotImplementedError

    def test_it_is_named_and_says_which_model(self, new_provider: Callable[[], Provider]) -> None:
        provider = new_provider()
        assert type(provider).name
        assert provider.model.strip()
        assert provider.model == new_provider().model
        assert provider.max_in_flight >= 1

    def test_a_request_gets_a_completion_that_fits_the_schema(self, new_provider: Callable[[], Provider]) -> None:
        provider = new_provider()

        async def ask() -> Completion:
            try:
                return await provider.complete(REQUEST)
            finally:
                await provider.close()

        got = run(ask())
        assert isinstance(got, Completion)
        assert json.loads(got.text)["mood"] in ("dark", "light")
        assert got.n_prompt_tokens >= 0
        assert got.n_completion_tokens >= 0
        assert not got.is_cut_off

    def test_requests_run_side_by_side(self, new_provider: Callable[[], Provider]) -> None:
        provider = new_provider()

        async def ask() -> list[Completion]:
            n = min(provider.max_in_flight, 4)
            try:
                return await asyncio.gather(*(provider.complete(REQUEST) for _ in range(n)))
            finally:
                await provider.close()

        assert all(json.loads(got.text)["mood"] in ("dark", "light") for got in run(ask()))

    def test_closed_twice_it_opens_anew_in_another_loop(self, new_provider: Callable[[], Provider]) -> None:
        provider = new_provider()

        async def ask() -> str:
            text = (await provider.complete(REQUEST)).text
            await provider.close()
            await provider.close()
            return text

        assert json.loads(run(ask()))["mood"]
        assert json.loads(run(ask()))["mood"]

"""Run the provider contract on every member of the registry."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from extract.provider import Provider
from extract.providers.openai_api import OpenAIAPI
from extract.providers.replay import Replay
from extract.providers.scripted import Scripted
from tests.contracts.provider import REQUEST, ProviderContract
from tests.extract.mock_api import answer, mock_api

_REPLY = json.dumps({"mood": "dark"})
_OWN_TESTS = {
    "local": "needs a model file, which its own tests bring",
    "transformers": "is not held to a schema, so a model small enough for tests gives no JSON",
}


def _scripted(folder: Path) -> Iterator[Callable[[], Provider]]:
    yield lambda: Scripted(Scripted.Config(), lambda request: _REPLY)


def _replay(folder: Path) -> Iterator[Callable[[], Provider]]:
    path = folder / "answers.jsonl"
    path.write_text(json.dumps({"unit": REQUEST.unit_id, "text": _REPLY}), encoding="utf-8")
    yield lambda: Replay(Replay.Config(path))


def _openai_api(folder: Path) -> Iterator[Callable[[], Provider]]:
    with mock_api(lambda body, n: answer(_REPLY)) as api:
        yield lambda: OpenAIAPI(OpenAIAPI.Config(api.base_url, "mock"), "key")


_OPENINGS = {"scripted": _scripted, "replay": _replay, "openai_api": _openai_api}


def test_every_member_has_an_opening() -> None:
    assert sorted(Provider.members()) == sorted({**_OPENINGS, **_OWN_TESTS})


@pytest.mark.parametrize("name", sorted(_OPENINGS))
class TestProviders(ProviderContract):
    """Each provider that needs neither a model file nor a network."""

    @pytest.fixture
    def new_provider(self, name: str, tmp_path: Path) -> Iterator[Callable[[], Provider]]:  # type: ignore[override]
        yield from _OPENINGS[name](tmp_path)

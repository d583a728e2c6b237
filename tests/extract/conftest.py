"""Fixtures for tests of the engine."""

import pytest

from tests.extract import asking


@pytest.fixture
def _mood_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("extract.engine.load_prompt", asking.prompt)
    monkeypatch.setattr("extract.ask._FIRST_BACKOFF_S", 0.02)

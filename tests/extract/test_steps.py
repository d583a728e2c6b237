"""A method of several steps: each sees what was found before, all are summed, and an interrupted run goes on."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from extract.engine import EngineConfig
from extract.errors import BudgetError, TerminalProviderError
from extract.method import Method, Rejected, Unit
from extract.provider import Completion, Request
from extract.steps import extract_steps
from kg.graph import Graph
from tests.extract.asking import MoodMethod, moods, scripted
from tests.toy import ITEMS, toy_graph

pytestmark = pytest.mark.usefixtures("_mood_prompt")


class _Again(MoodMethod):
    """Asks about each mood that the first step found."""

    name = "mood_again"

    def units(self, graph: Graph) -> Iterator[Unit]:
        found = sorted(set(graph.triples["tail"].to_pylist()))
        for place, mood in enumerate(t for t in found if t.startswith("mood:new")):
            yield Unit(ITEMS[place], {"name": mood})


class _First(MoodMethod):
    def then(self, known: Graph) -> Method:
        return _Again()

    def conclude(self, found: Graph, known: Graph) -> tuple[Graph, Sequence[Rejected]]:
        return found.replace(triples=found.triples.slice(0, 3)), [Rejected("too_much", "the rest")]


def test_each_step_sees_what_was_found_and_the_last_word_is_the_methods(tmp_path: Path) -> None:
    provider = scripted(lambda r: moods("new1", "new2") if r.prompt.startswith("Item item:") else moods("calm"))
    result = extract_steps(_First(), toy_graph(), provider, tmp_path / "ledger")
    assert [r.prompt for r in provider.requests[8:]] == ["Item mood:new1", "Item mood:new2"]
    s = result.summary
    assert (s.method, s.total, s.done, s.asked, s.calls) == ("mood", 10, 10, 10, 10)
    assert s.rejects["too_much"].examples == ("the rest",)
    assert s.facts["triples"] == {"has_mood": 3}
    assert s.paid_tokens == s.prompt_tokens + s.completion_tokens
    json.dumps(s.to_dict())


def test_a_run_that_stopped_in_its_second_step_pays_for_nothing_twice(tmp_path: Path) -> None:
    def failing(request: object) -> str | Exception:
        return moods("new1") if "Item item:" in str(request) else TerminalProviderError("no more money")

    with pytest.raises(TerminalProviderError, match="no more money"):
        extract_steps(_First(), toy_graph(), scripted(failing), tmp_path / "ledger")
    provider = scripted([moods("calm")])
    result = extract_steps(_First(), toy_graph(), provider, tmp_path / "ledger")
    assert provider.n_calls == 1
    assert (result.summary.cached, result.summary.asked, result.summary.paid_replies) == (8, 1, 9)


def test_one_budget_holds_for_all_steps(tmp_path: Path) -> None:
    def script(request: Request) -> Completion:
        return Completion(moods("new1", "new2") if request.prompt.startswith("Item item:") else moods("calm"), 10, 10)

    limits = {"max_tokens": 12, "max_in_flight": 1}
    with pytest.raises(BudgetError, match="the budget of 260 tokens is spent: 180 are paid"):
        extract_steps(
            _First(), toy_graph(), scripted(script), tmp_path / "l", EngineConfig(budget_tokens=260, **limits)
        )
    result = extract_steps(
        _First(), toy_graph(), scripted(script), tmp_path / "l", EngineConfig(budget_tokens=280, **limits)
    )
    assert (result.summary.calls, result.summary.paid_tokens) == (1, 200)


def test_a_method_of_one_step_gives_what_the_engine_gives(tmp_path: Path) -> None:
    provider = scripted(lambda _: moods("dark"))
    result = extract_steps(MoodMethod(), toy_graph(), provider, tmp_path / "ledger")
    assert result.summary.facts["triples"] == {"has_mood": 8}
    assert result.graph.counts()["triples"] == 8

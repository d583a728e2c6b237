"""A hundred thousand broken replies: none stops a run, each unit is counted once."""

import json
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from extract.engine import EngineConfig, extract
from extract.judge import judge, judge_last
from extract.method import Facts, Unit
from extract.methods.item_facts import ItemFacts
from extract.provider import Completion, Request
from extract.providers.scripted import Scripted
from kg.graph import Graph
from tests.extract.asking import check_totals
from tests.toy import ITEMS, toy_graph

_REAL = Path(__file__).parents[1] / "goldens" / "replies" / "item_facts-smollm2-135m.jsonl"
_CONFIG = ItemFacts.Config(relations=("has_theme", "has_mood", "set_in", "for_audience"))  # what these answer
_WORDS = [
    *('"', "\\", "{", "}", "[", "]", ",", ":", "'", "\n", "\x00", "\ud800", "\u202e", "\ufeff", "🎬", "\\u0000"),
    *("\\ud800", "null", "NaN", "-Infinity", "1e999", "9" * 400, "<think>", "</think>", "```", "```json\n", "[" * 500),
    *('{"a":' * 300, '"has_mood":', '"":[],', "Item", "item:1", "x" * 3_000, "\t\r\x0b\x1b[31m", "</item>", "&lt;"),
]


def real_replies() -> list[str]:
    """Return what a small model really said, recorded."""
    return [json.loads(line)["text"] for line in _REAL.read_text(encoding="utf-8").splitlines()]


def mutate(text: str, others: list[str], rng: random.Random) -> str:
    """Damage a reply in one to four places."""
    for _ in range(rng.randint(1, 4)):
        start = rng.randint(0, len(text))
        end = min(len(text), start + rng.randint(0, 40))
        text = rng.choice(
            (
                text[:start],
                text[start:],
                text[:start] + text[end:],
                text[:end] + text[start:end] + text[end:],
                text[:start] + rng.choice(_WORDS) + text[start:],
                text[:start] + rng.choice(_WORDS) + text[end:],
                text[:start] + rng.choice(others)[start:],
                text[:start] + text[start:end][::-1] + text[end:],
            )
        )
    return text


class ManyFacts(ItemFacts):
    """Asks about the same items again and again; not in the registry."""

    def __init__(self, n_units: int) -> None:
        super().__init__(_CONFIG)
        self.n_units = n_units

    def units(self, graph: Graph) -> Iterator[Unit]:
        real = list(super().units(graph))
        for n in range(self.n_units):
            unit = real[n % len(real)]
            yield Unit(f"{unit.unit_id} {n}", {**unit.variables, "title": f"{unit.variables['title']} {n}"})

    def facts(self, reply: BaseModel, unit: Unit, graph: Graph) -> Facts:
        return super().facts(reply, replace(unit, unit_id=unit.unit_id.split()[0]), graph)


class Damaged(Scripted):
    """Answers each request with a damaged real reply, some of them cut off; keeps no request."""

    def __init__(self, seed: int) -> None:
        super().__init__(Scripted.Config(max_in_flight=64), [])
        self._rng, self._real, self.n_answers = random.Random(seed), real_replies(), 0

    async def complete(self, request: Request) -> Completion:
        self.n_answers += 1
        text = mutate(self._rng.choice(self._real), self._real, self._rng)
        return Completion(text, 1, 1, is_cut_off=self._rng.random() < 0.02)


def survive(folder: Path, n_units: int, seed: int) -> None:
    provider = Damaged(seed)
    config = EngineConfig(max_attempts=1)
    result = extract(ManyFacts(n_units), toy_graph(), provider, folder / "ledger", config)
    check_totals(result)
    assert result.summary.total == result.summary.calls == provider.n_answers == n_units
    assert min(result.summary.done, result.summary.set_aside, result.summary.repaired) > 0
    assert {"cut_off", "invalid_json", "invalid_reply"} == set(result.summary.set_aside_reasons)


def test_damaged_real_replies_are_counted_one_by_one(tmp_path: Path) -> None:
    survive(tmp_path, 1_500, seed=1)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_hundred_thousand_damaged_real_replies(tmp_path: Path) -> None:
    survive(tmp_path, 100_000, seed=2)


_METHOD = ItemFacts(_CONFIG)
_GRAPH = toy_graph()
_UNIT = next(iter(_METHOD.units(_GRAPH)))
_NAMES = sorted(_METHOD.Reply.model_json_schema()["properties"])
_leaf = st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=30) | st.sampled_from(ITEMS)
_value = st.recursive(_leaf, lambda c: st.lists(c, max_size=3) | st.dictionaries(st.text(max_size=5), c, max_size=2))
_near = st.fixed_dictionaries({name: st.lists(st.text(max_size=30), max_size=3) for name in _NAMES})
_almost = st.dictionaries(st.sampled_from(_NAMES) | st.text(max_size=5), _value, max_size=8)


@settings(max_examples=400, deadline=None)
@given(reply=_near | _almost | _value, start=st.text(max_size=8), end=st.text(max_size=8), cut=st.booleans())
def test_no_reply_that_hypothesis_finds_is_a_crash(reply: Any, start: str, end: str, cut: bool) -> None:
    text = start + json.dumps(reply) + end
    for verdict in (judge(text, cut, _METHOD.Reply), judge_last(text, cut, _METHOD.Reply)):
        if verdict.parsed is None:
            assert verdict.reason
            assert verdict.errors
        else:
            assert not cut
            facts = _METHOD.facts(verdict.parsed, _UNIT, _GRAPH)
            said = sum(len(tails) for tails in verdict.parsed.model_dump().values())
            assert len(facts.rows["triples"]) + len(facts.rejected) == said

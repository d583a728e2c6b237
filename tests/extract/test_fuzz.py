"""A hundred thousand broken replies, shared out to every step of every method: none stops a run, each is counted."""

import json
import random
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from extract.engine import EngineConfig, extract
from extract.judge import judge, judge_last
from extract.method import Facts, Method, Unit
from extract.methods.item_facts import ItemFacts
from extract.methods.llm_kerec_style import LLMKERecStyle
from extract.methods.llmhg import LLMHG
from extract.methods.llmrg import LLMRG
from extract.methods.sagcn import SAGCN
from extract.provider import Completion, Request
from extract.providers.scripted import Scripted
from kg.graph import Graph, concat
from tests.extract.asking import check_totals, scripted
from tests.toy import ITEMS, toy_graph

_TESTS = Path(__file__).parents[1]
_REAL = _TESTS / "goldens" / "replies" / "item_facts-smollm2-135m.jsonl"
_CONFIG = ItemFacts.Config(relations=("has_theme", "has_mood", "set_in", "for_audience"))  # what these answer
_METHODS = (
    ItemFacts(_CONFIG),
    LLMRG(LLMRG.Config(min_interactions=2, n_rounds=1)),
    LLMHG(LLMHG.Config(min_interactions=2)),
    LLMKERecStyle(LLMKERecStyle.Config()),
    SAGCN(SAGCN.Config(reviews=_TESTS / "toy_reviews.csv")),
)
_GOOD: dict[str, Any] = {
    "chains": [{"items": [1, 2], "reason": "both are merry"}],
    "title": "Alien",
    "score": 80,
    "titles": ["7", "8"],
    "angles": [{"angle": "mood", "categories": [{"category": "dark", "items": [1]}]}],
    "entities": ["Comedy", "Paris"],
    "reason": "one goes with the other",
    "kind": "both",
    "aspects": ["price", "sound"],
    "groups": [{"aspect": "Price", "numbers": [1, 2]}],
}
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


class Step(NamedTuple):
    """A step of a method, what is known when it asks, its first question and well-formed replies to it."""

    method: Method
    graph: Graph
    unit: Unit
    replies: list[str]


def good(request: Request) -> str:
    """Answer whatever step asks, well."""
    return json.dumps({name: _GOOD.get(name, ["dark"]) for name in request.schema["properties"]})


def all_steps(folder: Path) -> Iterator[Step]:
    """Go through the steps of every method with good answers."""
    for place, method in enumerate(_METHODS):
        step: Method | None = method
        found, known = Graph.from_tables(), toy_graph()
        while step is not None:
            provider = scripted(good)
            found = concat(found, extract(step, known, provider, folder / str(place)).graph)
            replies = real_replies() if isinstance(step, ItemFacts) else [good(provider.requests[0])]
            yield Step(step, known, next(iter(step.units(known))), replies)
            known = concat(toy_graph(), found)
            step = step.then(known)


@pytest.fixture(scope="module")
def steps(tmp_path_factory: pytest.TempPathFactory) -> list[Step]:
    return list(all_steps(tmp_path_factory.mktemp("steps")))


def test_no_method_is_left_out(steps: list[Step]) -> None:
    names = {step.method.name for step in steps}
    assert names >= set(Method.members())
    prompts = {step.method.prompt for step in steps}
    assert prompts == {stem for m in Method.members().values() for stem in (m.prompt, *m.later_prompts)}


class Repeated(Method):
    """Asks the questions of a step again and again, no two alike; not in the registry."""

    def __init__(self, step: Method, n_units: int) -> None:
        super().__init__(None)
        self.step, self.n_units = step, n_units
        self.name, self.prompt, self.Reply = step.name, step.prompt, step.Reply

    def units(self, graph: Graph) -> Iterator[Unit]:
        self.real = list(self.step.units(graph))
        for n in range(self.n_units):
            unit = self.real[n % len(self.real)]
            yield Unit(f"{n} {unit.unit_id}", numbered(unit.variables, n), unit.shown)

    def facts(self, reply: BaseModel, unit: Unit, graph: Graph) -> Facts:
        place = int(unit.unit_id.partition(" ")[0]) % len(self.real)
        return self.step.facts(reply, self.real[place], graph)


def numbered(variables: Mapping[str, Any], n: int) -> dict[str, Any]:
    """Put a number behind the first words that a question shows."""
    name = next(k for k, v in variables.items() if v and isinstance(v[0] if isinstance(v, list) else v, str))
    words = variables[name]
    return {**variables, name: f"{words} {n}" if isinstance(words, str) else [f"{words[0]} {n}", *words[1:]]}


class Damaged(Scripted):
    """Answers each request with a damaged reply, some of them cut off; keeps no request."""

    def __init__(self, seed: int, replies: list[str], others: list[str]) -> None:
        super().__init__(Scripted.Config(max_in_flight=64), [])
        self._rng, self._replies, self._others, self.n_answers = random.Random(seed), replies, others, 0

    async def complete(self, request: Request) -> Completion:
        self.n_answers += 1
        text = mutate(self._rng.choice(self._replies), self._others, self._rng)
        return Completion(text, 1, 1, is_cut_off=self._rng.random() < 0.02)


def survive(steps: list[Step], folder: Path, n_units: int, seed: int) -> None:
    others = [reply for step in steps for reply in step.replies]
    summaries = []
    for place, step in enumerate(steps):
        share = n_units // len(steps) + (place < n_units % len(steps))
        provider = Damaged(seed + place, step.replies, others)
        method, config = Repeated(step.method, share), EngineConfig(max_attempts=1, give_up_after=1_000)
        result = extract(method, step.graph, provider, folder / str(place), config)
        check_totals(result)
        assert result.summary.total == result.summary.calls == provider.n_answers == share
        assert 0 < result.summary.set_aside < share
        summaries.append(result.summary)
    assert sum(s.total for s in summaries) == n_units
    assert min(sum(s.done for s in summaries), sum(s.repaired for s in summaries)) > 0
    assert {"cut_off", "invalid_json", "invalid_reply"} == {code for s in summaries for code in s.set_aside_reasons}


def test_damaged_replies_are_counted_one_by_one(steps: list[Step], tmp_path: Path) -> None:
    survive(steps, tmp_path, 1_500, seed=1)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_hundred_thousand_damaged_replies(steps: list[Step], tmp_path: Path) -> None:
    survive(steps, tmp_path, 100_000, seed=100)


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


def like(value: Any) -> st.SearchStrategy[Any]:
    """Return replies of the form of a good one."""
    if isinstance(value, dict):
        return st.fixed_dictionaries({name: like(part) for name, part in value.items()})
    if isinstance(value, list):
        return st.lists(like(value[0]), max_size=4) if value else st.just([])
    return st.integers(-2, 120) if isinstance(value, int) else st.sampled_from([value, "1", "none"]) | st.text()


@settings(max_examples=400, deadline=None)
@given(data=st.data())
def test_no_reply_of_the_right_form_is_a_crash_in_any_step(steps: list[Step], data: st.DataObject) -> None:
    step = steps[data.draw(st.integers(0, len(steps) - 1))]
    reply = data.draw(like(json.loads(step.replies[0])))
    verdict = judge(json.dumps(reply), False, step.method.Reply)
    if verdict.parsed is None:
        assert verdict.errors
    else:
        facts = step.method.facts(verdict.parsed, step.unit, step.graph)
        assert all(0 <= row["confidence"] <= 1 for row in facts.rows.get("triples", ()))

"""Entities of items, pairs by segments within a budget, directed judgements, denials kept."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from db.memory_store import MemoryStore
from extract.method import Unit
from extract.methods.llm_kerec_style import COMPLEMENTS, HAS_ENTITY, SUBSTITUTES, LLMKERecStyle, candidate_pairs
from extract.provider import Request
from extract.providers.replay import Replay
from extract.steps import extract_steps
from extract.template import load_prompt
from gnn.data import TrainingGraph
from kg.ckg import CollaborativeKG
from kg.errors import ConfigError
from kg.graph import Graph, concat
from tests.extract.asking import scripted
from tests.toy import toy_graph


def shop(*entities: str, users: str = "") -> Graph:
    """Item n has the entities of the n-th word, one a letter; user k has in train the items of the k-th word."""
    letters = sorted({e for word in entities for e in word})
    histories = users.split()
    return Graph.from_rows(
        entities=[
            *({"entity_id": f"i{n}", "type": "Item", "name": f"i{n}"} for n in range(len(entities))),
            *({"entity_id": f"u{k}", "type": "User", "name": f"u{k}"} for k in range(len(histories))),
            *({"entity_id": f"concept:{e}", "type": "Concept", "name": e * 3} for e in letters),
        ],
        interactions=[
            {"user_id": f"u{k}", "item_id": f"i{n}", "split": "train"} for k, word in enumerate(histories) for n in word
        ],
        triples=[
            {"head": f"i{n}", "relation": HAS_ENTITY, "tail": f"concept:{e}", "confidence": 1.0, "source": "s"}
            for n, word in enumerate(entities)
            for e in sorted(set(word))
        ],
        sources=[{"source": "s", "kind": "rule"}],
    )


def letters(graph: Graph, **config: int) -> list[str]:
    pairs = candidate_pairs(graph, LLMKERecStyle.Config(**config))
    return [one[-1] + other[-1] for one, other in pairs]


def test_pairs_go_from_the_head_to_the_torso_and_stop_at_the_budget() -> None:
    graph = shop("a", "b", "c", "d", users="0123 012 013 0 0")  # a 5, b 3, c 2, d 2
    assert letters(graph, n_head=2, n_torso=2) == ["ab", "ac", "ad", "bc", "bd"]
    assert letters(graph, n_head=2, n_torso=2, max_pairs=2) == ["ab", "ac"]
    assert letters(graph, n_head=1, n_torso=1) == ["ab"]


def test_the_tail_meets_the_popular_entity_with_the_nearest_name() -> None:
    graph = shop("a", "b", "c", users="01 01 012")
    names = {"concept:a": "phone", "concept:b": "guitar", "concept:c": "phone case"}
    rows = [{**e, "name": names.get(e["entity_id"], e["name"])} for e in graph.entities.to_pylist()]
    graph = graph.replace(entities=Graph.from_rows(entities=rows).entities)
    assert letters(graph, n_head=2, n_torso=0) == ["ab", "ac"]


def test_a_pair_that_was_judged_is_not_asked_again() -> None:
    graph = shop("a", "b", "c", users="012")
    fact = {"head": "concept:b", "relation": COMPLEMENTS, "tail": "concept:a", "confidence": 0.0, "source": "s"}
    known = concat(graph, Graph.from_rows(
        entities=[e for e in graph.entities.to_pylist() if e["type"] == "Concept"], triples=[fact],
        sources=graph.sources.to_pylist(),
    ))  # fmt: skip
    assert letters(known) == ["ac", "bc"]


def test_a_dictionary_is_shown_and_bounds_what_may_be_named() -> None:
    method = LLMKERecStyle(LLMKERecStyle.Config(dictionary=("crime", "love story")))
    unit = next(method.units(toy_graph()))
    assert "out of these: crime, love story." in load_prompt(method.prompt).render(unit.variables)
    schema = method.Reply.model_json_schema()["properties"]["entities"]["items"]
    assert schema["enum"] == ["crime", "love story"]
    facts = method.facts(method.Reply.model_validate({"entities": ["Love story", "war"]}), unit, toy_graph())
    assert [t["tail"] for t in facts.rows["triples"]] == ["concept:love-story"]
    assert [(r.reason, r.what) for r in facts.rejected] == [("not_in_dictionary", "war")]
    with pytest.raises(ConfigError, match=r"`dictionary` holds \['a b', 'A-b'\], which are empty or equal"):
        LLMKERecStyle.Config(dictionary=("a b", "c", "A-b"))


@given(st.lists(st.text("abcdefgh", min_size=1, max_size=3), min_size=1, max_size=8), st.integers(0, 30))
def test_no_pair_comes_twice_and_the_budget_holds(words: list[str], budget: int) -> None:
    users = " ".join("".join(str(n) for n in range(len(words)) if n % (k + 1) == 0) for k in range(4))
    pairs = candidate_pairs(shop(*words, users=users), LLMKERecStyle.Config(n_head=2, n_torso=3, max_pairs=budget))
    assert len(set(pairs)) == len(pairs) <= budget
    assert all(one < other for one, other in pairs)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("substitute", {("a", "s", "b", 1), ("b", "s", "a", 1), ("a", "c", "b", 0), ("b", "c", "a", 0)}),
        ("second completes first", {("a", "c", "b", 1), ("b", "c", "a", 0)}),
        ("first completes second", {("a", "c", "b", 0), ("b", "c", "a", 1)}),
        ("both", {("a", "c", "b", 1), ("b", "c", "a", 1)}),
        ("none", {("a", "c", "b", 0), ("b", "c", "a", 0)}),
    ],
)
def test_complements_are_directed_and_denials_are_kept(kind: str, expected: set[Any]) -> None:
    graph = shop("a", "b", users="01")
    judge = LLMKERecStyle(LLMKERecStyle.Config()).then(graph)
    assert judge is not None
    (unit,) = judge.units(graph)
    facts = judge.facts(judge.Reply.model_validate({"reason": "so", "kind": kind}), unit, graph)
    assert {
        (t["head"][-1], t["relation"][0], t["tail"][-1], t["confidence"]) for t in facts.rows["triples"]
    } == expected


def test_what_is_no_entity_is_rejected() -> None:
    method = LLMKERecStyle(LLMKERecStyle.Config(n_entities=5))
    unit = next(u for u in method.units(toy_graph()) if u.unit_id == "item:1")
    reply = method.Reply.model_validate(
        {"entities": ["Comedy", "comedy", "unknown", "Description", unit.variables["title"]]}
    )
    facts = method.facts(reply, unit, toy_graph())
    assert [r.reason for r in facts.rejected] == ["duplicate", "placeholder", "placeholder", "repeats_title"]
    assert [t["tail"] for t in facts.rows["triples"]] == ["concept:comedy"]


@pytest.mark.parametrize(
    "written", ["kind of thing", "things", "Thing 2", "the brand", "brand or title", "entity", "use"]
)
def test_words_of_the_question_and_labels_of_the_item_are_no_entities(written: str) -> None:
    method = LLMKERecStyle(LLMKERecStyle.Config())
    unit = Unit("item:1", {"title": "A. Capo", "text": "A. Capo. Use: a clamp. kind: tool"})
    facts = method.facts(method.Reply.model_validate({"entities": ["guitar capo", written]}), unit, toy_graph())
    assert [(r.reason, r.what) for r in facts.rejected] == [("repeats_prompt", written)]
    assert [t["tail"] for t in facts.rows["triples"]] == ["concept:guitar-capo"]


def test_a_word_that_the_question_only_uses_may_be_an_entity() -> None:
    method = LLMKERecStyle(LLMKERecStyle.Config())
    unit = Unit("item:1", {"title": "A", "text": "A. kind: tool"})
    facts = method.facts(method.Reply.model_validate({"entities": ["books", "tool"]}), unit, toy_graph())
    assert facts.rejected == []


def test_recorded_answers_become_a_graph_that_a_store_gives_back_without_edges_of_denials(tmp_path: Path) -> None:
    lines = [
        {"unit": f"item:{n}", "text": json.dumps({"entities": ["phone" if n % 2 else "case"]})} for n in range(1, 9)
    ]
    pair = {"reason": "a case protects it", "kind": "first completes second"}
    lines.append({"unit": "concept:case|concept:phone", "text": json.dumps(pair)})
    file = tmp_path / "answers.jsonl"
    file.write_text("\n".join(map(json.dumps, lines)), "utf-8")
    method = LLMKERecStyle(LLMKERecStyle.Config())
    result = extract_steps(method, toy_graph(), Replay(Replay.Config(file)), tmp_path / "ledger")
    assert Counter(result.graph.triples["relation"].to_pylist()) == {HAS_ENTITY: 8, COMPLEMENTS: 2}
    (reply,) = {s["reply"] for s in result.graph.sources.to_pylist() if "|" in s["unit"]}
    assert "a case protects it" in reply
    whole = concat(toy_graph(), result.graph)
    store = MemoryStore()
    store.write(whole)
    assert store.read().equals(whole)
    graphs = (TrainingGraph.from_ckg(CollaborativeKG.from_graph(g)) for g in (toy_graph(), whole))
    n_before, n_after = (len(g.fact_confidence) for g in graphs)
    assert n_after - n_before == 8 + 1


def test_no_budget_asks_no_pair(tmp_path: Path) -> None:
    provider = scripted(lambda _: json.dumps({"entities": ["phone", "case"]}))
    method = LLMKERecStyle(LLMKERecStyle.Config(max_pairs=0))
    result = extract_steps(method, toy_graph(), provider, tmp_path / "ledger")
    assert result.summary.total == 8
    assert SUBSTITUTES not in result.graph.triples["relation"].to_pylist()


def test_pairs_show_no_interaction(tmp_path: Path) -> None:
    asked: list[Request] = []

    def answer(request: Request) -> str:
        asked.append(request)
        if "entities" in request.schema["properties"]:
            return json.dumps({"entities": [f"tool {request.unit_id[-1]}"]})
        return json.dumps({"reason": "so", "kind": "none"})

    result = extract_steps(
        LLMKERecStyle(LLMKERecStyle.Config(max_pairs=5)), toy_graph(), scripted(answer), tmp_path / "l"
    )
    assert len(asked) == 8 + 5
    assert not any("user:" in r.prompt for r in asked)
    assert {len(s["shown"]) for s in result.graph.sources.to_pylist()} == {0}


@pytest.mark.parametrize(("name", "value"), [("n_entities", 0), ("max_pairs", -1)])
def test_a_value_out_of_range_is_refused(name: str, value: int) -> None:
    with pytest.raises(ConfigError, match=f"`{name}` is {value}; expected a value from"):
        LLMKERecStyle.Config(**{name: value})

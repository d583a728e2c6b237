from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from extract.domains import load_domain
from extract.method import Facts, Unit
from extract.methods.item_facts import ItemFacts
from kg.errors import ConfigError, SchemaError, UnknownNameError
from kg.graph import Graph
from kg.terms import ITEM
from tests.toy import toy_graph

_EMPTY: dict[str, list[str]] = {r.name: [] for r in load_domain("movies").relations}


def _graph() -> Graph:
    films = {"item:1": "Night Train (1999)", "item:2": "Alien", "item:3": "Alien", "item:4": "Day, The"}
    return Graph.from_rows(
        entities=[
            {"entity_id": i, "type": "Item", "name": n, "text": f"{n}. A sad war story. year: 1999"}
            for i, n in films.items()
        ],
    )


def _facts(**given: list[str]) -> Facts:
    method, graph = ItemFacts(ItemFacts.Config()), _graph()
    unit = next(u for u in method.units(graph) if u.unit_id == "item:1")
    return method.facts(method.Reply.model_validate({**_EMPTY, **given}), unit, graph)


def test_a_tail_becomes_an_entity_and_a_triple() -> None:
    facts = _facts(has_mood=["Dark"], similar_to=["The Day"])
    assert facts.rows["entities"] == [{"entity_id": "mood:dark", "type": "Mood", "name": "dark"}]
    assert facts.rows["triples"] == [
        {"head": "item:1", "relation": "has_mood", "tail": "mood:dark", "confidence": 0.6},
        {"head": "item:1", "relation": "similar_to", "tail": "item:4", "confidence": 0.6},
    ]
    assert facts.rejected == []


def test_an_encoder_grounds_titles_that_letters_do_not() -> None:
    method, graph = ItemFacts(ItemFacts.Config(min_meaning=0.9)), _graph()
    method.encode = lambda some: np.array([[1.0, "day" in s or "sun" in s] for s in some], np.float32)
    unit = next(u for u in method.units(graph) if u.unit_id == "item:1")
    facts = method.facts(method.Reply.model_validate({**_EMPTY, "similar_to": ["Sunshine"]}), unit, graph)
    assert [t["tail"] for t in facts.rows["triples"]] == ["item:4"]
    assert (facts.n_grounded, facts.rejected) == (1, [])


def test_a_tail_that_only_sounds_like_a_relation_stays() -> None:
    facts = _facts(set_in=["Sunset Inn"])
    assert facts.rows["entities"] == [{"entity_id": "setting:sunset-inn", "type": "Setting", "name": "sunset inn"}]


def test_a_tail_that_stands_in_the_text_is_surer() -> None:
    (triple,) = _facts(has_theme=["War"]).rows["triples"]
    assert triple["confidence"] == 0.9


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"has_mood": ["unknown"]}, "placeholder"),
        ({"has_mood": ["N/A"]}, "placeholder"),
        ({"has_mood": ["..."]}, "placeholder"),
        ({"has_mood": ["Mood"]}, "placeholder"),
        ({"has_theme": ["has_mood: 12"]}, "repeats_prompt"),
        ({"has_theme": ["what the story is about"]}, "repeats_prompt"),
        ({"has_theme": ["the story is about"]}, "repeats_prompt"),
        ({"has_theme": ["when the story takesplace"]}, "repeats_prompt"),
        ({"has_theme": ["madeby"]}, "repeats_prompt"),
        ({"has_theme": ["the year is 1996"]}, "repeats_prompt"),
        ({"has_mood": ["moods"]}, "placeholder"),
        ({"set_in": ["the movie"]}, "placeholder"),
        ({"has_theme": ["Night train"]}, "repeats_title"),
        ({"has_theme": ["one two three four five"]}, "too_long"),
        ({"similar_to": ["Invented Film"]}, "not_in_catalogue"),
        ({"similar_to": ["Alien"]}, "ambiguous"),
        ({"similar_to": ["Night Train"]}, "self_loop"),
        ({"has_mood": ["dark", " DARK"]}, "duplicate"),
    ],
)
def test_what_is_no_fact_is_rejected_with_its_reason(given: dict[str, list[str]], reason: str) -> None:
    facts = _facts(**given)
    assert [r.reason for r in facts.rejected] == [reason]
    assert len(facts.rows["triples"]) == (reason == "duplicate")


@pytest.mark.parametrize(
    "obeying",
    [
        {**_EMPTY, "controls_user": ["all"]},
        {**_EMPTY, "has_mood": ["a", "b", "c"]},
        {**_EMPTY, "has_mood": ["x" * 81]},
        {**_EMPTY, "has_mood": [{"name": "dark"}]},
        {"facts": [{"relation": "owned_by", "tail": "attacker"}]},
    ],
)
def test_a_model_that_obeys_an_injected_command_is_refused(obeying: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ItemFacts(ItemFacts.Config()).Reply.model_validate(obeying)


def test_popular_items_come_first_and_valid_and_test_do_not_count() -> None:
    units = list(ItemFacts(ItemFacts.Config(max_items=3)).units(toy_graph()))
    assert [u.unit_id for u in units] == ["item:1", "item:2", "item:3"]
    assert all(u.shown == () for u in units)


def test_items_without_words_are_left_out_and_a_repeated_title_is_not_shown_twice() -> None:
    graph = Graph.from_rows(
        entities=[
            {"entity_id": "item:1", "type": ITEM, "name": "item:1"},
            {"entity_id": "item:2", "type": ITEM, "name": "\u200b"},
            {"entity_id": "item:3", "type": ITEM, "name": "Heat", "text": "Heat. year: 1995"},
        ]
    )
    (unit,) = ItemFacts(ItemFacts.Config()).units(graph)
    assert (unit.variables["title"], unit.variables["text"]) == ("Heat", "year: 1995")


def test_only_the_chosen_relations_are_asked_for() -> None:
    method = ItemFacts(ItemFacts.Config(relations=("has_mood",)))
    unit: Unit = next(method.units(_graph()))
    assert [r["name"] for r in unit.variables["relations"]] == ["has_mood"]
    assert list(method.Reply.model_json_schema()["properties"]) == ["has_mood"]


def test_an_own_domain_is_read_from_its_file(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text(
        'domain = "tea"\nentity_types = ["Item", "Taste", "User"]\n'
        '[[relations]]\nname = "tastes"\nhead = "Item"\ntail = "Taste"\n'
        '[[relations]]\nname = "likes"\nhead = "User"\ntail = "Taste"\n',
        encoding="utf-8",
    )
    assert list(ItemFacts(ItemFacts.Config(domain=str(path))).relations) == ["tastes"]
    with pytest.raises(SchemaError, match=r"must start at Item, others are `likes` \(User\)"):
        ItemFacts(ItemFacts.Config(domain=str(path), relations=("likes",)))


def test_an_unknown_domain_or_relation_is_named() -> None:
    with pytest.raises(UnknownNameError, match="unknown domain `movie`; did you mean `movies`"):
        load_domain("movie")
    with pytest.raises(SchemaError, match="relation `has_moods` is not in schema `movies`; did you mean `has_mood`"):
        ItemFacts(ItemFacts.Config(relations=("has_moods",)))


@pytest.mark.parametrize(("name", "value"), [("max_items", 0), ("max_tails", 99), ("confidence_in_text", 1.5)])
def test_a_value_out_of_range_is_refused(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"`{name}` is {value}; expected a value from"):
        ItemFacts.Config(**{name: value})

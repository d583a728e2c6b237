import json

import pytest

from kg.graph import Graph
from kg.quality import describe
from tests.toy import toy_graph


def test_the_toy_graph_is_counted_right() -> None:
    found = describe(toy_graph())
    assert found.tables == toy_graph().counts()
    assert found.entity_types == {
        "Item": 8, "User": 6, "Genre": 2, "Interest": 1, "Mood": 1, "Person": 1, "Place": 1
    }  # fmt: skip
    assert found.relations == {"has_genre": 5, "has_mood": 3, "directed_by": 2, "acted_by": 1, "has_interest": 1}
    assert found.hyperedge_relations == {"interest": 3}
    assert found.splits == {"train": 12, "test": 6, "valid": 6}
    assert found.sources == {"llm": 2, "dataset": 1, "rule": 1}
    assert found.models == {"scripted": 2}
    assert found.facts_by_kind == {"dataset": 8, "rule": 0, "llm": 4 + 3}
    assert found.density == 24 / 48
    assert found.item_coverage == 7 / 8  # item:4 has no fact
    assert found.user_coverage == 3 / 6


def test_a_fact_of_two_sources_counts_once_in_a_degree() -> None:
    # item 7: directed_by, acted_by, has_mood (twice stated), member of hyperedge 3
    assert describe(toy_graph()).degrees["item_facts"]["1"] == 4
    assert describe(toy_graph()).degrees["item_facts"]["0"] == 0
    assert describe(toy_graph()).degrees["entity_facts"] == pytest.approx(
        {"0": 0, "0.25": 1.25, "0.5": 2, "0.75": 2.75, "0.95": 3, "1": 3}  # place, interest, mood, drama, anna, comedy
    )


def test_the_order_of_a_count_is_by_size_and_it_is_plain_json() -> None:
    plain = json.loads(json.dumps(describe(toy_graph()).to_dict()))
    assert list(plain["splits"]) == ["train", "test", "valid"]


def test_an_empty_graph_is_described() -> None:
    found = describe(Graph.from_tables())
    assert (found.density, found.item_coverage, found.degrees["item_facts"]) == (0.0, 0.0, {})

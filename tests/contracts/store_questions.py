"""The saved queries and the runs, whose answers are the same in every store."""

from collections.abc import Callable
from typing import Any

import pytest

from db import load_query, saved_queries
from db.errors import QueryError, UnknownRunError
from db.runs import add_run, delete_run, diff_runs, list_runs
from db.store import GraphStore
from kg.graph import Graph, concat
from tests.toy import toy_graph


def second_run() -> Graph:
    """Facts of another model: one that the toy graph has too, one that it contradicts, and some on new entities."""
    triples = [
        ("item:7", "has_mood", "mood:dark", 0.9, "llm:new"),
        ("item:7", "directed_by", "person:bert", 0.4, "llm:new"),
        ("item:1", "complements", "item:4", 0.7, "llm:new"),
        ("genre:drama", "complements", "genre:comedy", 0.6, "llm:new"),
    ]
    return Graph.from_rows(
        entities=[
            *(row for row in toy_graph().entities.to_pylist() if row["type"] in ("Item", "Genre", "Mood")),
            {"entity_id": "person:bert", "type": "Person", "name": "bert"},
            {"entity_id": "place:rome", "type": "Place", "name": "rome"},
            {"entity_id": "place:oslo", "type": "Place", "name": "oslo"},
        ],
        triples=[dict(zip(("head", "relation", "tail", "confidence", "source"), t, strict=True)) for t in triples],
        hyperedges=[{"hyperedge_id": "hyperedge:9", "relation": "trip", "weight": 1.0, "source": "llm:new"}],
        members=[{"hyperedge_id": "hyperedge:9", "entity_id": "place:rome", "role": "goal"}],
        texts=[{"entity_id": "place:oslo", "kind": "summary", "text": "cold", "source": "llm:new"}],
        features=[{"entity_id": "person:bert", "kind": "k", "vector": [1.0]}],
        sources=[{"source": "llm:new", "kind": "llm", "model": "other"}],
    )


class SavedQueryContract:
    """Subclass it and give a fixture `new_store`: a function that returns an empty store."""

    def test_saved_query_facts_of_entity(self, new_store: Callable[[], GraphStore]) -> None:
        rows = _saved(new_store, "facts_of_entity", {"entity_id": "person:anna"})
        assert [(r["head"], r["relation"], r["tail"], r["source"], r["kind"]) for r in rows] == [
            ("item:5", "directed_by", "person:anna", "dataset:toy", "dataset"),
            ("item:7", "acted_by", "person:anna", "dataset:toy", "dataset"),
            ("item:7", "directed_by", "person:anna", "dataset:toy", "dataset"),
        ]
        assert [r["quote"] for r in _saved(new_store, "facts_of_entity", {"entity_id": "item:5"}) if r["quote"]] == [
            "a lie"
        ]
        facts = [("m", "r", t, "s") for t in "mzany"] + [(h, "r", "m", "s") for h in "zan"] + [("m", "q", "z", "s")]
        graph = Graph.from_rows(
            entities=[{"entity_id": i, "type": "T", "name": i} for i in "amnyz"],
            triples=[{"head": h, "relation": r, "tail": t, "confidence": 1.0, "source": s} for h, r, t, s in facts],
            sources=[{"source": "s", "kind": "rule"}],
        )
        rows = _saved(new_store, "facts_of_entity", {"entity_id": "m"}, graph)
        assert [(r["head"], r["relation"], r["tail"], r["source"]) for r in rows] == sorted(facts)

    def test_saved_query_facts_by_model(self, new_store: Callable[[], GraphStore]) -> None:
        rows = _saved(new_store, "facts_by_model")
        assert [(r["kind"], r["model"], r["prompt"], r["n_facts"]) for r in rows] == [
            ("dataset", None, None, 8),
            ("llm", "scripted", "item_facts", 2),
            ("llm", "scripted", "llmhg", 2),
        ]
        assert [r["mean_confidence"] for r in rows] == pytest.approx([1.0, 0.7, 0.7])

    def test_saved_query_items_without_facts(self, new_store: Callable[[], GraphStore]) -> None:
        rows = _saved(new_store, "items_without_facts")
        assert [(r["item_id"], r["n_interactions"]) for r in rows] == [("item:4", 3), ("item:8", 3)]

    def test_saved_query_hyperedges_of_user(self, new_store: Callable[[], GraphStore]) -> None:
        rows = _saved(new_store, "hyperedges_of_user", {"user_id": "user:1"})
        assert [(r["hyperedge_id"], r["position"], r["role"], r["entity_id"]) for r in rows] == [
            ("hyperedge:1", 0, "item", "item:1"),
            ("hyperedge:1", 1, "item", "item:2"),
            ("hyperedge:1", 2, "item", "item:3"),
            ("hyperedge:1", 3, "user", "user:1"),
        ]

    def test_saved_query_coverage_by_relation(self, new_store: Callable[[], GraphStore]) -> None:
        rows = _saved(new_store, "coverage_by_relation")
        assert [(r["relation"], r["n_facts"], r["n_heads"], r["n_tails"]) for r in rows] == [
            ("has_genre", 5, 5, 2),
            ("has_mood", 3, 2, 1),
            ("directed_by", 2, 2, 1),
            ("acted_by", 1, 1, 1),
            ("has_interest", 1, 1, 1),
        ]

    def test_saved_query_low_confidence_facts(self, new_store: Callable[[], GraphStore]) -> None:
        rows = _saved(new_store, "low_confidence_facts", {"below": 0.8, "limit": 5})
        assert [(r["head"], r["tail"], r["confidence"], r["source"]) for r in rows] == [
            ("item:7", "mood:dark", 0.5, "llm:bbbb"),
            ("item:5", "mood:dark", 0.6, "llm:aaaa"),
        ]

    def test_a_parameter_that_is_missing_is_named(self, new_store: Callable[[], GraphStore]) -> None:
        with pytest.raises(QueryError, match=r"the query needs a value for limit; give it, e.g. --param limit=VALUE"):
            _saved(new_store, "top_entities_of_user", {"user_id": "user:1"})

    def test_saved_query_why_near(self, new_store: Callable[[], GraphStore]) -> None:
        rows = _saved(new_store, "why_near", {"user_id": "user:1", "item_id": "item:3"})
        assert sorted((r["why"], r["from_id"], r["via_id"], r["item_relation"], r["strength"]) for r in rows) == [
            ("items share an entity", "item:1", "genre:comedy", "has_genre", 1.0),
            ("items share an entity", "item:2", "genre:comedy", "has_genre", 1.0),
            ("one hyperedge", "user:1", "hyperedge:1", "member/item", 0.7),
            ("people with both items", "item:1", "user:3", "interacts", 1.0),
            ("people with both items", "item:2", "user:2", "interacts", 1.0),
        ]

    def test_saved_query_why_near_knows_what_a_user_has(self, new_store: Callable[[], GraphStore]) -> None:
        graph = Graph.from_rows(
            entities=[
                {"entity_id": "u", "type": "User", "name": "u"},
                {"entity_id": "i", "type": "Item", "name": "i"},
                {"entity_id": "o", "type": "Mood", "name": "o"},
            ],
            triples=[
                {"head": "u", "relation": "wants", "tail": "o", "confidence": 0.5, "source": "s"},
                {"head": "i", "relation": "has", "tail": "o", "confidence": 0.5, "source": "s"},
                {"head": "u", "relation": "augmented_interacts", "tail": "i", "confidence": 0.75, "source": "s"},
            ],
            sources=[{"source": "s", "kind": "llm"}],
        )
        rows = _saved(new_store, "why_near", {"user_id": "u", "item_id": "i"}, graph)
        assert sorted((r["why"], r["relation"], r["via_id"], r["strength"]) for r in rows) == [
            ("a fact joins them", "augmented_interacts", "i", 0.75),
            ("the user has the entity", "wants", "o", 0.25),
        ]

    def test_saved_query_facts_of_model(self, new_store: Callable[[], GraphStore]) -> None:
        rows = _saved(new_store, "facts_of_model", {"model": "scripted", "limit": 3})
        assert [(r["head"], r["tail"], r["confidence"], r["source"], r["quote"]) for r in rows] == [
            ("user:1", "interest:slapstick", 0.9, "llm:bbbb", None),
            ("item:7", "mood:dark", 0.8, "llm:aaaa", "a lie"),
            ("item:5", "mood:dark", 0.6, "llm:aaaa", "a lie"),
        ]

    def test_saved_query_contradictory_facts(self, new_store: Callable[[], GraphStore]) -> None:
        both = concat(toy_graph(), second_run())
        rows = _saved(new_store, "contradictory_facts", {"relation": "directed_by"}, both)
        assert [tuple(r.values()) for r in rows] == [
            ("item:7", "directed_by", "person:anna", 1.0, "dataset:toy", "person:bert", 0.4, "llm:new")
        ]

    def test_saved_query_disputed_facts(self, new_store: Callable[[], GraphStore]) -> None:
        both = concat(toy_graph(), second_run())
        rows = _saved(new_store, "disputed_facts", {"gap": 0.3, "limit": 9}, both)
        assert [tuple(r.values()) for r in rows] == [("item:7", "has_mood", "mood:dark", 0.5, 0.9, 3)]

    def test_saved_query_complements_of_item(self, new_store: Callable[[], GraphStore]) -> None:
        denied = {"head": "item:1", "relation": "complements", "tail": "item:6", "confidence": 0.0, "source": "llm:no"}
        no = Graph.from_rows(
            entities=toy_graph().entities.to_pylist(),
            triples=[denied, {**denied, "head": "genre:comedy", "tail": "mood:dark"}],
            sources=[{"source": "llm:no", "kind": "llm"}],
        )
        both = concat(toy_graph(), second_run(), no)
        rows = _saved(new_store, "complements_of_item", {"item_id": "item:1"}, both)
        assert sorted((r["item_id"], r["entity_id"], r["other_entity_id"], r["confidence"]) for r in rows) == [
            ("item:4", "", "", 0.7),
            ("item:5", "genre:comedy", "genre:drama", 0.6),
            ("item:6", "genre:comedy", "genre:drama", 0.6),
        ]

    def test_saved_query_top_entities_of_user(self, new_store: Callable[[], GraphStore]) -> None:
        rows = _saved(new_store, "top_entities_of_user", {"user_id": "user:5", "limit": 3})
        assert [tuple(r.values()) for r in rows] == [
            ("genre:drama", "Genre", "drama", 2, 1.0),
            ("person:anna", "Person", "anna", 1, 1.0),
            ("mood:dark", "Mood", "dark", 1, 0.6),
        ]

    def test_saved_query_changes_between_runs(self, new_store: Callable[[], GraphStore]) -> None:
        with new_store() as store:
            add_run(store, "first", toy_graph())
            add_run(store, "second", second_run())
            ask = load_query("changes_between_runs")
            forth = [tuple(r.values()) for r in store.query(ask, {"before": "first", "after": "second"}).to_pylist()]
            back = store.query(ask, {"before": "second", "after": "first"}).to_pylist()
            assert store.query(ask, {"before": "first", "after": "first"}).num_rows == 0
        assert [row for row in forth if row[0] != "removed"] == [
            ("added", "genre:drama", "complements", "genre:comedy", None, 0.6),
            ("added", "item:1", "complements", "item:4", None, 0.7),
            ("added", "item:7", "directed_by", "person:bert", None, 0.4),
            ("changed", "item:7", "has_mood", "mood:dark", 0.8, 0.9),
        ]
        assert len(forth) == 4 + 10
        swapped = {"added": "removed", "removed": "added", "changed": "changed"}
        assert {(swapped[change], h, r, t, after, before) for change, h, r, t, before, after in forth} == {
            tuple(row.values()) for row in back
        }

    def test_saved_query_hyperedge_changes_between_runs(self, new_store: Callable[[], GraphStore]) -> None:
        runs = (_hyperedge_run("s:ä", "goal", 0.5), _hyperedge_run("s:😀", "goal", 0.75))
        assert [tuple(r.values()) for r in _changes(new_store, "hyperedge_changes_between_runs", *runs)] == [
            ("changed", "hyperedge:1", "trip", "", 0.5, 0.75),
            ("changed", "hyperedge:2", "trip/goal", "place:rome", 0.5, 0.75),
        ]
        runs = (_hyperedge_run("s:a", "goal", 0.5), _hyperedge_run("s:b", "start", 0.5))
        assert [tuple(r.values()) for r in _changes(new_store, "hyperedge_changes_between_runs", *runs)] == [
            ("added", "hyperedge:2", "trip/start", "place:rome", None, 0.5),
            ("removed", "hyperedge:2", "trip/goal", "place:rome", 0.5, None),
        ]

    def test_saved_query_text_changes_between_runs(self, new_store: Callable[[], GraphStore]) -> None:
        runs = (_hyperedge_run("s:a", "goal", 0.5), _hyperedge_run("s:b", "goal", 0.5, "far"))
        assert [tuple(r.values()) for r in _changes(new_store, "text_changes_between_runs", *runs)] == [
            ("added", "hyperedge:2", "text/summary", "far"),
            ("removed", "hyperedge:2", "text/summary", "a trip"),
        ]
        assert _changes(new_store, "text_changes_between_runs", runs[0], _hyperedge_run("s:c", "goal", 0.5)) == []

    def test_every_saved_query_has_a_test_of_its_answer(self, new_store: Callable[[], GraphStore]) -> None:
        assert {name for name in saved_queries() if not hasattr(self, f"test_saved_query_{name}")} == set()


class RunContract:
    """Subclass it and give a fixture `new_store`: a function that returns an empty store."""

    def test_a_run_taken_back_was_never_there(self, new_store: Callable[[], GraphStore]) -> None:
        with new_store() as store:
            store.write(toy_graph())
            add_run(store, "second", second_run())
            add_run(store, "second", second_run())
            assert store.read().equals(concat(toy_graph(), second_run()))
            assert list_runs(store) == {"second": ("llm:new",)}
            assert delete_run(store, "second") == 6
            assert store.read().equals(toy_graph())
            assert delete_run(store, "second") == 0
            assert list_runs(store) == {}

    def test_what_another_run_has_too_stays(self, new_store: Callable[[], GraphStore]) -> None:
        with new_store() as store:
            add_run(store, "second", second_run())
            add_run(store, "both", concat(toy_graph(), second_run()))
            assert delete_run(store, "second") == 0
            assert store.read().equals(concat(toy_graph(), second_run()))
            assert list(list_runs(store)) == ["both"]
            assert delete_run(store, "both") == 12 + 3 + 2 + 6
            left = store.read()
        users_and_items = [r["entity_id"] for r in left.entities.to_pylist() if r["type"] in ("User", "Item")]
        assert len(users_and_items) == 14
        assert {r["entity_id"] for r in left.entities.to_pylist()} - set(users_and_items) == {"place:paris"}
        assert (len(left.triples), len(left.sources), len(left.interactions)) == (0, 0, 24)

    def test_two_runs_may_use_one_id_for_different_hyperedges(self, new_store: Callable[[], GraphStore]) -> None:
        first, second = _hyperedge_run("s:a", "goal", 0.5), _hyperedge_run("s:b", "start", 0.25, "far")
        with new_store() as store:
            for _ in range(2):
                add_run(store, "first", first)
                add_run(store, "second", second)
            both = store.read()
            assert sorted(both.hyperedges["hyperedge_id"].to_pylist()) == [
                "hyperedge:1", "hyperedge:1@s:b", "hyperedge:2", "hyperedge:2@s:b",
            ]  # fmt: skip
            assert len(both.members) == len(both.texts) == 2
            assert len(diff_runs(store, "first", "second")) == 5
            assert delete_run(store, "second") == 3
            assert store.read().equals(first)
            add_run(store, "second", second)
            assert delete_run(store, "first") == 3
            add_run(store, "second", second)
            assert delete_run(store, "second") == 3
            assert store.read().equals(Graph.from_rows())

    def test_runs_that_differ_in_hyperedges_and_texts_alone(self, new_store: Callable[[], GraphStore]) -> None:
        with new_store() as store:
            add_run(store, "first", _hyperedge_run("s:a", "goal", 0.5))
            add_run(store, "second", _hyperedge_run("s:b", "goal", 0.75, "far"))
            assert diff_runs(store, "first", "first").num_rows == 0
            assert [tuple(r.values()) for r in diff_runs(store, "first", "second").to_pylist()] == [
                ("added", "hyperedge:2", "text/summary", "far", None, None),
                ("changed", "hyperedge:1", "trip", "", 0.5, 0.75),
                ("changed", "hyperedge:2", "trip/goal", "place:rome", 0.5, 0.75),
                ("removed", "hyperedge:2", "text/summary", "a trip", None, None),
            ]

    def test_a_deleted_source_leaves_its_run(self, new_store: Callable[[], GraphStore]) -> None:
        with new_store() as store:
            add_run(store, "first", toy_graph())
            assert store.delete("llm:aaaa", "llm:bbbb") == 9
            assert list_runs(store) == {"first": ("dataset:toy", "rule:popularity")}
            add_run(store, "first", toy_graph())
            assert store.read().equals(toy_graph())
            assert len(list_runs(store)["first"]) == 4

    def test_an_unknown_run_is_named(self, new_store: Callable[[], GraphStore]) -> None:
        with new_store() as store:
            store.write(toy_graph())
            with pytest.raises(UnknownRunError, match="no run `first`; it has none yet"):
                diff_runs(store, "first", "second")
            add_run(store, "first", toy_graph())
            with pytest.raises(UnknownRunError, match="no run `frist`; did you mean `first`"):
                diff_runs(store, "first", "frist")


def _hyperedge_run(source: str, role: str, weight: float, text: str = "a trip") -> Graph:
    edges = [f"hyperedge:{n}" for n in (1, 2)]
    return Graph.from_rows(
        entities=[{"entity_id": "place:rome", "type": "Place", "name": "rome"}],
        hyperedges=[{"hyperedge_id": i, "relation": "trip", "weight": weight, "source": source} for i in edges],
        members=[{"hyperedge_id": edges[1], "entity_id": "place:rome", "role": role}],
        texts=[{"entity_id": edges[1], "kind": "summary", "text": text, "source": source}],
        sources=[{"source": source, "kind": "llm"}],
    )


def _changes(new_store: Callable[[], GraphStore], name: str, before: Graph, after: Graph) -> list[dict[str, Any]]:
    with new_store() as store:
        add_run(store, "first", before)
        add_run(store, "second", after)
        return store.query(load_query(name), {"before": "first", "after": "second"}).to_pylist()


def _saved(
    new_store: Callable[[], GraphStore], name: str, parameters: dict[str, Any] | None = None, graph: Graph | None = None
) -> list[dict[str, Any]]:
    with new_store() as store:
        store.write(graph or toy_graph())
        return store.query(load_query(name), parameters).to_pylist()

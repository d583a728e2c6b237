from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kg.check import check
from kg.ckg import CollaborativeKG
from kg.controls import random_graph, shuffled_texts, without_facts, without_source_kind
from kg.errors import SchemaError
from kg.graph import Graph
from kg.terms import ITEM, USER
from tests.toy import toy_graph

Fact = tuple[str, str, str]


def distinct(graph: Graph, kind: str | None = None) -> set[Fact]:
    kinds = dict(zip(graph.sources["source"].to_pylist(), graph.sources["kind"].to_pylist(), strict=True))
    rows = graph.triples.to_pylist()
    return {(r["head"], r["relation"], r["tail"]) for r in rows if kind is None or kinds[r["source"]] == kind}


def degrees(facts: set[Fact]) -> tuple[Counter[Any], Counter[Any]]:
    return Counter((h, r) for h, r, _ in facts), Counter((r, t) for _, r, t in facts)


def memberships(graph: Graph) -> tuple[Counter[Any], Counter[Any]]:
    rows = graph.members.to_pylist()
    return (
        Counter((r["hyperedge_id"], r["role"], r["position"]) for r in rows),
        Counter((r["entity_id"], r["role"]) for r in rows),
    )


def dense(facts: list[tuple[int, str, int, str]], confidence: float = 0.5) -> Graph:
    entities = [{"entity_id": f"e{n}", "type": "T", "name": str(n)} for n in range(12)]
    triples = [
        {"head": f"e{h}", "relation": r, "tail": f"e{t}", "confidence": confidence, "source": s} for h, r, t, s in facts
    ]
    sources = [{"source": s, "kind": k} for s, k in (("a", "llm"), ("b", "llm"), ("d", "dataset"))]
    return Graph.from_rows(entities=entities, triples=triples, sources=sources)


rows = st.tuples(st.integers(0, 11), st.sampled_from("rs"), st.integers(0, 11), st.sampled_from("abd"))


@given(st.lists(rows, unique=True, max_size=60), st.integers(0, 3))
@settings(deadline=None, max_examples=50)
def test_random_keeps_every_degree_and_the_number_of_distinct_facts(
    facts: list[tuple[int, str, int, str]], seed: int
) -> None:
    graph = dense(facts)
    random = random_graph(graph, seed)
    assert len(distinct(random)) == len(distinct(graph))
    assert degrees(distinct(random, "rule")) == degrees(distinct(graph, "llm"))
    assert distinct(random, "dataset") == distinct(graph, "dataset")
    assert not distinct(random, "llm")
    loops = sum(h == t for h, _, t in distinct(graph))
    assert sum(h == t for h, _, t in distinct(random)) <= loops


def test_random_moves_most_facts_of_a_sparse_graph() -> None:
    rng = np.random.default_rng(0)
    pairs = {(int(h), int(t)) for h, t in rng.integers(0, 300, (600, 2)) if h != t}
    entities = [{"entity_id": f"e{n:03}", "type": "T", "name": str(n)} for n in range(300)]
    triples = [
        {"head": f"e{h:03}", "relation": "r", "tail": f"e{t:03}", "confidence": 0.5, "source": "a"} for h, t in pairs
    ]
    graph = Graph.from_rows(entities=entities, triples=triples, sources=[{"source": "a", "kind": "llm"}])
    kept = distinct(random_graph(graph, 0)) & distinct(graph)
    assert len(kept) < 0.05 * len(pairs)
    assert distinct(random_graph(graph, 1)) != distinct(random_graph(graph, 0))


def test_random_leaves_what_cannot_move() -> None:
    every_pair = [(h, "r", t, "a") for h in (0, 1) for t in (2, 3)]
    one_tail = [(h, "s", 5, "a") for h in range(4)]
    graph = dense(every_pair + one_tail)
    assert distinct(random_graph(graph, 0)) == distinct(graph)


def with_interests() -> Graph:
    """The toy graph, where user:1 has two hyperedges of four items each, and each hyperedge an interest."""
    graph = toy_graph()
    new = [("hyperedge:4", f"item:{n}", "item") for n in (4, 6, 7, 8)] + [("hyperedge:4", "user:1", "user")]
    new += [("hyperedge:1", "item:5", "item"), ("hyperedge:4", "interest:slapstick", "interest")]
    new += [("hyperedge:2", "genre:drama", "interest"), ("hyperedge:3", "mood:dark", "interest")]
    rows = [dict(zip(("hyperedge_id", "entity_id", "role"), row, strict=True)) for row in new]
    edge = {**graph.hyperedges.to_pylist()[0], "hyperedge_id": "hyperedge:4"}
    members = pa.concat_tables([graph.members, pa.Table.from_pylist(rows, graph.members.schema)])
    return graph.replace(
        members=members,
        hyperedges=pa.concat_tables([graph.hyperedges, pa.Table.from_pylist([edge], graph.hyperedges.schema)]),
    )


def items_by_user(graph: Graph) -> list[tuple[str, str]]:
    rows = graph.members.to_pylist()
    users = {row["hyperedge_id"]: row["entity_id"] for row in rows if row["role"] == "user"}
    return sorted((users[row["hyperedge_id"]], row["entity_id"]) for row in rows if row["role"] == "item")


def grouping(graph: Graph) -> set[tuple[str, str]]:
    return {(row["hyperedge_id"], row["entity_id"]) for row in graph.members.to_pylist() if row["role"] == "item"}


def test_random_keeps_members_by_role_and_marks_the_source() -> None:
    graph = with_interests()
    random = random_graph(graph, 3)
    assert memberships(random) == memberships(graph)
    assert not random.members.equals(graph.members)
    assert set(random.hyperedges["source"].to_pylist()) == {"rule:random-3"}
    assert random.hyperedges["weight"].equals(graph.hyperedges["weight"])
    assert random.texts.equals(graph.texts)
    assert random.features.equals(graph.features)


def test_random_leaves_every_user_the_items_that_the_user_had() -> None:
    graph = with_interests()
    random = random_graph(graph, 3)
    assert items_by_user(random) == items_by_user(graph)
    assert grouping(random) != grouping(graph)


def test_random_is_the_same_for_a_seed_whatever_the_order_of_rows() -> None:
    graph = toy_graph()
    turned = Graph(**{name: table.take(list(range(len(table)))[::-1]) for name, table in graph.tables().items()})
    assert random_graph(turned, 7).equals(random_graph(graph, 7))


def test_random_has_as_many_edges_as_the_real_graph_for_a_model() -> None:
    real, random = (CollaborativeKG.from_graph(g) for g in (toy_graph(), random_graph(toy_graph(), 0)))
    assert len(real.triples) == len(random.triples)
    assert np.bincount(real.edges()[1]).tolist() == np.bincount(random.edges()[1]).tolist()
    assert np.bincount(real.edges()[0][0]).tolist() == np.bincount(random.edges()[0][0]).tolist()


def test_random_of_another_kind_rewires_that_kind() -> None:
    random = random_graph(toy_graph(), 0, "dataset")
    assert distinct(random, "llm") == distinct(toy_graph(), "llm")
    assert degrees(distinct(random, "rule")) == degrees(distinct(toy_graph(), "dataset"))
    assert random.hyperedges.equals(toy_graph().hyperedges)


def test_without_a_kind_nothing_of_it_is_left() -> None:
    bare = without_source_kind(toy_graph(), "llm")
    assert bare.counts() == {
        "entities": 18, "interactions": 24, "triples": 8, "hyperedges": 0, "members": 0, "texts": 0, "features": 0,
        "sources": 2,
    }  # fmt: skip
    gone = set(toy_graph().entities["entity_id"].to_pylist()) - set(bare.entities["entity_id"].to_pylist())
    assert gone == {"mood:dark", "interest:slapstick"}  # `place:paris` had no fact before: nobody introduced it


def test_without_the_data_sets_facts_the_llms_stay() -> None:
    bare = without_source_kind(toy_graph(), "dataset")
    assert distinct(bare) == distinct(toy_graph(), "llm")
    assert bare.members.equals(toy_graph().members)
    assert bare.features.equals(toy_graph().features)


def test_without_facts_only_users_items_and_their_texts_are_left() -> None:
    bare = without_facts(toy_graph())
    assert set(bare.entities["type"].to_pylist()) == {USER, ITEM}
    assert bare.counts() == {
        "entities": 14, "interactions": 24, "triples": 0, "hyperedges": 0, "members": 0, "texts": 1, "features": 1,
        "sources": 1,
    }  # fmt: skip


def test_shuffled_texts_move_with_their_source_to_another_entity_of_the_type() -> None:
    graph = toy_graph()
    texts = [{"entity_id": f"item:{n}", "kind": "summary", "text": f"t{n}", "source": "llm:aaaa"} for n in range(1, 5)]
    texts += [{"entity_id": f"user:{n}", "kind": "summary", "text": f"u{n}", "source": "llm:bbbb"} for n in (1, 2)]
    texts += [{"entity_id": "item:1", "kind": "other", "text": "stays", "source": "llm:aaaa"}]
    features = [{"entity_id": "item:1", "kind": kind, "vector": [1.0]} for kind in ("summary", "other")]
    tables = {name: table.to_pylist() for name, table in graph.tables().items()}
    graph = Graph.from_rows(**{**tables, "texts": texts, "features": features})
    shuffled = shuffled_texts(graph, "summary", seed=0)
    told = {r["entity_id"]: (r["text"], r["source"]) for r in shuffled.texts.to_pylist() if r["kind"] == "summary"}
    assert sorted(told) == sorted({r["entity_id"] for r in texts})
    assert all(entity[0] == text[0].replace("t", "i") for entity, (text, _) in told.items())
    assert all(entity[-1] != text[-1] for entity, (text, _) in told.items())
    assert {s for e, (_, s) in told.items() if e.startswith("user")} == {"llm:bbbb"}
    assert [r["text"] for r in shuffled.texts.to_pylist() if r["kind"] == "other"] == ["stays"]
    assert shuffled.features["kind"].to_pylist() == ["other"]
    assert shuffled_texts(graph, "summary", seed=0).equals(shuffled)


CONTROLS = [
    lambda g: random_graph(g, 0),
    lambda g: without_source_kind(g, "llm"),
    without_facts,
    lambda g: shuffled_texts(g, "summary", 0),
]


@pytest.mark.parametrize("control", CONTROLS)
def test_a_control_keeps_interactions_and_leaks_nothing(control: Any) -> None:
    changed = control(toy_graph())
    assert changed.interactions.equals(toy_graph().interactions)
    assert check(changed).is_clean


@pytest.mark.parametrize("control", CONTROLS[:3])
def test_a_control_of_a_bare_data_set_is_the_data_set(control: Any) -> None:
    bare = without_facts(toy_graph()).replace(texts=toy_graph().texts[:0], features=toy_graph().features[:0])
    assert control(bare).interactions.equals(bare.interactions)
    assert control(bare).triples.equals(bare.triples)


def test_unknown_kinds_are_refused() -> None:
    with pytest.raises(SchemaError, match="`lm` is no kind of source; did you mean `llm`"):
        random_graph(toy_graph(), 0, "lm")
    with pytest.raises(SchemaError, match="`human` is no kind of source; Known: dataset, llm, rule"):
        without_source_kind(toy_graph(), "human")
    with pytest.raises(SchemaError, match="no text is of kind `sumary`; did you mean `summary`"):
        shuffled_texts(toy_graph(), "sumary", 0)

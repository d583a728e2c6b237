"""What every graph store must do; each member runs this class."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from db.errors import QueryError, StoreFormatError
from db.store import GraphStore
from kg.graph import Graph, concat
from tests.toy import toy_graph

COUNT_FACTS = "MATCH (h:Entity)-[f]->(t:Entity) WHERE f.relation IS NOT NULL RETURN count(*) AS n"
COUNT_ENTITIES = "MATCH (e:Entity) RETURN count(*) AS n"

HOSTILE = [
    "`", "``", "`) DETACH DELETE (n) //", "x`]->() MATCH (n) DETACH DELETE n //", "User`:Admin", "a`{b:1}", "\\u0060",
    "\\u0060]->(x) DETACH DELETE x //", "\\`", "'", '"', "' OR 1=1 //", "'}) MATCH (n) DETACH DELETE n //",
    '"}) DROP TABLE Entity; //', "}) DETACH DELETE (n", "$id", "${id}", "$(name)", "{id}", "; DROP TABLE FACT;",
    "MATCH (n) DETACH DELETE n", "COPY Entity FROM '/etc/passwd'", "CALL db.labels()", "/* */", "//", "--", "\x00",
    "a\x00b", "\n", "\r\n", "\t", "", " ", "  x  ", "\u2028", "\u200b", "\ufeff", "\uff41\uff40\uff42", "Ω≈ç√",
    "夜の雨", "👩‍👩‍👧",
    "e\u0301", "\u00e9", "null", "NaN", "Entity", "Source", "INTERACTED", "MEMBER", "%s %d {0}", "\\", "\\\\", "|",
    "\\p", "a|b", "x" * 3000,
]  # fmt: skip


def hostile_graph() -> Graph:
    """Put each hostile string in every place where a string can be."""
    odd = [f"id:{i}:{text}" for i, text in enumerate(HOSTILE)]
    pairs = list(zip(odd, HOSTILE, strict=True))
    return Graph.from_rows(
        entities=[{"entity_id": i, "type": text or "Empty", "name": text, "text": text} for i, text in pairs],
        triples=[
            {"head": i, "relation": text, "tail": odd[0], "confidence": 0.5, "source": f"s:{text}"} for i, text in pairs
        ],
        hyperedges=[
            {"hyperedge_id": f"h:{text}", "relation": text, "weight": 1.0, "source": f"s:{text}"} for text in HOSTILE
        ],
        members=[{"hyperedge_id": f"h:{text}", "entity_id": i, "role": text, "position": None} for i, text in pairs],
        texts=[{"entity_id": i, "kind": text, "text": text, "source": f"s:{text}"} for i, text in pairs],
        features=[{"entity_id": i, "kind": text, "vector": [0.5]} for i, text in pairs],
        sources=[
            {"source": f"s:{t}", "kind": "llm", "reply": t, "shown": [{"user_id": t, "item_id": t}]} for t in HOSTILE
        ],
    )


_NAMES = st.text(max_size=6)
_FLOATS = st.floats(allow_nan=False, allow_infinity=True)
_INT64 = st.integers(-(2**63), 2**63 - 1)


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """Draw a small graph with every table, every null and any character."""
    users, items, others = (draw(st.lists(_NAMES, max_size=3, unique=True)) for _ in range(3))
    users, items, others = [f"u{n}" for n in users], [f"i{n}" for n in items], [f"o{n}" for n in others]
    typed = [*((u, "User") for u in users), *((i, "Item") for i in items), *((o, draw(_NAMES)) for o in others)]
    ids = [i for i, _ in typed]
    sources = draw(st.lists(_NAMES, max_size=3, unique=True))
    maybe = st.none() | _NAMES
    rows: dict[str, list[dict[str, Any]]] = {
        "entities": [{"entity_id": i, "type": t, "name": draw(_NAMES), "text": draw(maybe)} for i, t in typed],
        "sources": [
            {
                "source": s,
                "kind": draw(st.sampled_from(["dataset", "rule", "llm"])),
                "reply": draw(maybe),
                "tokens": draw(st.none() | _INT64),
                "shown": draw(st.none() | st.just([]) | st.just([{"user_id": s, "item_id": None}])),
            }
            for s in sources
        ],
    }
    if users and items:
        pairs = draw(st.lists(st.tuples(st.sampled_from(users), st.sampled_from(items)), max_size=4, unique=True))
        rows["interactions"] = [
            {
                "user_id": u,
                "item_id": i,
                "timestamp": draw(st.none() | _INT64),
                "value": draw(st.none() | _FLOATS),
                "split": draw(st.sampled_from(["train", "valid", "test", "unsplit"])),
            }
            for u, i in pairs
        ]
    if ids and sources:
        rows |= _facts(draw, ids, sources)
    return Graph.from_rows(**{name: values for name, values in rows.items() if values})


def _facts(draw: st.DrawFn, ids: list[str], sources: list[str]) -> dict[str, list[dict[str, Any]]]:
    entity, source, unit = st.sampled_from(ids), st.sampled_from(sources), st.floats(0, 1)
    facts = draw(st.lists(st.tuples(entity, _NAMES, entity, source), max_size=5, unique=True))
    edges = [f"h{n}" for n in draw(st.lists(_NAMES, max_size=2, unique=True))]
    rows: dict[str, list[dict[str, Any]]] = {
        "triples": [
            {"head": h, "relation": r, "tail": t, "confidence": draw(unit), "source": s} for h, r, t, s in facts
        ],
        "hyperedges": [
            {"hyperedge_id": h, "relation": draw(_NAMES), "weight": draw(st.floats(0, 1e300)), "source": draw(source)}
            for h in edges
        ],
    }
    position = st.none() | st.integers(-(2**31), 2**31 - 1)
    if edges:
        members = draw(st.lists(st.tuples(st.sampled_from(edges), entity, _NAMES, position), max_size=5, unique=True))
        rows["members"] = [
            dict(zip(("hyperedge_id", "entity_id", "role", "position"), m, strict=True)) for m in members
        ]
    node = st.sampled_from(ids + edges)
    texts = draw(st.lists(st.tuples(node, _NAMES, source), max_size=4, unique=True))
    rows["texts"] = [{"entity_id": i, "kind": k, "text": draw(_NAMES), "source": s} for i, k, s in texts]
    vectors = st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), max_size=3)
    features = draw(st.lists(st.tuples(node, _NAMES), max_size=3, unique=True))
    rows["features"] = [{"entity_id": i, "kind": k, "vector": draw(vectors)} for i, k in features]
    return rows


class StoreContract:
    """Subclass it and give a fixture `new_store`: a function that returns an empty store."""

    def test_what_was_written_is_read(self, new_store: Callable[[], GraphStore]) -> None:
        with new_store() as store:
            store.write(toy_graph())
            assert store.read().equals(toy_graph())

    def test_writing_twice_is_writing_once(self, new_store: Callable[[], GraphStore]) -> None:
        with new_store() as store:
            store.write(toy_graph())
            store.write(toy_graph())
            assert store.read().equals(toy_graph())
            assert store.query(COUNT_FACTS)["n"].to_pylist() == [12]

    def test_a_second_graph_is_added(self, new_store: Callable[[], GraphStore]) -> None:
        second = Graph.from_rows(
            entities=[
                {"entity_id": "item:1", "type": "Item", "name": "1", "text": "Film item:1."},
                {"entity_id": "mood:gay", "type": "Mood", "name": "gay"},
            ],
            triples=[
                {"head": "item:1", "relation": "has_mood", "tail": "mood:gay", "confidence": 0.4, "source": "llm:new"}
            ],
            sources=[{"source": "llm:new", "kind": "llm"}],
        )
        with new_store() as store:
            store.write(toy_graph())
            store.write(second)
            assert store.read().equals(concat(toy_graph(), second))

    def test_the_last_value_of_a_key_stays(self, new_store: Callable[[], GraphStore]) -> None:
        with new_store() as store:
            store.write(_revised(1))
            store.write(_revised(2))
            assert store.read().equals(_revised(2))

    def test_an_empty_graph(self, new_store: Callable[[], GraphStore]) -> None:
        with new_store() as store:
            store.write(Graph.from_rows())
            assert store.read().equals(Graph.from_rows())
            assert len(store.neighbours("item:1")) == 0

    def test_nothing_written_is_said(self, new_store: Callable[[], GraphStore]) -> None:
        with new_store() as store, pytest.raises(StoreFormatError, match="write a graph"):
            store.read()

    def test_progress_ends_at_the_total(self, new_store: Callable[[], GraphStore]) -> None:
        seen: list[tuple[int, int | None]] = []
        with new_store() as store:
            store.write(toy_graph(), progress=lambda done, total, note="": seen.append((done, total)))
        total = sum(toy_graph().counts().values())
        assert seen[-1] == (total, total)
        assert [d for d, _ in seen] == sorted(d for d, _ in seen)

    def test_hostile_strings_are_data(self, new_store: Callable[[], GraphStore]) -> None:
        graph = hostile_graph()
        with new_store() as store:
            store.write(graph)
            store.write(graph)
            assert store.read().equals(graph)
            for text in HOSTILE[:8]:
                assert store.query("MATCH (e:Entity) WHERE e.name = $t RETURN e.name AS n", {"t": text})[
                    "n"
                ].to_pylist() == [text]
            assert store.delete("s:`) DETACH DELETE (n) //") == 3
            assert store.query(COUNT_ENTITIES)["n"].to_pylist() == [len(HOSTILE)]

    @pytest.mark.parametrize("source", ["llm:aaaa", "llm:bbbb", "dataset:toy"])
    def test_delete_takes_one_source(self, new_store: Callable[[], GraphStore], source: str) -> None:
        whole = toy_graph()
        with new_store() as store:
            store.write(whole)
            removed = store.delete(source)
            rest = store.read()
            assert store.delete(source) == 0
        expected = [r for r in whole.triples.to_pylist() if r["source"] != source]
        assert {tuple(r.values()) for r in rest.triples.to_pylist()} == {tuple(r.values()) for r in expected}
        assert removed == {"llm:aaaa": 3, "llm:bbbb": 6, "dataset:toy": 8}[source]
        assert source not in rest.sources["source"].to_pylist()
        assert len(rest.hyperedges) == (0 if source == "llm:bbbb" else 3)
        assert len(rest.members) == (0 if source == "llm:bbbb" else 10)
        assert rest.entities.sort_by("entity_id").equals(whole.entities.sort_by("entity_id"))
        assert len(rest.interactions) == 24

    def test_an_unknown_source_removes_nothing(self, new_store: Callable[[], GraphStore]) -> None:
        with new_store() as store:
            store.write(toy_graph())
            assert store.delete("llm:zzzz") == 0
            assert store.read().equals(toy_graph())

    def test_neighbours(self, new_store: Callable[[], GraphStore]) -> None:
        with new_store() as store:
            store.write(toy_graph())
            rows = store.neighbours("item:7").to_pylist()
            assert store.neighbours("item:7", limit=2).to_pylist() == rows[:2]
            edge = store.neighbours("hyperedge:3").to_pylist()
            assert store.neighbours("nobody").num_rows == 0
        found = [tuple(r.values())[1:] for r in rows]
        assert found == [
            ("acted_by", "out", "person:anna", 1.0, "dataset:toy"),
            ("directed_by", "out", "person:anna", 1.0, "dataset:toy"),
            ("has_mood", "out", "mood:dark", 0.8, "llm:aaaa"),
            ("has_mood", "out", "mood:dark", 0.5, "llm:bbbb"),
            ("interacts", "in", "user:3", None, None),
            ("interacts", "in", "user:5", None, None),
            ("interacts", "in", "user:6", None, None),
            ("member/item", "out", "hyperedge:3", 0.7, "llm:bbbb"),
        ]
        assert [(r["relation"], r["direction"], r["neighbour_id"]) for r in edge] == [
            ("member/item", "in", "item:7"),
            ("member/item", "in", "item:8"),
            ("member/user", "in", "user:6"),
        ]

    def test_query_answers_with_columns(self, new_store: Callable[[], GraphStore]) -> None:
        with new_store() as store:
            store.write(toy_graph())
            answer = store.query(
                "MATCH (u:Entity)-[r:INTERACTED]->(i:Entity) WHERE i.entity_id = $item "
                "RETURN u.entity_id AS user, r.timestamp AS day, r.split AS split ORDER BY user",
                {"item": "item:5"},
            )
            none = store.query("MATCH (e:Entity {entity_id: 'nobody'}) RETURN e.name AS name, 1 AS one")
        assert answer.to_pylist()[0] == {"user": "user:2", "day": 259_202, "split": "test"}
        assert answer.num_rows == 3
        assert none.column_names == ["name", "one"]
        assert none.num_rows == 0

    @pytest.mark.parametrize(
        "cypher",
        [
            "CREATE (:Entity {entity_id: 'new', type: 'T', name: 'n'})",
            "MATCH (e:Entity) SET e.name = 'lost'",
            "MATCH (s:Source) DETACH DELETE s",
        ],
    )
    def test_a_query_cannot_write(self, new_store: Callable[[], GraphStore], cypher: str) -> None:
        with new_store() as store:
            store.write(toy_graph())
            with pytest.raises(QueryError, match="may only read"):
                store.query(cypher)
            assert store.read().equals(toy_graph())

    @pytest.mark.parametrize(
        ("cypher", "says"),
        [
            ("MTCH (e) RETURN e", "MTCH"),
            ("RETURN $missing AS x", "missing"),
            ("RETURN 1 AS a; RETURN 2 AS b", "refused"),
        ],
    )
    def test_a_wrong_query_is_named(self, new_store: Callable[[], GraphStore], cypher: str, says: str) -> None:
        with new_store() as store:
            store.write(toy_graph())
            with pytest.raises(QueryError, match=says):
                store.query(cypher)

    def test_a_long_query_is_stopped(self, new_store: Callable[[], GraphStore]) -> None:
        endless = "UNWIND range(1, 100000) AS a UNWIND range(1, 100000) AS b RETURN sum(a * b % 7) AS x"
        with new_store() as store:
            store.write(toy_graph())
            with pytest.raises(QueryError, match=r"longer than 0\.5 s"):
                store.query(endless, timeout_s=0.5)

    @settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
    @given(graph=graphs())
    def test_any_graph_comes_back(self, new_store: Callable[[], GraphStore], graph: Graph) -> None:
        with new_store() as store:
            store.write(graph)
            assert store.read().equals(graph)
            for source in graph.sources["source"].to_pylist():
                store.delete(source)
            assert store.read().triples.num_rows == 0
            store.write(graph)
            assert store.read().equals(graph)


def _revised(n: int) -> Graph:
    return Graph.from_rows(
        entities=[
            {"entity_id": "u", "type": "User", "name": f"name {n}", "text": None if n > 1 else "a text"},
            {"entity_id": "i", "type": "Item", "name": "i", "text": f"text {n}"},
            {"entity_id": "o", "type": f"Type{n}", "name": "o"},
        ],
        interactions=[{"user_id": "u", "item_id": "i", "timestamp": n, "value": None, "split": "train"}],
        triples=[{"head": "i", "relation": "r", "tail": "o", "confidence": n / 4, "source": "s"}],
        hyperedges=[{"hyperedge_id": "h", "relation": f"kind {n}", "weight": float(n), "source": "s"}],
        members=[{"hyperedge_id": "h", "entity_id": "u", "role": "user", "position": None}],
        texts=[{"entity_id": "h", "kind": "k", "text": f"{n}", "source": "s"}],
        features=[{"entity_id": "i", "kind": "k", "vector": [float(n)] * n}],
        sources=[{"source": "s", "kind": "llm", "tokens": n, "shown": [{"user_id": "u", "item_id": "i"}] * n}],
    )

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kg.errors import DuplicateIdError, SchemaError
from kg.graph import Graph, concat, mapping_of
from kg.tables import TABLES
from tests.toy import ITEMS, USERS, toy_graph


def entity(entity_id: str, entity_type: str = "Thing", **more: Any) -> dict[str, Any]:
    return {"entity_id": entity_id, "type": entity_type, "name": entity_id, **more}


def test_an_empty_graph_has_all_tables() -> None:
    assert Graph.from_tables().counts() == dict.fromkeys(TABLES, 0)
    assert Graph.from_rows(**{name: [] for name in TABLES}).equals(Graph.from_tables())


def test_rows_and_tables_make_the_same_graph() -> None:
    graph = toy_graph()
    rows = {name: table.to_pylist() for name, table in graph.tables().items()}
    assert Graph.from_rows(**rows).equals(graph)
    assert Graph.from_tables(**graph.tables()).equals(graph)


def test_many_rows_are_read_in_linear_time() -> None:
    rows = [entity(str(n)) for n in range(20_000)]  # was quadratic: minutes
    assert Graph.from_rows(entities=rows).counts()["entities"] == 20_000


@given(st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=20)
def test_equality_ignores_the_order_of_rows(random: Any) -> None:
    tables = {}
    for name, table in toy_graph().tables().items():
        places = list(range(len(table)))
        random.shuffle(places)
        tables[name] = table.take(places)
    assert Graph.from_tables(**tables).equals(toy_graph())


@pytest.mark.parametrize("name", TABLES)
def test_equality_sees_a_missing_row_of_any_table(name: str) -> None:
    tables = toy_graph().tables()
    tables[name] = tables[name][:-1]
    assert not Graph(**tables).equals(toy_graph())


def test_ids_names_and_splits_are_looked_up() -> None:
    graph = toy_graph()
    assert graph.ids_of("User") == USERS
    assert graph.ids_of("Item") == ITEMS
    assert graph.names()["person:anna"] == "anna"
    assert mapping_of(graph.sources, "source", "kind")["llm:aaaa"] == "llm"
    assert len(graph.interactions_of("test")) == 6
    with pytest.raises(SchemaError, match="`dev` is no split; expected one of train, valid, test"):
        graph.interactions_of("dev")


def test_an_interaction_joins_a_user_and_an_item() -> None:
    entities = [entity("a", "User"), entity("b", "Item")]
    row = {"user_id": "b", "item_id": "b", "split": "train"}
    with pytest.raises(SchemaError, match="column `user_id`: `b` is an entity of another type than `User`"):
        Graph.from_rows(entities=entities, interactions=[row])


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        ([{"head": 3, "relation": "r"}], "table `triples`: a value has the wrong type"),
        ([{"head": "\ud800"}], "table `triples`: a value has the wrong type: .*surrogates not allowed"),
        ([{"hed": "a"}], "table `triples` has an unknown column `hed`; did you mean `head`"),
        ([{"head": "a"}], "table `triples` lacks the column `relation`"),
    ],
)
def test_bad_rows_are_refused(rows: list[dict[str, Any]], text: str) -> None:
    with pytest.raises(SchemaError, match=text):
        Graph.from_rows(triples=rows)


def test_a_number_too_large_for_its_column_is_refused() -> None:
    with pytest.raises(SchemaError, match="table `sources`: a value has the wrong type"):
        Graph.from_rows(sources=[{"source": "s", "kind": "llm", "tokens": 2**70}])


def test_the_relation_of_interactions_is_reserved() -> None:
    row = {"head": "a", "relation": "interacts", "tail": "b", "confidence": 1.0, "source": "s"}
    sources = [{"source": "s", "kind": "dataset"}]
    with pytest.raises(SchemaError, match="relation `interacts`, which is kept for interactions"):
        Graph.from_rows(entities=[entity("a"), entity("b")], triples=[row], sources=sources)


def test_an_id_names_an_entity_or_a_hyperedge() -> None:
    edge = {"hyperedge_id": "a", "relation": "r", "weight": 1.0, "source": "s"}
    with pytest.raises(DuplicateIdError, match="1 ids name an entity and a hyperedge: `a`"):
        Graph.from_rows(entities=[entity("a")], hyperedges=[edge], sources=[{"source": "s", "kind": "rule"}])


def test_graphs_are_put_together_and_equal_rows_kept_once() -> None:
    graph = toy_graph()
    other = Graph.from_rows(entities=[entity("new"), entity("place:paris", "Place", name="paris")])
    joined = concat(graph, other, graph)
    assert joined.counts() == {**graph.counts(), "entities": 21}
    assert concat(other, graph).equals(joined)


def test_graphs_that_contradict_each_other_are_not_put_together() -> None:
    other = Graph.from_rows(entities=[entity("place:paris", "City")])
    with pytest.raises(DuplicateIdError, match="1 keys .entity_id. occur more than once: `place:paris`"):
        concat(toy_graph(), other)


def test_times_that_differ_in_the_last_bit_contradict_each_other() -> None:
    tables = toy_graph().tables()
    place = tables["interactions"].column_names.index("timestamp")
    field = tables["interactions"].schema.field(place)

    def at(time: int) -> Graph:
        times = pa.array([time] + [None] * 23, pa.int64())
        return Graph.from_tables(
            entities=tables["entities"], interactions=tables["interactions"].set_column(place, field, times)
        )

    with pytest.raises(DuplicateIdError, match="1 keys .user_id, item_id."):
        concat(at(2**60), at(2**60 + 1))

"""Pages of a read: at their borders nothing is lost or double, and a graph that changes meanwhile is not half read."""

from typing import Any

import pytest

from db import neo4j_read
from db.errors import StoreUnreachableError
from db.neo4j_store import Neo4jConfig, Neo4jStore
from kg.graph import Graph
from tests.contracts.store import hostile_graph
from tests.db.servers import wiped
from tests.toy import toy_graph


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 2, 7])
def test_small_pages_give_the_same_graph(neo4j_uri: str, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neo4j_read, "_PAGE", dict.fromkeys(neo4j_read._PAGE, size))
    monkeypatch.setattr(neo4j_read, "_PAGE_OF_RELATIONSHIPS", size)
    for graph in (toy_graph(), hostile_graph(), Graph.from_rows()):
        wiped(neo4j_uri)
        with Neo4jStore(Neo4jConfig(uri=neo4j_uri)) as store:
            store.write(graph)
            assert store.read().equals(graph)


def test_a_graph_that_grows_meanwhile_is_refused() -> None:
    nodes = {"_place": [4], "_degree": [1], "_last": None, "entity_id": ["a"], "type": ["T"], "name": ["a"]}
    nodes["text"] = [None]
    none: dict[str, Any] = {name: [] for name in ("_place", "_degree", "hyperedge_id", "relation", "weight", "source")}
    none |= {name: [] for name in ("entity_id", "kind", "text", "vector", "model", "prompt", "prompt_version", "unit")}
    none |= {name: [] for name in ("quote", "span", "reply", "reply_sha", "tokens", "shown")}
    none |= {**{name: [] for name in ("user_id", "item_id", "timestamp", "value", "split")}, "_last": None}
    fact = {"head": [4], "relation": ["r"], "tail": [5], "confidence": [1.0], "source": ["s"]}

    def ask(statement: str, parameters: object) -> dict[str, Any]:
        if "(x:Entity)" in statement:
            return nodes
        return fact if "relation IS NOT NULL" in statement else none

    with pytest.raises(StoreUnreachableError, match="names a node that is new; repeat when nobody writes"):
        neo4j_read.read_tables(ask)

"""A query may only read the graph: not write, not reach files or addresses, not change the server."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from db.errors import QueryError
from db.ladybug_store import LadybugConfig, LadybugStore
from db.memory_store import MemoryStore
from db.neo4j_plan import check_plan
from db.neo4j_store import Neo4jConfig, Neo4jStore
from db.store import GraphStore
from tests.db.servers import wiped
from tests.toy import toy_graph

RENAME = "MATCH (e:Entity) WHERE e.entity_id = 'item:1' SET e.name = $name RETURN e.name AS name"


def _plan(operator: str, details: str = "", children: tuple[dict[str, Any], ...] = ()) -> dict[str, Any]:
    return {"operatorType": f"{operator}@neo4j", "args": {"Details": details}, "children": list(children)}


@pytest.mark.parametrize(
    ("inner", "says"),
    [
        (_plan("LoadCSV", "line"), "reads a file or an address of the server"),
        (_plan("TerminateTransactions"), "stops what others run"),
        (_plan("ProcedureCall", "db.clearQueryCaches() :: (value)"), "calls `db.clearQueryCaches`, and queries may"),
        (_plan("ProcedureCall", "apoc.load.json($a) :: (value)"), "calls `apoc.load.json`"),
    ],
)
def test_a_plan_that_reaches_beyond_the_graph(inner: dict[str, Any], says: str) -> None:
    with pytest.raises(QueryError, match=says):
        check_plan(_plan("ProduceResults", children=(_plan("Limit", children=(inner,)),)))


def test_a_plan_that_reads() -> None:
    check_plan(None)
    check_plan(_plan("ProduceResults", children=(_plan("ProcedureCall", "db.labels() :: (label)"), _plan("Expand"))))


@pytest.fixture
def server(neo4j_uri: str) -> Iterator[Neo4jStore]:
    wiped(neo4j_uri)
    with Neo4jStore(Neo4jConfig(uri=neo4j_uri)) as store:
        store.write(toy_graph())
        yield store


@pytest.mark.slow
def test_a_real_server_refuses_what_only_looks_like_reading(server: Neo4jStore) -> None:
    for cypher in (
        "LOAD CSV FROM 'file:///etc/passwd' AS line RETURN line",
        "LOAD CSV FROM 'http://127.0.0.1:1/' AS line RETURN line",
        "CALL () { LOAD CSV FROM 'file:///etc/passwd' AS line RETURN line } RETURN line",
        "RETURN COLLECT { LOAD CSV FROM 'file:///etc/passwd' AS line RETURN line } AS lines",
        "RETURN EXISTS { LOAD CSV FROM 'file:///etc/passwd' AS line RETURN line } AS there",
        "PROFILE LOAD CSV FROM 'file:///etc/passwd' AS line RETURN line",
        "/* a */ PROFILE LOAD CSV FROM 'file:///etc/passwd' AS line RETURN line",
        "CALL db.clearQueryCaches()",
        "CALL `db`.`clearQueryCaches`()",
        "CALL () { CALL db.prepareForReplanning() } RETURN 1 AS one",
        "CALL db.stats.clear('QUERIES')",
        "CALL dbms.killConnections(['bolt-1'])",
        "CALL dbms.listConfig() YIELD name, value RETURN name, value",
        "TERMINATE TRANSACTIONS 'neo4j-transaction-1'",
        "CALL db.createLabel('X')",
        "CREATE INDEX mine FOR (n:X) ON (n.a)",
        "CREATE USER bob SET PASSWORD 'hunter222'",
        "ALTER CURRENT USER SET PASSWORD FROM 'a' TO 'hunter222'",
        "MATCH (n) CALL (n) { SET n.x = 1 } IN TRANSACTIONS",
        "MATCH (n) FOREACH (x IN [1] | SET n.x = x)",
        "MERGE (e:Entity {entity_id: 'new'}) RETURN e",
        "DROP CONSTRAINT kglift_entity IF EXISTS",
        "USE system SHOW DATABASES",
    ):
        with pytest.raises(QueryError):
            server.query(cypher)
    assert server.read().equals(toy_graph())
    assert "Item" in server.query("CALL db.labels() YIELD label RETURN label")["label"].to_pylist()


def test_the_embedded_store_reaches_no_files(tmp_path: Path) -> None:
    store = LadybugStore(LadybugConfig(tmp_path / "graph.lbug"))
    store.write(toy_graph())
    for cypher in (
        "CALL READ_CSV_SERIAL('/etc/passwd') RETURN *",
        "CALL `read_csv_parallel`('/etc/passwd') RETURN *",
        "RETURN 1 AS `'` UNION CALL `READ_CSV_SERIAL`('/etc/passwd') RETURN *",
        "CALL READ_PARQUET('x.parquet') RETURN *",
        "CALL read_npy('x.npy') RETURN *",
        "LOAD FROM '/etc/passwd' RETURN *",
        "load/* */from '/etc/passwd' RETURN *",
        f"COPY (MATCH (e:Entity) RETURN e.name) TO '{tmp_path}/leak.csv'",
        f"PROFILE COPY (MATCH (e:Entity) RETURN e.name) TO '{tmp_path}/leak.csv'",
        f"EXPORT DATABASE '{tmp_path}/leak'",
        "INSTALL httpfs",
        f"ATTACH '{tmp_path}/graph.lbug' AS other (dbtype lbug)",
    ):
        for write in (False, True):
            with pytest.raises(QueryError, match="files outside the store"):
                store.query(cypher, write=write)
    assert [p.name for p in tmp_path.iterdir()] == ["graph.lbug"]
    assert store.query("RETURN 'COPY it' AS `load`")["load"].to_pylist() == ["COPY it"]


@pytest.mark.parametrize("kind", ["memory", "ladybug", pytest.param("neo4j", marks=pytest.mark.slow)])
def test_a_query_with_leave_writes_and_no_more_rows_than_asked_for_come(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    with _store(kind, tmp_path, request) as store:
        store.write(toy_graph())
        assert store.query(RENAME, {"name": "new"}, write=True)["name"].to_pylist() == ["new"]
        assert store.read().names()["item:1"] == "new"
        with pytest.raises(QueryError, match=r"may only read.*--write"):
            store.query(RENAME, {"name": "newer"})
        with pytest.raises(QueryError, match="refused"):
            store.query(f"{RENAME}; {RENAME}", {"name": "newer"}, write=True)
        assert store.read().names()["item:1"] == "new"
        few = store.query("MATCH (e:Entity) RETURN e.entity_id AS id ORDER BY id", max_rows=3)
        assert few["id"].to_pylist() == ["genre:comedy", "genre:drama", "interest:slapstick"]


def _store(kind: str, folder: Path, request: pytest.FixtureRequest) -> GraphStore:
    if kind == "neo4j":
        uri = request.getfixturevalue("neo4j_uri")
        wiped(uri)
        return Neo4jStore(Neo4jConfig(uri=uri))
    return MemoryStore() if kind == "memory" else LadybugStore(LadybugConfig(folder / "graph.lbug"))

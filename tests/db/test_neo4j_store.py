"""What is Neo4j's alone: addresses, passwords, labels and types, values, and clear words for each failure."""

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from db import neo4j_store
from db.errors import QueryError, StoreFormatError, StoreUnreachableError, StoreWriteError
from db.neo4j_connection import check_server
from db.neo4j_store import Neo4jConfig, Neo4jStore
from db.runs import add_run, delete_run
from kg.errors import ConfigError
from kg.graph import Graph
from tests.contracts.store_questions import second_run
from tests.db.servers import wiped
from tests.toy import toy_graph


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"uri": "http://localhost:7474"}, "`http://localhost:7474` is no address of Neo4j"),
        ({"uri": "bolt://127.0.0.1:abc"}, "`bolt://127.0.0.1:abc` is no address of Neo4j"),
        ({"uri": "bolt://127.0.0.1:99999"}, "`bolt://127.0.0.1:99999` is no address of Neo4j"),
        ({"uri": "bolt://neo4j:hunter2@localhost"}, "holds a user or a password"),
        ({"batch_size": 0}, "`batch_size` is 0"),
        ({"n_writers": -1}, "`n_writers` is -1"),
        ({"connect_timeout_s": 0.0}, r"`connect_timeout_s` is 0\.0"),
    ],
)
def test_a_wrong_setting(settings: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        Neo4jConfig(**settings)  # type: ignore[arg-type]
    assert "hunter2" not in str(caught.value)


def test_an_address_with_what_only_a_cluster_takes() -> None:
    with (
        Neo4jStore(Neo4jConfig(uri="bolt://127.0.0.1:7687?x=1")) as store,
        pytest.raises(ConfigError, match=r"`bolt://127\.0\.0\.1:7687\?x=1` is no address of Neo4j"),
    ):
        store.ping()


def test_nobody_answers() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        uri = f"bolt://127.0.0.1:{taken.getsockname()[1]}"
    with Neo4jStore(Neo4jConfig(uri=uri, connect_timeout_s=2), "hunter2") as store:
        for use in (store.ping, store.read, lambda: store.write(toy_graph()), lambda: store.query("RETURN 1 AS x")):
            with pytest.raises(StoreUnreachableError, match=f"no Neo4j answers at {uri}") as caught:
                use()
            assert "hunter2" not in _whole_text(caught.value)


@pytest.mark.parametrize("agent", ["Neo4j/4.4.40", "Neo4j/3.5.1"])
def test_a_server_too_old(agent: str) -> None:
    with pytest.raises(StoreUnreachableError, match=f"{agent}; kglift needs Neo4j 5 or newer"):
        check_server(agent)


@pytest.mark.parametrize("agent", ["Neo4j/5.26.26", "Neo4j/2026.10.0", "Another/1.0"])
def test_a_server_new_enough(agent: str) -> None:
    check_server(agent)


def test_an_interrupt_does_not_wait_for_the_answer(store: Neo4jStore) -> None:
    long = "UNWIND range(1, 100000) AS a UNWIND range(1, 100000) AS b RETURN sum(a * b) AS x"
    store.query("RETURN 1 AS x")
    began = time.monotonic()
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        store.query(long, timeout_s=60.0)
    assert time.monotonic() - began < 10
    running = "SHOW TRANSACTIONS YIELD currentQuery AS text WHERE text STARTS WITH 'UNWIND' RETURN count(*) AS n"
    while store.query(running)["n"].to_pylist() != [0]:
        assert time.monotonic() - began < 30, "the server goes on with what nobody waits for"
        time.sleep(0.2)


@pytest.fixture
def store(neo4j_uri: str) -> Iterator[Neo4jStore]:
    wiped(neo4j_uri)
    with Neo4jStore(Neo4jConfig(uri=neo4j_uri, batch_size=7)) as store:
        yield store


@pytest.mark.slow
def test_the_server_says_its_name(store: Neo4jStore) -> None:
    assert store.ping().startswith("Neo4j/")


@pytest.mark.slow
def test_types_are_labels_and_relations_are_types(store: Neo4jStore) -> None:
    store.write(toy_graph())
    answer = store.query("MATCH (i:Item)-[f:HAS_GENRE]->(g:Genre) RETURN g.name AS genre, count(*) AS n ORDER BY n")
    assert answer.to_pylist() == [{"genre": "drama", "n": 2}, {"genre": "comedy", "n": 3}]
    labels = store.query("CALL db.labels() YIELD label MATCH (n) WHERE label IN labels(n) RETURN DISTINCT label")
    assert {"User", "Item", "Genre", "Hyperedge", "Source", "Text", "Feature"} <= set(labels["label"].to_pylist())


@pytest.mark.slow
def test_a_new_type_takes_the_old_label_away(store: Neo4jStore) -> None:
    for kind in ("Mood", "Feeling", "Feeling"):
        store.write(Graph.from_rows(entities=[{"entity_id": "m", "type": kind, "name": "m"}]))
    found = store.query("MATCH (e:Entity) RETURN [l IN labels(e) WHERE l <> 'Entity'] AS labels, e.type AS type")
    assert found.to_pylist() == [{"labels": ["Feeling"], "type": "Feeling"}]


@pytest.mark.slow
def test_another_version_is_refused(store: Neo4jStore) -> None:
    store.write(toy_graph())
    with store._connection.session("WRITE") as session:
        session.run("MATCH (s:KgliftStore) SET s.version = 99").consume()
    reads = (store.read, lambda: store.query("RETURN 1 AS x"), lambda: store.neighbours("item:1"))
    for use in (*reads, lambda: store.write(toy_graph()), lambda: store.delete("llm:aaaa")):
        with pytest.raises(StoreFormatError, match="store version 99, this kglift reads 2"):
            use()


@pytest.mark.slow
def test_a_row_the_server_refuses(store: Neo4jStore) -> None:
    store.write(toy_graph())
    too_long = Graph.from_rows(entities=[{"entity_id": "x" * 9_000, "type": "T", "name": "n"}])
    with pytest.raises(StoreWriteError, match="too large to index"):
        store.write(too_long)
    assert store.read().equals(toy_graph())


@pytest.mark.slow
def test_values_of_every_kind_become_columns(store: Neo4jStore) -> None:
    store.write(toy_graph())
    row = store.query(
        "MATCH path = (i:Entity {entity_id: 'item:6'})-[f:HAS_GENRE]->(g) "
        "RETURN i AS node, f AS fact, length(path) AS n, path, date('2026-01-31') AS day, [1, null] AS list"
    ).to_pylist()[0]
    assert row["node"]["_labels"] == ["Entity", "Item"]
    assert row["fact"]["_type"] == "HAS_GENRE"
    assert [node["entity_id"] for node in row["path"]["nodes"]] == ["item:6", "genre:drama"]
    assert (row["n"], row["day"].isoformat(), row["list"]) == (1, "2026-01-31", [1, None])
    mixed = store.query("UNWIND [1, 'a', null, [2]] AS x RETURN x")
    assert mixed["x"].to_pylist() == ["1", '"a"', None, "[2]"]


@pytest.mark.slow
@pytest.mark.parametrize("password", ["wrong-hunter2", None])
def test_a_wrong_password(locked_neo4j: tuple[str, str], password: str | None) -> None:
    uri, right = locked_neo4j
    with (
        Neo4jStore(Neo4jConfig(uri=uri), password) as store,
        pytest.raises(StoreUnreachableError, match="does not let user `neo4j` in") as caught,
    ):
        store.read()
    assert "hunter2" not in _whole_text(caught.value)
    with Neo4jStore(Neo4jConfig(uri=uri), right) as store:
        assert store.ping().startswith("Neo4j/")


@pytest.mark.slow
def test_a_wrong_database(store: Neo4jStore) -> None:
    with (
        Neo4jStore(Neo4jConfig(uri=store.config.uri, database="films")) as other,
        pytest.raises(StoreUnreachableError, match="has no database `films`; correct NEO4J_DATABASE"),
    ):
        other.read()


@pytest.mark.slow
def test_a_store_that_vanished_says_so(store: Neo4jStore) -> None:
    store.write(toy_graph())
    wiped(store.config.uri)
    with pytest.raises(StoreFormatError, match="holds no kglift store; write a graph first"):
        store.read()
    with pytest.raises(QueryError, match="refused"):
        store.query("CALL apoc.help('x')")


def _whole_text(error: BaseException | None) -> str:
    texts = []
    while error is not None:
        texts.append(f"{error!r} {error}")
        error = error.__cause__ or error.__context__
    return " ".join(texts)


@pytest.mark.slow
def test_a_source_larger_than_a_batch_is_deleted_whole(store: Neo4jStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("db.neo4j_store._DELETED_AT_ONCE", 3)
    store.write(toy_graph())
    assert store.delete("dataset:toy", "llm:bbbb") == 14
    left = store.read()
    assert [row["source"] for row in left.triples.to_pylist()] == ["llm:aaaa"] * 2
    assert (len(left.hyperedges), len(left.members), len(left.sources)) == (0, 0, 2)


@pytest.mark.slow
@pytest.mark.parametrize("n_statements", [3, 4, 5, 6, 7, 8, 9])
def test_a_deletion_that_was_broken_off_still_finds_the_orphans(
    store: Neo4jStore, monkeypatch: pytest.MonkeyPatch, n_statements: int
) -> None:
    store.write(toy_graph())
    add_run(store, "second", second_run())
    monkeypatch.setattr("db.neo4j_store._DELETED_AT_ONCE", 1)
    left = iter(range(n_statements))

    def broken_off(*arguments: Any) -> int:
        if next(left, None) is None:
            msg = "broken off"
            raise RuntimeError(msg)
        return whole(*arguments)

    with monkeypatch.context() as patched:
        whole = neo4j_store._only
        patched.setattr(neo4j_store, "_only", broken_off)
        with pytest.raises(RuntimeError, match="broken off"):
            delete_run(store, "second")
    if n_statements == 8:  # three that count, five for four facts: each orphan goes with its last fact, not before
        assert len(store.read().entities) == len(toy_graph().entities) + 2
    delete_run(store, "second")
    assert store.read().equals(toy_graph())


@pytest.mark.slow
def test_a_load_that_was_broken_off_does_not_count_on_what_was_deleted_since(store: Neo4jStore) -> None:
    for change in (
        lambda: store.delete("llm:aaaa"),
        lambda: store.query("MATCH (s:Source) DETACH DELETE s", write=True),
    ):
        store.write(toy_graph())
        store.query("CREATE (:KgliftBatch {batch: 'b', load: 'l'})", write=True)
        change()
        assert store.query("MATCH (b:KgliftBatch) RETURN count(*) AS n")["n"].to_pylist() == [0]

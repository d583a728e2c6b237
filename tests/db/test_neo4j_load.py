"""Loading into Neo4j: without deadlocks, repeatable, through broken connections and past rows that it refuses."""

import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import neo4j
import numpy as np
import pyarrow as pa
import pytest
from neo4j.exceptions import ClientError, ResultFailedError

from db.batches import Batch
from db.errors import RowsRefusedError, StoreUnreachableError, StoreWriteError
from db.neo4j_connection import Neo4jConnection
from db.neo4j_load import _PAUSE_S, _bisect, _commit, _commit_in_turn, _run, _write_rows
from db.neo4j_statements import Group
from db.neo4j_store import Neo4jConfig, Neo4jStore
from kg.graph import Graph
from tests.db.fake_bolt import silent_server
from tests.db.proxy import COMMIT, Proxy
from tests.db.servers import wiped
from tests.toy import toy_graph

pytestmark = pytest.mark.slow


@pytest.fixture
def store(neo4j_uri: str) -> Iterator[Neo4jStore]:
    wiped(neo4j_uri)
    with Neo4jStore(Neo4jConfig(uri=neo4j_uri, batch_size=7, retry_for_s=60)) as store:
        yield store


def dense_graph(n_nodes: int, n_triples: int, seed: int = 0) -> Graph:
    """Draw a graph in which every node has many neighbours: what parallel writers stumble over."""
    chance = np.random.default_rng(seed)
    keys = np.unique(chance.integers(0, n_nodes * n_nodes, n_triples))
    return Graph.from_rows(
        entities=[{"entity_id": f"e{i}", "type": f"Type{i % 3}", "name": f"{i}"} for i in range(n_nodes)],
        triples=[
            {"head": f"e{k // n_nodes}", "relation": "r", "tail": f"e{k % n_nodes}", "confidence": 0.5, "source": "s"}
            for k in keys
        ],
        sources=[{"source": "s", "kind": "rule"}],
    )


def test_four_writers_meet_no_deadlock(neo4j_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = dense_graph(300, 6_000)
    wiped(neo4j_uri)
    monkeypatch.setattr("db.neo4j_load._pauses", lambda retry_for_s: [])
    with (
        Neo4jStore(Neo4jConfig(uri=neo4j_uri, batch_size=250, n_writers=4)) as store,
    ):
        store.write(graph)
        store.write(graph)
        assert store.read().equals(graph)


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_commit_of_unknown_outcome_is_repeated(store: Neo4jStore, moment: str) -> None:
    seen: list[bytes] = []

    def cuts(data: bytes) -> str | None:
        if COMMIT not in data:
            return None
        seen.append(data)
        return moment if len(seen) % 3 == 0 else None

    with Proxy(store.config.uri, cuts) as proxy:
        config = Neo4jConfig(uri=proxy.uri, batch_size=4, n_writers=1, retry_for_s=60)
        with Neo4jStore(config) as through:
            through.write(toy_graph())
            through.write(toy_graph())
    assert len(seen) > 40
    assert store.read().equals(toy_graph())


def test_a_connection_that_is_cut_again_and_again(store: Neo4jStore) -> None:
    sent, lock = 0, threading.Lock()

    def cuts(data: bytes) -> str | None:
        nonlocal sent
        with lock:
            sent += 1
            return ("before", "after")[sent // 23 % 2] if sent % 23 == 0 else None

    with Proxy(store.config.uri, cuts) as proxy, Neo4jStore(Neo4jConfig(uri=proxy.uri, batch_size=5)) as through:
        for _ in range(20):
            try:
                through.write(toy_graph())
                break
            except StoreUnreachableError:  # cut where a load begins, before there is something to repeat
                continue
    assert sent > 50
    assert store.read().equals(toy_graph())


@pytest.mark.parametrize("hangs", [False, True])
def test_ctrl_c_while_the_server_does_not_answer(
    store: Neo4jStore, monkeypatch: pytest.MonkeyPatch, hangs: bool
) -> None:
    monkeypatch.setattr("db.neo4j_load._LAST_BATCHES_S", 1.0)
    gone, over, pressed = threading.Event(), threading.Event(), 0.0

    def cuts(data: bytes) -> str | None:
        if gone.is_set() and hangs:
            over.wait(60)
        return "before" if gone.is_set() else None

    def press() -> None:
        nonlocal pressed
        gone.set()
        time.sleep(4)
        pressed = time.monotonic()
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    def begin(done: int, total: int, note: str = "") -> None:
        if done > 40 and not gone.is_set():
            threading.Thread(target=press).start()
            gone.wait()

    with Proxy(store.config.uri, cuts) as proxy:
        with (
            Neo4jStore(replace(store.config, uri=proxy.uri, connect_timeout_s=1)) as through,
            pytest.raises(KeyboardInterrupt),
        ):
            through.write(toy_graph(), begin)
        assert pressed > 0
        assert time.monotonic() - pressed < 8
        over.set()
    store.write(toy_graph())
    assert store.read().equals(toy_graph())


def test_a_load_goes_on_after_what_the_ledger_says(store: Neo4jStore, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(KeyboardInterrupt):
        store.write(toy_graph(), _stop_at(40))
    written = _count(store, "KgliftBatch")
    assert written > 5
    sent: list[int] = []
    monkeypatch.setattr("db.neo4j_load._write_rows", _counted(sent))
    store.write(toy_graph())
    assert store.read().equals(toy_graph())
    assert 0 < sum(sent) <= sum(toy_graph().counts().values()) - 40 + 7
    assert _count(store, "KgliftBatch") == 0


def test_what_others_did_meanwhile_is_overwritten(store: Neo4jStore) -> None:
    with pytest.raises(KeyboardInterrupt):
        store.write(toy_graph(), _stop_at(60))
    store.delete("llm:bbbb", "llm:aaaa", "dataset:toy")
    store.write(toy_graph())
    assert store.read().equals(toy_graph())
    with pytest.raises(KeyboardInterrupt):
        store.write(toy_graph(), _stop_at(60))
    renamed = Graph.from_rows(entities=[{"entity_id": "item:1", "type": "Item", "name": "another"}])
    store.write(renamed)
    store.write(toy_graph())
    assert store.read().equals(toy_graph())


def test_refused_rows_are_found_and_the_rest_is_loaded(store: Neo4jStore) -> None:
    too_long = "x" * 9_000
    whole = dense_graph(20, 60)
    bad = Graph.from_rows(
        entities=[{"entity_id": too_long, "type": "Type0", "name": "n"}, {"entity_id": "ok", "type": "T", "name": "n"}],
        triples=[
            {"head": "ok", "relation": "r", "tail": too_long, "confidence": 1.0, "source": "t"},
            {"head": "ok", "relation": "r", "tail": "ok", "confidence": 1.0, "source": "t"},
        ],
        sources=[{"source": "t", "kind": "rule"}],
    )
    tables = {name: pa.concat_tables([rows, bad.tables()[name]]) for name, rows in whole.tables().items()}
    graph = Graph.from_tables(**tables)
    with pytest.raises(RowsRefusedError, match=r"refused 2 of \d+ rows; all others.*too large to index") as caught:
        store.write(graph)
    assert [(r.table, r.reason[:26]) for r in caught.value.refused] == [
        ("entities", "Property value is too larg"),
        ("triples", "its tail was refused"),
    ]
    assert len(str(caught.value)) < 1_500
    rest = store.read()
    assert (len(rest.entities), len(rest.triples)) == (21, len(graph.triples) - 1)


def test_a_load_that_is_refused_altogether_is_given_up(store: Neo4jStore) -> None:
    bad = [{"entity_id": "x" * 9_000 + str(i), "type": "T", "name": "n"} for i in range(300)]
    with pytest.raises(StoreWriteError, match=r"refused 1\d\d of 300 rows.*given up"):
        store.write(Graph.from_rows(entities=bad))


def test_what_made_a_result_fail_is_what_is_raised() -> None:
    def work(tx: object) -> None:
        raise ResultFailedError(None, "The result has failed.") from ClientError("Property value is too large")

    session: Any = SimpleNamespace(execute_write=lambda work, *arguments: work(None, *arguments))
    with pytest.raises(ClientError, match="Property value is too large"):
        _commit_in_turn(session, threading.Lock(), work)


def test_a_server_that_falls_silent_is_asked_again_after_the_time_that_it_named() -> None:
    begun = list[int]()
    with silent_server(begun, patience_s=2) as address:
        connection = Neo4jConnection(Neo4jConfig(uri=f"bolt://{address}", retry_for_s=60))
        with connection.session(neo4j.WRITE_ACCESS) as session:
            _commit(session, _run, "MERGE (n)")
        connection.close()
    assert len(begun) == 2


def test_the_server_gets_a_pause_after_every_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    refusals, pauses = list[object](), list[float]()
    refusal = ClientError("Property value is too large")
    monkeypatch.setattr(type(refusal), "code", "Neo.ClientError.Statement.ExecutionFailed")
    monkeypatch.setattr("db.neo4j_load.time.sleep", pauses.append)

    def refuse(work: object, *arguments: object) -> None:
        refusals.append(work)
        raise refusal

    rows = pa.table({"entity_id": ["a", "b", "c", "d"]})
    batch = Batch((Group("entities", "no statement", rows),))
    session: Any = SimpleNamespace(execute_write=refuse)
    refused = list(_bisect(session, threading.Lock(), batch, refusal))
    assert [r.row["entity_id"] for r in refused] == ["a", "b", "c", "d"]
    assert pauses == [_PAUSE_S] * (len(refusals) + 1)  # the first refusal was that of the whole batch


def test_an_error_that_is_about_no_row_is_not_bisected(store: Neo4jStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.write(toy_graph())
    monkeypatch.setattr("db.neo4j_load._ABOUT_ROWS", ("Neo.ClientError.Nothing",))
    with pytest.raises(StoreWriteError, match="the write was refused: Property value is too large"):
        store.write(Graph.from_rows(entities=[{"entity_id": "x" * 9_000, "type": "T", "name": "n"}]))


def test_nodes_that_vanish_meanwhile_are_said(store: Neo4jStore) -> None:
    def delete_all(done: int, total: int | None, note: str = "") -> None:
        if note == "entities":
            with neo4j.GraphDatabase.driver(store.config.uri) as driver:
                driver.execute_query("MATCH (e:Entity) DETACH DELETE e", database_="neo4j")

    with pytest.raises(StoreWriteError, match=r"only 0 of \d interactions found their nodes"):
        store.write(toy_graph(), delete_all)


def _stop_at(rows: int):
    def progress(done: int, total: int | None, note: str = "") -> None:
        if done >= rows:
            raise KeyboardInterrupt

    return progress


def _counted(sent: list[int]):
    def write(tx, part, values) -> None:
        sent.append(len(part.rows))
        _write_rows(tx, part, values)

    return write


def _count(store: Neo4jStore, label: str) -> int:
    return int(store.query(f"MATCH (n:{label}) RETURN count(*) AS n")["n"][0].as_py())

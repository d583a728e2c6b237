"""Nothing that is stored or given becomes Cypher, the password goes nowhere, and each refusal is one clear line."""

import logging
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from db.errors import QueryError, StoreUnreachableError, StoreWriteError
from db.ladybug_store import LadybugConfig, LadybugStore
from db.neo4j_store import Neo4jConfig, Neo4jStore
from db.queries import load_query, saved_queries
from db.runs import add_run, delete_run, list_runs
from db.store import GraphStore
from kg.graph import Graph, concat
from tests.db.fake_bolt import answering, fake_server, tls_in_front_of
from tests.db.injections import INJECTIONS
from tests.db.servers import wiped
from tests.toy import toy_graph

PARAMETERS = ("entity_id", "user_id", "item_id", "model", "relation", "before", "after")
COUNTS = "MATCH (n) WITH count(*) AS nodes OPTIONAL MATCH ()-[r]->() RETURN nodes, count(r) AS edges"


@pytest.fixture(params=[pytest.param(name, marks=pytest.mark.slow) for name in ("ladybug", "neo4j")])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[GraphStore]:
    if request.param == "neo4j":
        uri = request.getfixturevalue("neo4j_uri")
        wiped(uri)
        store: GraphStore = Neo4jStore(Neo4jConfig(uri=uri))
    else:
        store = LadybugStore(LadybugConfig(tmp_path / "graph.lbug"))
    with store:
        yield store


def injected() -> Graph:
    """Put each string into every place of a graph where a string can be."""
    ids = [f"{n}:{text}" for n, text in enumerate(INJECTIONS)]
    pairs = list(zip(ids, INJECTIONS, strict=True))
    return Graph.from_rows(
        entities=[
            *({"entity_id": i, "type": text, "name": text, "text": text} for i, text in pairs),
            *({"entity_id": f"u{i}", "type": "User", "name": text} for i, text in pairs),
            *({"entity_id": f"i{i}", "type": "Item", "name": text} for i, text in pairs),
        ],
        interactions=[{"user_id": f"u{i}", "item_id": f"i{i}", "split": "train"} for i in ids],
        triples=[
            {"head": i, "relation": text, "tail": ids[0], "confidence": 0.5, "source": f"s{i}"} for i, text in pairs
        ],
        hyperedges=[{"hyperedge_id": f"h{i}", "relation": t, "weight": 1.0, "source": f"s{i}"} for i, t in pairs],
        members=[{"hyperedge_id": f"h{i}", "entity_id": i, "role": text, "position": 0} for i, text in pairs],
        texts=[{"entity_id": i, "kind": text, "text": text, "source": f"s{i}"} for i, text in pairs],
        features=[{"entity_id": i, "kind": text, "vector": [0.5]} for i, text in pairs],
        sources=[
            {"source": f"s{i}", "kind": "llm", "model": t, "prompt": t, "unit": t, "quote": t, "reply": t}
            for i, t in pairs
        ],
    )


def test_there_are_enough_of_them() -> None:
    assert len(set(INJECTIONS)) >= 150


def test_injections_are_stored_as_data(store: GraphStore) -> None:
    graph = concat(toy_graph(), injected())
    add_run(store, INJECTIONS[0], graph)
    assert store.read().equals(graph)
    counts = store.query(COUNTS).to_pylist()
    for text in INJECTIONS[::12]:
        assert store.neighbours(text).num_rows == 0
        assert store.delete(text) == 0
        assert delete_run(store, text + " ") == 0
    assert store.delete(f"s5:{INJECTIONS[5]}") == 3
    assert list(list_runs(store)) == [INJECTIONS[0]]
    assert counts[0]["nodes"] - store.query(COUNTS)["nodes"][0].as_py() == 3
    assert store.query("MATCH (e:Entity) RETURN count(*) AS n")["n"].to_pylist() == [20 + 3 * len(INJECTIONS)]


def test_injections_are_values_of_parameters(store: GraphStore) -> None:
    store.write(toy_graph())
    asked = [load_query(name) for name in saved_queries() if "$" in load_query(name)]
    ask = "UNWIND $texts AS text OPTIONAL MATCH (e:Entity) WHERE e.entity_id = text RETURN text, count(e) AS n"
    answer = store.query(ask, {"texts": INJECTIONS})
    assert dict(zip(answer["text"].to_pylist(), answer["n"].to_pylist(), strict=True)) == dict.fromkeys(INJECTIONS, 0)
    for place, text in enumerate(INJECTIONS):
        cypher = asked[place % len(asked)]
        given = {name: text for name in PARAMETERS if f"${name}" in cypher}
        given |= {name: 1 for name in ("limit", "gap", "below") if f"${name}" in cypher}
        if any(name in given for name in PARAMETERS):
            assert store.query(cypher, given).num_rows == 0
    assert store.read().equals(toy_graph())


def test_injections_are_no_queries_and_no_names_of_queries(store: GraphStore) -> None:
    store.write(toy_graph())
    for text in INJECTIONS:
        with pytest.raises(QueryError):
            load_query(text)
        with pytest.raises(QueryError):
            store.query(text)
    assert store.read().equals(toy_graph())


@pytest.mark.parametrize(
    ("agent", "bolt", "says"),
    [
        ("Neo4j/4.4.40", (5, 4), "the server is Neo4j/4.4.40; kglift needs Neo4j 5 or newer"),
        ("Neo4j/4.4.40", (4, 4), "do not fit .*4.4.*; kglift needs Neo4j 5.7 or newer"),
        ("Neo4j/3.5.1", (0, 0), "do not fit .*; kglift needs Neo4j 5.7 or newer"),
    ],
)
def test_a_server_too_old_is_one_clear_line(agent: str, bolt: tuple[int, int], says: str) -> None:
    with (
        fake_server(agent, bolt=bolt) as address,
        Neo4jStore(Neo4jConfig(uri=f"bolt://{address}", connect_timeout_s=5), "hunter2") as store,
        pytest.raises(StoreUnreachableError, match=says) as caught,
    ):
        store.ping()
    assert "\n" not in str(caught.value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "code", ["Neo.ClientError.Security.Forbidden", "Neo.ClientError.General.WriteOnReadOnlyAccessDatabase"]
)
def test_a_user_who_may_only_read_is_told_so(code: str) -> None:
    says = "no right to it; user `reader` has no right to it, ask for it or set another NEO4J_USER"
    with (
        fake_server("Neo4j/5.26.0", refuse_with=code) as address,
        Neo4jStore(Neo4jConfig(uri=f"bolt://{address}", user="reader"), "hunter2") as store,
    ):
        writes: list[tuple[Callable[[], object], type[Exception]]] = [
            (lambda: store.query("CREATE (:X)", write=True), QueryError),
            (lambda: store.write(toy_graph()), StoreWriteError),
        ]
        for write, error in writes:
            with pytest.raises(error, match=says):
                write()


@pytest.mark.parametrize(
    ("text", "says"), [(b"HTTP/1.1 400 Bad Request\r\n", "looks like HTTP"), (b"", "no Neo4j answers")]
)
def test_what_is_no_neo4j_is_named(text: bytes, says: str) -> None:
    with (
        answering(text) as address,
        Neo4jStore(Neo4jConfig(uri=f"bolt://{address}", connect_timeout_s=5), "hunter2") as store,
        pytest.raises(StoreUnreachableError, match=says) as caught,
    ):
        store.ping()
    assert "hunter2" not in str(caught.value)


@pytest.mark.slow
def test_the_password_is_in_no_log_no_error_and_no_text_of_an_object(
    locked_neo4j: tuple[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    uri, password = locked_neo4j
    caplog.set_level(logging.DEBUG)
    with Neo4jStore(Neo4jConfig(uri=uri), password) as store:
        store.write(toy_graph())
        with pytest.raises(QueryError) as caught:
            store.query("MATCH (n) WHERE n.x = $missing RETURN n")
        shown = [repr(store), repr(store.config), repr(vars(store)), str(caught.value), repr(caught.value.__cause__)]
    assert "HELLO" in caplog.text
    assert password not in caplog.text
    assert all(password not in text for text in shown)


@pytest.mark.slow
def test_a_server_behind_tls_answers_and_an_unknown_certificate_is_refused(neo4j_uri: str, tmp_path: Path) -> None:
    pem = tmp_path / "server.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
    try:
        made = subprocess.run([*command, "-keyout", "-", "-out", "-"], capture_output=True, text=True, check=True)
    except FileNotFoundError:
        pytest.skip("no `openssl` to make a certificate with")
    pem.write_text(made.stdout)
    wiped(neo4j_uri)
    with tls_in_front_of(int(neo4j_uri.rpartition(":")[2]), str(pem)) as address:
        with Neo4jStore(Neo4jConfig(uri=f"bolt+ssc://{address}")) as store:
            store.write(toy_graph())
            assert store.read().equals(toy_graph())
        with (
            Neo4jStore(Neo4jConfig(uri=f"bolt+s://{address}", connect_timeout_s=5)) as store,
            pytest.raises(StoreUnreachableError, match=r"signed by nobody this machine trusts; trust it, or use \+ssc"),
        ):
            store.ping()


@pytest.mark.parametrize("scheme", ["bolt", "bolt+s", "bolt+ssc", "neo4j", "neo4j+s", "neo4j+ssc"])
def test_every_scheme_is_taken(scheme: str) -> None:
    assert Neo4jConfig(uri=f"{scheme}://graph.example:7687").uri.startswith(scheme)

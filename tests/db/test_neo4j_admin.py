"""The real bulk importer, dump and restore: the same graph as over Bolt, and nothing replaced unasked."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from neo4j.exceptions import DriverError
from pyarrow import csv

from db import server
from db.errors import StoreFormatError, StoreUnreachableError, StoreWriteError
from db.neo4j_admin import Home, _refuse_unless_empty, bulk_load, dump, empty, restore
from db.neo4j_csv import write_csv
from db.neo4j_store import Neo4jConfig, Neo4jStore
from kg.graph import Graph, concat
from tests.contracts.store import hostile_graph
from tests.db.servers import FAST_START, wiped
from tests.toy import toy_graph

EVERYTHING = (
    "MATCH (n) RETURN labels(n) AS what, properties(n) AS has",
    "MATCH (a)-[r]->(b) RETURN type(r) AS what, properties(r) AS has, properties(a) AS a, properties(b) AS b",
)


def odd_graph() -> Graph:
    """Return the toy graph with what CSV has no word for: nulls beside empty texts, no numbers, infinities."""
    odd = Graph.from_rows(
        entities=[
            {"entity_id": "user:1", "type": "User", "name": "1", "text": None},
            {"entity_id": "item:1", "type": "Item", "name": "1", "text": "Film item:1."},
            {"entity_id": "o:1", "type": "Odd", "name": "", "text": ""},
            {"entity_id": "o:2", "type": "Odd", "name": 'a "b"; c,\r\n', "text": "x" * 2_000_000},
        ],
        features=[{"entity_id": "o:1", "kind": "k", "vector": []}, {"entity_id": "o:2", "kind": "k", "vector": [0.1]}],
        hyperedges=[{"hyperedge_id": "h", "relation": "r", "weight": 1e300, "source": "s"}],
        members=[{"hyperedge_id": "h", "entity_id": "o:1", "role": "r", "position": p} for p in (None, 0, -(2**31))],
        sources=[{"source": "s", "kind": "llm", "tokens": -(2**63), "shown": [], "reply": ""}],
    )
    infinite = toy_graph().interactions.slice(0, 2)
    values = pa.array([float("inf"), None])
    unusual = infinite.set_column(infinite.schema.get_field_index("value"), infinite.schema.field("value"), values)
    toy = toy_graph()
    toy = toy.replace(interactions=pa.concat_tables([unusual, toy.interactions.slice(2)]))
    return concat(toy, odd)


def unusual_interactions() -> pa.Table:
    """Return interactions with all the values that CSV has no numbers for."""
    interactions = toy_graph().interactions.slice(0, 5)
    values = pa.array([float("nan"), float("inf"), float("-inf"), None, 0.5])
    column = interactions.schema.get_field_index("value")
    return interactions.set_column(column, interactions.schema.field("value"), values)


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    jars = server.default_home() / "lib"
    if lacking := server.missing_tools(jars=jars):
        pytest.skip(lacking)
    yield Home(tmp_path / "home", jars, java_options=FAST_START)
    server.stop(tmp_path / "home")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_bulk_dump_and_restore(home: Home, neo4j_uri: str, tmp_path: Path) -> None:
    graph = odd_graph()
    running = home.start()
    bulk_load(home, graph)
    wiped(neo4j_uri)
    with Neo4jStore(Neo4jConfig(uri=running.bolt_uri)) as bulk, Neo4jStore(Neo4jConfig(uri=neo4j_uri)) as bolt:
        bolt.write(graph)
        assert bulk.read().equals(graph)
        for cypher in EVERYTHING:
            assert _rows(bulk, cypher) == _rows(bolt, cypher)
        constraints = "SHOW CONSTRAINTS YIELD name RETURN name ORDER BY name"
        assert _rows(bulk, constraints) == _rows(bolt, constraints)
        bulk.write(graph)
        assert bulk.read().equals(graph)
    dump(home, tmp_path / "kept.dump")
    with pytest.raises(StoreWriteError, match="is not empty, and this would replace it; load it without --bulk"):
        bulk_load(home, hostile_graph())
    with pytest.raises(StoreWriteError, match="is not empty, and this would replace it; give --overwrite"):
        restore(home, tmp_path / "kept.dump")
    (tmp_path / "cut.dump").write_bytes((tmp_path / "kept.dump").read_bytes()[:-100])
    with pytest.raises(StoreFormatError, match=r"cut\.dump` was not restored: .*; the database is as it was"):
        restore(home, tmp_path / "cut.dump", overwrite=True)
    with Neo4jStore(Neo4jConfig(uri=running.bolt_uri)) as store:
        assert store.read().equals(graph)
    wiped(running.bolt_uri)
    restore(home, tmp_path / "kept.dump", overwrite=True)
    with Neo4jStore(Neo4jConfig(uri=running.bolt_uri)) as store:
        assert store.read().equals(graph)
    assert [p.name for p in home.folder.iterdir() if p.name.startswith(("unfinished-", "whole"))] == []


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_bulk_load_of_hostile_strings_and_an_import_that_failed(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("db.neo4j_admin.write_csv", lambda graph, folder: ["--nodes=Nothing=/nowhere.csv"])
    with pytest.raises(StoreWriteError, match=r"database import ended with \d+: .*nowhere"):
        bulk_load(home, toy_graph())
    monkeypatch.undo()
    longest = Graph.from_rows(entities=[{"entity_id": "\u00e9" * 4_082, "type": "T", "name": "n"}])
    graph = concat(hostile_graph(), longest, toy_graph().replace(interactions=unusual_interactions()))
    monkeypatch.setattr("db.neo4j_admin.constrain", refused)
    with pytest.raises(StoreWriteError, match="the server refused: no such constraint"):
        bulk_load(home, graph)
    monkeypatch.undo()
    bulk_load(home, graph)
    with Neo4jStore(Neo4jConfig(uri=home.start().bolt_uri)) as store:
        read = store.read()
        assert store.query("MATCH ()-[x]->() WHERE x.value <> x.value RETURN count(*) AS n")["n"].to_pylist() == [1]
    assert len(read.interactions) == len(graph.interactions)
    none = graph.interactions.slice(0, 0)  # NaN equals nothing
    assert read.replace(interactions=none).equals(graph.replace(interactions=none))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_killed_restore_or_import_changes_nothing(home: Home, tmp_path: Path) -> None:
    bulk_load(home, toy_graph())
    dump(home, tmp_path / "kept.dump")
    port = home.start().bolt_port
    call = f"restore(home, Path({str(tmp_path / 'kept.dump')!r}), overwrite=True)"
    killed(home, call, signal.SIGTERM)
    running = home.start(port)
    assert [path.name for path in home.folder.iterdir() if path.name.startswith(("unfinished-", "whole"))] == []
    with Neo4jStore(Neo4jConfig(uri=running.bolt_uri)) as store:
        assert store.read().equals(toy_graph())
    empty(home)
    killed(home, "bulk_load(home, toy_graph())", signal.SIGKILL)
    restore(home, tmp_path / "kept.dump")
    with pytest.raises(StoreWriteError, match="is not empty, and this would replace it.*db server empty --home"):
        bulk_load(home, hostile_graph())
    with Neo4jStore(Neo4jConfig(uri=home.start().bolt_uri)) as store:
        assert store.read().equals(toy_graph())


def killed(home: Home, call: str, how: signal.Signals) -> None:
    """Kill a process in which neo4j-admin works on the databases of a home."""
    code = (
        "from pathlib import Path\nfrom db.neo4j_admin import Home, bulk_load, restore\n"
        "from tests.toy import toy_graph\n"
        f"home = Home(Path({str(home.folder)!r}), Path({str(home.jars)!r}), java_options={home.java_options!r})\n"
        f"{call}\n"
    )
    with subprocess.Popen([sys.executable, "-c", code]) as process:
        while not [*home.folder.glob("unfinished-*/data/databases/neo4j")]:
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(how)
    assert process.returncode == -how


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("asks", [True, False])
def test_the_tools_let_a_server_ask_for_a_password_as_it_did(home: Home, tmp_path: Path, asks: bool) -> None:
    own = replace(home, password="s3cret-w0rd" if asks else None)
    running = own.start()
    other = replace(home, password=None if asks else "of-0ther-server")
    dump(other, tmp_path / "kept.dump")
    assert home.start().auth is asks
    restore(replace(home, password="of-0ther-server"), tmp_path / "kept.dump", overwrite=True)
    with Neo4jStore(Neo4jConfig(uri=running.bolt_uri), own.password) as store:
        store.write(toy_graph())
    if asks:
        with (
            Neo4jStore(Neo4jConfig(uri=running.bolt_uri)) as stranger,
            pytest.raises(StoreUnreachableError, match="wrong user or password"),
        ):
            stranger.ping()
    server.stop(home.folder)
    with pytest.raises((StoreWriteError, StoreUnreachableError), match="is not empty|wrong user or password"):
        restore(other, tmp_path / "kept.dump")
    assert replace(own, password=None).start(auth=asks).auth is asks
    with Neo4jStore(Neo4jConfig(uri=home.start().bolt_uri), own.password) as store:
        assert store.read().equals(toy_graph())


@pytest.mark.parametrize("table", ["entities", "hyperedges", "sources"])
def test_ids_too_long_for_an_index_are_named_before_the_import(tmp_path: Path, table: str) -> None:
    long = "\u00e9" * 4_083
    source = long if table == "sources" else "s"
    graph = Graph.from_rows(
        entities=[{"entity_id": long if table == "entities" else "e", "type": "T", "name": "n"}],
        hyperedges=[
            {"hyperedge_id": long if table == "hyperedges" else "h", "relation": "r", "weight": 1.0, "source": source}
        ],
        sources=[{"source": source, "kind": "llm"}],
    )
    says = rf"1 ids are longer than the 8,164 bytes .*`{table} \u00e9{{40}}\.\.\. \(8,166 bytes\)`; shorten them"
    with pytest.raises(StoreWriteError, match=says):
        bulk_load(Home(tmp_path / "home"), graph)
    assert not (tmp_path / "home").exists()


def refused(*_: object) -> None:
    raise DriverError("no such constraint")


def test_a_tool_that_fails_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    java = tmp_path / "java"
    java.write_text(
        "#!/bin/sh\necho 'openjdk version \"17.0.1\"' >&2\n"
        "echo 'at x.Y' >&2; echo 'Caused by: no space left' >&2\nexit 3\n"
    )
    java.chmod(0o755)
    (tmp_path / "lib").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    home = Home(tmp_path / "home", tmp_path / "lib")
    with pytest.raises(StoreWriteError, match="database import ended with 3: Caused by: no space left"):
        bulk_load(home, toy_graph())
    assert sorted(p.name for p in home.folder.iterdir()) == ["conf", "lock"]
    (tmp_path / "a.dump").write_text("no dump")
    with pytest.raises(StoreFormatError, match=r"a\.dump` was not restored: .*no space left"):
        restore(home, tmp_path / "a.dump")
    (home.folder / "data" / "databases" / "neo4j").mkdir(parents=True)
    with pytest.raises(StoreWriteError, match="database dump ended with 3"):
        dump(home, tmp_path / "b.dump")
    assert not (tmp_path / "b.dump").exists()


def test_an_importer_does_not_outlive_a_failure_to_write_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    java = tmp_path / "java"
    started = tmp_path / "started"
    java.write_text(
        '#!/bin/sh\nif [ "$1" = -version ]; then echo \'openjdk version "17.0.1"\' >&2; exit; fi\n'
        f"echo $$ > {started}.new; mv {started}.new {started}; exec cat\n"
    )
    java.chmod(0o755)
    (tmp_path / "lib").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")

    def no_space(graph: Graph, folder: Path) -> list[str]:
        while not started.exists():
            time.sleep(0.01)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("db.neo4j_admin.write_csv", no_space)
    home = Home(tmp_path / "home", tmp_path / "lib")
    with pytest.raises(OSError, match="No space left on device"):
        bulk_load(home, toy_graph())
    assert sorted(p.name for p in home.folder.iterdir()) == ["conf", "lock"]
    with pytest.raises(ProcessLookupError):
        os.kill(int(started.read_text()), 0)


def test_nothing_to_dump_or_restore(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    with pytest.raises(StoreFormatError, match="has no database to dump"):
        dump(home, tmp_path / "a.dump")
    with pytest.raises(StoreFormatError, match="there is no dump"):
        restore(home, tmp_path / "a.dump")
    _refuse_unless_empty(home, "no server is asked where no database is")


def test_only_filled_tables_become_files(tmp_path: Path) -> None:
    options = write_csv(Graph.from_rows(entities=[{"entity_id": "a", "type": "T", "name": "line\nbreak"}]), tmp_path)
    assert sorted(option.partition("=")[0] + "=" + option.split("=")[1] for option in options if ".csv" in option) == [
        "--nodes=Entity",
        "--nodes=KgliftStore",
    ]
    assert "--multiline-fields=true" in options


def test_numbers_that_are_none_are_written_as_java_reads_them(tmp_path: Path) -> None:
    options = write_csv(toy_graph().replace(interactions=unusual_interactions()), tmp_path)
    file = next(option.split("=")[2] for option in options if option.startswith("--relationships=INTERACTED"))
    rows = csv.read_csv(tmp_path / file, convert_options=csv.ConvertOptions(column_types={"value:double": pa.string()}))
    assert rows["value:double"].to_pylist() == ["NaN", "Infinity", "-Infinity", "", "0.5"]


def test_relationships_name_their_nodes_by_the_numbers_that_these_have(tmp_path: Path) -> None:
    options = [option.split("=") for option in write_csv(toy_graph(), tmp_path) if option.endswith(".csv")]
    nodes = {label: csv.read_csv(tmp_path / name) for _, label, name in (o for o in options if o[0] == "--nodes")}
    numbers = [number for rows in nodes.values() for number in rows[":ID"].to_pylist()]
    assert sorted(numbers) == list(range(len(numbers)))
    ids = dict(zip(nodes["Entity"][":ID"].to_pylist(), nodes["Entity"]["entity_id"].to_pylist(), strict=True))
    facts = csv.read_csv(tmp_path / next(name for kind, name in (o for o in options if len(o) == 2)))
    ends = zip(facts[":START_ID"].to_pylist(), facts[":END_ID"].to_pylist(), strict=True)
    expected = [(row["head"], row["tail"]) for row in toy_graph().triples.to_pylist()]
    assert [(ids[start], ids[end]) for start, end in ends] == expected


def _rows(store: Neo4jStore, cypher: str) -> list[str]:
    return sorted(json.dumps(_without_nulls(row), sort_keys=True) for row in store.query(cypher).to_pylist())


def _without_nulls(value: Any) -> Any:
    """Drop what Arrow adds where rows differ in their properties; Neo4j stores no null."""
    if isinstance(value, dict):
        return {key: _without_nulls(inner) for key, inner in value.items() if inner is not None}
    return value

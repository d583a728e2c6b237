"""Starting and stopping a Neo4j of one's own."""

import re
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from db import server
from db.errors import QueryError, StoreFormatError, StoreUnreachableError
from db.neo4j_store import Neo4jConfig, Neo4jStore
from kg.errors import ConfigError
from tests.db.servers import FAST_START, watch
from tests.toy import toy_graph


def test_without_java_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(StoreUnreachableError, match=r"needs `java`.*apt install .* or use Docker"):
        server.start(tmp_path / "home")


@pytest.mark.parametrize(
    ("version", "says"),
    [("11.0.2", r"needs Java 17 or 21, `java` is .*11\.0\.2"), ("17.0.1", "`mvn`, which is not on")],
)
def test_an_old_java_or_no_maven(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, says: str) -> None:
    java = tmp_path / "java"
    java.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\" 2019-01-15' >&2\n")
    java.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}")
    with pytest.raises(StoreUnreachableError, match=says):
        server.fetch_jars(tmp_path / "lib")


def test_maven_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in (("java", "echo 'version \"17.0.1\"' >&2"), ("mvn", "echo '[ERROR] no route'; exit 1")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(StoreUnreachableError, match="could not fetch the jars of Neo4j: .*no route"):
        server.fetch_jars(tmp_path / "lib")
    assert not (tmp_path / "lib").exists()


def test_a_taken_port() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(StoreUnreachableError, match=f"port {port} is taken"):
            server._free_port(port)


def test_nothing_runs(tmp_path: Path) -> None:
    assert server.status(tmp_path) is None
    assert server.stop(tmp_path) is False


def test_another_program_got_the_process_id(tmp_path: Path) -> None:
    (tmp_path / "server.json").write_text(
        '{"pid": 1, "home": "/h", "bolt_port": 1, "http_port": null, "auth": false}', encoding="utf-8"
    )
    assert server.status(tmp_path) is None


def test_a_damaged_record(tmp_path: Path) -> None:
    (tmp_path / "server.json").write_text('{"pid": ', encoding="utf-8")
    with pytest.raises(StoreFormatError, match=r"server\.json` is damaged"):
        server.status(tmp_path)


def test_a_server_of_the_tests_ends_with_them() -> None:
    with subprocess.Popen(["sleep", "60"]) as parent, subprocess.Popen(["sleep", "60"]) as child:
        watch(parent.pid, child.pid)
        parent.kill()
        parent.wait()
        assert child.wait(timeout=10) == -signal.SIGTERM


def test_another_address_than_that_of_the_server_of_a_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    running = server.Server(pid=1, home=tmp_path, bolt_port=7999, http_port=None, auth=False)
    monkeypatch.setattr(server, "status", lambda home: running)
    for own in ("bolt://127.0.0.1:7999", "neo4j://localhost:7999"):
        server.refuse_other_server(tmp_path, own)
    for other in ("bolt://127.0.0.1:7688", "bolt://127.0.0.1", "neo4j+s://db.example.org:7999"):
        with pytest.raises(
            StoreUnreachableError, match=rf"NEO4J_URI is {re.escape(other)}, .*at bolt://127.0.0.1:7999.*unset"
        ):
            server.refuse_other_server(tmp_path, other)
    with pytest.raises(ConfigError, match="is no address of Neo4j"):
        server.refuse_other_server(tmp_path, "bolt://127.0.0.1:abc")


def test_the_usual_address_is_another_server_where_ours_does_not_run_and_somebody_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setattr(server, "BOLT_PORT", port)
        with pytest.raises(StoreUnreachableError, match=r"another server .*not running"):
            server.refuse_other_server(tmp_path, f"bolt://127.0.0.1:{port}")
    server.refuse_other_server(tmp_path, f"bolt://127.0.0.1:{port}")


@pytest.mark.slow
def test_a_graph_outlives_a_restart(tmp_path: Path) -> None:
    jars = server.default_home() / "lib"
    if lacking := server.missing_tools(jars=jars):
        pytest.skip(lacking)
    first = server.start(tmp_path, jars=jars, bolt_port=0, http_port=0, java_options=FAST_START)
    try:
        assert server.start(tmp_path, jars=jars) == first
        assert server.status(tmp_path) == first
        with Neo4jStore(Neo4jConfig(uri=first.bolt_uri)) as store:
            store.write(toy_graph())
    finally:
        assert server.stop(tmp_path) is True
    assert server.status(tmp_path) is None
    try:
        again = server.start(tmp_path, jars=jars, bolt_port=0, http_port=0, java_options=FAST_START)
        with Neo4jStore(Neo4jConfig(uri=again.bolt_uri)) as store:
            assert store.read().equals(toy_graph())
    finally:
        server.stop(tmp_path)


@pytest.mark.slow
def test_a_server_that_cannot_start_shows_its_log(tmp_path: Path) -> None:
    jars = tmp_path / "jars"
    jars.mkdir()
    if lacking := server.missing_tools(jars=jars):
        pytest.skip(lacking)
    with pytest.raises(StoreUnreachableError, match=r"ended at once: .*CommunityEntryPoint"):
        server.start(tmp_path, jars=jars, bolt_port=0, http_port=None)
    assert server.status(tmp_path) is None


@pytest.mark.slow
def test_a_home_keeps_its_password(locked_neo4j: tuple[str, str], tmp_path: Path) -> None:
    port = int(locked_neo4j[0].rpartition(":")[2])
    running = server.Server(pid=0, home=tmp_path, bolt_port=port, http_port=None, auth=True)
    with pytest.raises(StoreUnreachableError, match="have another password") as caught:
        server._log_in(running, "hunter2-hunter2")
    assert "hunter2" not in str(caught.value)


@pytest.mark.slow
def test_a_password_too_short(tmp_path: Path) -> None:
    jars = server.default_home() / "lib"
    if lacking := server.missing_tools(jars=jars):
        pytest.skip(lacking)
    with pytest.raises(StoreUnreachableError, match="does not take this password: .*at least 8 characters"):
        server.start(tmp_path, jars=jars, bolt_port=0, http_port=0, password="short", java_options=FAST_START)
    assert server.status(tmp_path) is None


@pytest.mark.slow
def test_a_transaction_too_large_for_the_memory_is_refused_and_the_server_goes_on(neo4j_uri: str) -> None:
    with Neo4jStore(Neo4jConfig(uri=neo4j_uri, retry_for_s=0.1)) as store:
        with pytest.raises(QueryError, match=r"limit 400\.0 MiB|total\.max threshold"):
            store.query("UNWIND range(1, 100000000) AS i WITH collect(i) AS many RETURN size(many) AS n")
        assert store.query("RETURN 1 AS n")["n"].to_pylist() == [1]

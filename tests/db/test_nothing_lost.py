"""Loaders are killed, the server is killed, eight load at once: what is read afterwards is what was loaded."""

import os
import random
import signal
import threading
import time
from pathlib import Path

import pytest

from db import server
from db.neo4j_store import Neo4jConfig, Neo4jStore
from db.store import GraphStore
from kg.graph import concat
from tests.db.loaders import open_store, revision, share, start_loader
from tests.db.servers import FAST_START, wiped

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
_KILLS_PER_STORE = 30


@pytest.fixture(params=["ladybug", "neo4j"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str | Path:
    if request.param == "ladybug":
        return tmp_path / "graph.lbug"
    uri: str = request.getfixturevalue("neo4j_uri")
    wiped(uri)
    return uri


def test_a_loader_killed_at_thirty_points(place: str | Path) -> None:
    chance = random.Random(0)
    with open_store(place) as store:
        store.write(revision(0))
        whole_s = _timed_write(store, 1)
        ended = 0
        for n in range(2, 2 + _KILLS_PER_STORE):
            loader = start_loader(place, revision, n)
            time.sleep(chance.uniform(0.0, whole_s))
            loader.kill()
            loader.join()
            ended += loader.exitcode == 0
            if isinstance(place, Path):
                assert any(store.read().equals(revision(k)) for k in (n - 1, n))
            whole_s = _timed_write(store, n)
            assert store.read().equals(revision(n)), f"revision {n}"
    assert ended < _KILLS_PER_STORE / 2


def test_eight_loaders_at_once_of_the_same_and_of_different_graphs(place: str | Path) -> None:
    loaders = [start_loader(place, share, n) for n in (0, 0, 0, 0, 1, 2, 3, 4)]
    for loader in loaders:
        loader.join(300)
    assert [loader.exitcode for loader in loaders] == [0] * 8
    with open_store(place) as store:
        assert store.read().equals(concat(*(share(n) for n in range(5))))


def test_a_server_killed_and_started_again_in_the_middle(tmp_path: Path) -> None:
    jars = server.default_home() / "lib"
    if lacking := server.missing_tools(jars=jars):
        pytest.skip(lacking)
    first = server.start(tmp_path, jars=jars, bolt_port=0, http_port=None, java_options=FAST_START)
    half = threading.Event()

    def progress(done: int, total: int | None, note: str = "") -> None:
        if done * 2 > (total or 0):
            half.set()

    try:
        with Neo4jStore(Neo4jConfig(uri=first.bolt_uri, batch_size=5, retry_for_s=200)) as store:
            loading = threading.Thread(target=store.write, args=(revision(1), progress))
            loading.start()
            assert half.wait(120)
            os.kill(first.pid, signal.SIGKILL)
            os.waitpid(first.pid, 0)
            assert loading.is_alive()
            server.start(tmp_path, jars=jars, bolt_port=first.bolt_port, http_port=None, java_options=FAST_START)
            loading.join(200)
            assert not loading.is_alive()
            assert store.read().equals(revision(1))
    finally:
        server.stop(tmp_path)


def _timed_write(store: GraphStore, n: int) -> float:
    begun = time.monotonic()
    store.write(revision(n))
    return time.monotonic() - begun

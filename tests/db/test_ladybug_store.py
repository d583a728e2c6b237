"""The embedded store: its file, its version, its locks, and kills."""

import errno
import random
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import cache
from pathlib import Path

import ladybug
import pytest

from db.errors import QueryError, StoreFormatError, StoreUnreachableError, StoreWriteError
from db.ladybug_store import LadybugConfig, LadybugStore
from kg.errors import ConfigError
from kg.files import write_graph
from kg.graph import Graph, concat
from tests.toy import toy_graph


@pytest.fixture
def store(tmp_path: Path) -> LadybugStore:
    store = LadybugStore(LadybugConfig(tmp_path / "graph.lbug"))
    store.write(toy_graph())
    return store


def test_another_version_is_refused(store: LadybugStore) -> None:
    _execute(store.path, "MATCH (s:KgliftStore) SET s.version = 99")
    for use in (store.read, lambda: store.write(toy_graph()), lambda: store.delete("llm:aaaa")):
        with pytest.raises(StoreFormatError, match=r"version 99, this kglift reads 2; load the graph directory"):
            use()


def test_a_database_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "theirs.lbug"
    _execute(path, "CREATE NODE TABLE City(name STRING PRIMARY KEY)")
    store = LadybugStore(LadybugConfig(path))
    with pytest.raises(StoreFormatError, match=r"other tables \(City\)"):
        store.write(toy_graph())
    with pytest.raises(StoreFormatError, match=r"other tables \(City\)"):
        store.read()


def test_a_statement_without_columns_has_no_rows(store: LadybugStore) -> None:
    assert store.query("CREATE (:Run {run: 'new'})", max_rows=7, write=True).num_rows == 0


def test_two_columns_of_one_name(store: LadybugStore) -> None:
    with pytest.raises(QueryError, match="two columns are called `a`; give each a name of its own"):
        store.query("RETURN 1 AS a, 2 AS b, 3 AS a")


def test_a_file_of_another_kind(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello " * 2000)
    with pytest.raises(StoreFormatError, match=r"notes\.txt` is no LadybugDB file"):
        LadybugStore(LadybugConfig(tmp_path / "notes.txt")).read()


def test_a_directory(tmp_path: Path) -> None:
    with pytest.raises(StoreFormatError, match="cannot be a directory"):
        LadybugStore(LadybugConfig(tmp_path)).write(toy_graph())


def test_a_place_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreWriteError, match=r"cannot write .*file/graph\.lbug"):
        LadybugStore(LadybugConfig(tmp_path / "file" / "graph.lbug")).write(toy_graph())


def test_a_buffer_too_small() -> None:
    with pytest.raises(ConfigError, match="`buffer_size_bytes` is 1024"):
        LadybugConfig(buffer_size_bytes=1024)
    with pytest.raises(ConfigError, match=r"`wait_s` is -1"):
        LadybugConfig(wait_s=-1)


def test_another_process_writes(store: LadybugStore) -> None:
    holder = (
        "import sys, ladybug; d = ladybug.Database(sys.argv[1]); c = ladybug.Connection(d);"
        "c.execute('BEGIN TRANSACTION'); print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", holder, str(store.path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(StoreUnreachableError, match="in use by another process"):
            LadybugStore(LadybugConfig(store.path, wait_s=0)).write(toy_graph())
        threading.Timer(0.3, process.kill).start()
        store.write(toy_graph())
    assert store.read().equals(toy_graph())


def test_a_writer_waits_for_the_reader_of_another_process_and_readers_share(store: LadybugStore) -> None:
    """LadybugDB's own readers take no lock: what a writer had changed by then and what not was one answer."""
    reader = f"""
import sys
from pathlib import Path
from db.ladybug_store import LadybugConfig, LadybugStore
with LadybugStore(LadybugConfig(Path({str(store.path)!r})))._reading():
    print("held", flush=True)
    sys.stdin.read()
"""
    command = [sys.executable, "-c", reader]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        assert store.read().equals(toy_graph())
        with pytest.raises(StoreUnreachableError, match="in use by another process .*Could not set lock"):
            LadybugStore(LadybugConfig(store.path, wait_s=0)).write(toy_graph())
        threading.Timer(0.3, process.kill).start()
        store.write(toy_graph())


def test_a_file_that_is_written_while_it_is_opened_is_not_read(
    store: LadybugStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    hasty, stamps = LadybugStore(LadybugConfig(store.path, wait_s=0)), iter(range(9))
    monkeypatch.setattr(hasty.file, "_stamp", lambda: next(stamps))
    with pytest.raises(StoreUnreachableError, match="in use by another process .*written while it was opened"):
        hasty.read()
    monkeypatch.undo()

    def refuse(*_: object) -> None:
        raise BlockingIOError(errno.EAGAIN, "it is locked")

    monkeypatch.setattr("fcntl.lockf", refuse)
    with pytest.raises(StoreUnreachableError, match="in use by another process .*it is locked"):
        hasty.read()


def test_another_thread_has_the_file(store: LadybugStore) -> None:
    held, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with store.file.alone():
            held.set()
            leave.wait(10)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(10)
    hasty = LadybugStore(LadybugConfig(store.path, wait_s=0.05))
    for use in (hasty.read, lambda: hasty.write(toy_graph())):
        with pytest.raises(StoreUnreachableError, match=r"another thread of this process, since 0\.05 s"):
            use()
    threading.Timer(0.2, leave.set).start()
    assert store.read().equals(toy_graph())
    thread.join()


def test_a_reader_does_not_open_the_file_while_a_thread_writes_it(store: LadybugStore) -> None:
    """Closing it would take the lock away from the writer, and another process could write at the same time."""
    with store._transaction(), ThreadPoolExecutor(1) as threads:
        reading = threads.submit(LadybugStore(LadybugConfig(store.path, wait_s=0.3)).read)
        with pytest.raises(StoreUnreachableError, match="another thread of this process"):
            reading.result()
        intruder = "import ladybug, sys; ladybug.Database(sys.argv[1], backend='pybind')"
        done = subprocess.run([sys.executable, "-c", intruder, str(store.path)], capture_output=True, text=True)
        assert "Could not set lock" in done.stderr


@pytest.mark.parametrize("room", [100_000, pytest.param(4_000_000, marks=pytest.mark.slow)])
def test_a_full_disk_loses_nothing(store: LadybugStore, tmp_path: Path, room: int) -> None:
    write_graph(_long_texts(), tmp_path / "long")
    limited = (
        "import resource, sys; from pathlib import Path; from db.ladybug_store import *; from db.errors import *\n"
        "from kg.files import read_graph\n"
        "graph = read_graph(Path(sys.argv[2])); path = Path(sys.argv[1])\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + int(sys.argv[3]),) * 2)\n"
        "try: LadybugStore(LadybugConfig(path)).write(graph)\n"
        "except StoreWriteError as error: print(error)"
    )
    command = [sys.executable, "-c", limited, str(store.path), str(tmp_path / "long"), str(room)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "what was there is whole" in done.stdout, done.stderr
    assert "committed successfully" not in done.stdout
    assert store.read().equals(toy_graph())
    store.write(_long_texts())
    assert store.read().equals(concat(toy_graph(), _long_texts()))


@pytest.mark.slow
def test_a_killed_write_leaves_all_or_nothing(tmp_path: Path) -> None:
    added = _long_texts()
    write_graph(added, tmp_path / "long")
    before, whole = toy_graph(), concat(toy_graph(), added)
    writer = (
        "import sys; from pathlib import Path; from db.ladybug_store import *; from kg.files import read_graph\n"
        "graph = read_graph(Path(sys.argv[2])); print('go', flush=True)\n"
        "LadybugStore(LadybugConfig(Path(sys.argv[1]))).write(graph); print('done', flush=True)"
    )
    chance = random.Random(0)
    for round_number in range(6):
        store = LadybugStore(LadybugConfig(tmp_path / f"{round_number}.lbug"))
        store.write(before)
        command = [sys.executable, "-c", writer, str(store.path), str(tmp_path / "long")]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(chance.uniform(0.0, 0.5))
            process.kill()
        after = store.read()
        assert after.equals(before) or after.equals(whole)
        store.write(added)
        assert store.read().equals(whole)


@cache
def _long_texts() -> Graph:
    n = 5_000
    return Graph.from_rows(
        entities=[{"entity_id": f"e:{i}", "type": "T", "name": f"n{i}", "text": f"{i} " * 100} for i in range(n)],
        triples=[
            {"head": f"e:{i}", "relation": "next", "tail": f"e:{(i * 7) % n}", "confidence": 0.5, "source": "s"}
            for i in range(n)
        ],
        sources=[{"source": "s", "kind": "rule"}],
    )


def _execute(path: Path, statement: str) -> None:
    with closing(ladybug.Database(path)) as database, closing(ladybug.Connection(database)) as connection:
        connection.execute(statement)

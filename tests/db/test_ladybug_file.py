"""Dump and restore of the embedded store: whole files, nothing replaced unasked, locks kept."""

import resource
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import ladybug
import pytest

from db.errors import StoreFormatError, StoreUnreachableError, StoreWriteError
from db.ladybug_store import LadybugConfig, LadybugStore
from kg.graph import Graph
from tests.toy import toy_graph


@pytest.fixture
def store(tmp_path: Path) -> LadybugStore:
    store = LadybugStore(LadybugConfig(tmp_path / "graph.lbug", wait_s=0.2))
    store.write(toy_graph())
    return store


def test_what_was_dumped_is_restored(store: LadybugStore, tmp_path: Path) -> None:
    store.file.dump(tmp_path / "kept")
    store.write(Graph.from_rows(entities=[{"entity_id": "new", "type": "T", "name": "n"}]))
    elsewhere = LadybugStore(LadybugConfig(tmp_path / "folder" / "other.lbug"))
    elsewhere.file.restore(tmp_path / "kept")
    assert elsewhere.read().equals(toy_graph())
    with pytest.raises(StoreWriteError, match=r"there is a store at .*graph\.lbug`; give --overwrite"):
        store.file.restore(tmp_path / "kept")
    assert len(store.read().entities) == len(toy_graph().entities) + 1
    store.file.restore(tmp_path / "kept", overwrite=True)
    assert store.read().equals(toy_graph())
    store.write(toy_graph())
    assert store.read().equals(toy_graph())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["folder", "graph.lbug", "kept"]


def test_what_cannot_be_restored_changes_nothing(store: LadybugStore, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello " * 2000)
    with pytest.raises(StoreFormatError, match=r"notes\.txt` is no LadybugDB file"):
        store.file.restore(tmp_path / "notes.txt", overwrite=True)
    foreign = tmp_path / "foreign.lbug"
    with closing(ladybug.Database(foreign)) as database, closing(ladybug.Connection(database)) as connection:
        connection.execute("CREATE NODE TABLE City(name STRING PRIMARY KEY)")
    with pytest.raises(StoreFormatError, match=r"foreign\.lbug` holds other tables \(City\) and no kglift store"):
        store.file.restore(foreign, overwrite=True)
    ladybug.Database(tmp_path / "empty.lbug").close()
    with pytest.raises(StoreFormatError, match=r"empty\.lbug` holds nothing yet and no kglift store"):
        store.file.restore(tmp_path / "empty.lbug", overwrite=True)
    with pytest.raises(StoreFormatError, match="there is no dump `.*nowhere`"):
        store.file.restore(tmp_path / "nowhere", overwrite=True)
    assert store.read().equals(toy_graph())
    with pytest.raises(StoreFormatError, match="there is no store at .*nowhere` to dump"):
        LadybugStore(LadybugConfig(tmp_path / "nowhere")).file.dump(tmp_path / "kept")
    assert not (tmp_path / "nowhere").exists()
    store.file.dump(tmp_path / "kept")
    with pytest.raises(StoreWriteError, match=r"cannot write .*notes\.txt/new\.lbug"):
        LadybugStore(LadybugConfig(tmp_path / "notes.txt" / "new.lbug")).file.restore(tmp_path / "kept")


def test_a_full_disk_leaves_no_half_dump(store: LadybugStore, tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("the dump of yesterday")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (store.path.stat().st_size // 2, before[1]))
    try:
        with pytest.raises(StoreWriteError, match=r"cannot write .*kept`: File too large; nothing there was changed"):
            store.file.dump(tmp_path / "kept")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert (tmp_path / "kept").read_text() == "the dump of yesterday"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["graph.lbug", "kept"]
    assert store.read().equals(toy_graph())


def test_a_store_in_use_is_neither_dumped_nor_replaced(store: LadybugStore, tmp_path: Path) -> None:
    store.file.dump(tmp_path / "kept")
    holder = (
        "import sys, ladybug; d = ladybug.Database(sys.argv[1], backend='pybind'); print('held', flush=True);"
        "sys.stdin.read()"
    )
    command = [sys.executable, "-c", holder, str(store.path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(StoreUnreachableError, match="in use by another process"):
            store.file.dump(tmp_path / "other")
        with pytest.raises(StoreUnreachableError, match="in use by another process"):
            store.file.restore(tmp_path / "kept", overwrite=True)
        process.kill()
    assert store.read().equals(toy_graph())


def test_llama_cpp_may_be_loaded_after_a_store_was_used(store: LadybugStore) -> None:
    program = f"""
from db.ladybug_store import LadybugConfig, LadybugStore
from pathlib import Path
store = LadybugStore(LadybugConfig(Path({str(store.path)!r})))
before = store.read()
import xllamacpp
assert "json" in xllamacpp.json_schema_to_grammar('{{"type": "object"}}')
assert store.read().equals(before)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

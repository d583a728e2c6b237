"""Writes of the embedded store that were broken off: for want of space, or by a kill while the log was written."""

import logging
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from db.errors import StoreFormatError, StoreUnreachableError, StoreWriteError
from db.ladybug_store import LadybugConfig, LadybugStore
from db.runs import list_runs
from tests.toy import toy_graph

_KILLED = """
import os, sys, ladybug
connection = ladybug.Connection(ladybug.Database(sys.argv[1], backend="pybind"))
connection.execute("CREATE (:Run {run: 'whole'})")
connection.execute("UNWIND range(1, 500) AS i CREATE (:Run {run: 'torn' + CAST(i AS STRING)})")
os._exit(0)
"""
_ON_A_SMALL_DISK = """
import os, sys
from pathlib import Path
from db.errors import StoreWriteError
from db.ladybug_store import LadybugConfig, LadybugStore
from tests.toy import toy_graph

disk, room, cypher = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
store = LadybugStore(LadybugConfig(disk / "graph.lbug"))
store.write(toy_graph())
before = store.query("MATCH (e:Entity) RETURN e.name AS name ORDER BY name")
(disk / "rest").write_bytes(bytes(os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize - room))
for _ in range(2):
    try:
        store.query(cypher, write=True)
    except StoreWriteError as error:
        print(error)
    assert store.read().equals(toy_graph())
(disk / "rest").unlink()
store.query(cypher, write=True)
assert store.query("MATCH (e:Entity) RETURN e.name AS name ORDER BY name") != before
print(sorted(file.name for file in disk.iterdir()))
"""


@pytest.fixture
def store(tmp_path: Path) -> LadybugStore:
    store = LadybugStore(LadybugConfig(tmp_path / "graph.lbug"))
    store.write(toy_graph())
    return store


@pytest.fixture
def torn(store: LadybugStore) -> LadybugStore:
    """Leave a log with one whole transaction and half of another."""
    subprocess.run([sys.executable, "-c", _KILLED, str(store.path)], check=True)
    log = _log(store)
    log.write_bytes(log.read_bytes()[:4096])
    return store


@pytest.mark.parametrize("room", [0, 1 << 20, (1 << 20) + (40 << 10), (1 << 20) + (200 << 10)])
def test_a_full_disk_tears_nothing(tmp_path: Path, room: int) -> None:
    alone = ["unshare", "--map-root-user", "--mount"]
    mounted = f"mount -t tmpfs -o size=16m tmpfs {tmp_path}"
    if not shutil.which("unshare") or subprocess.run([*alone, "sh", "-c", mounted], check=False).returncode:
        pytest.skip("no small disk can be mounted here")
    names = "MATCH (e:Entity) UNWIND range(1, 10) AS i SET e.name = 'changed' + repeat('x', 50000)"
    command = [*alone, "sh", "-c", f'{mounted} && exec "$@"', "-", sys.executable, "-c", _ON_A_SMALL_DISK]
    done = subprocess.run([*command, str(tmp_path), str(room), names], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    lines = done.stdout.splitlines()
    assert len(lines) == 3
    assert all("No space left on device; what was there is whole. Free some space" in line for line in lines[:2])
    assert lines[2] == "['graph.lbug']"


def test_a_torn_log_is_put_aside(torn: LadybugStore, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert torn.read().equals(toy_graph())
    assert "was broken off and is undone; its log is kept as" in caplog.text
    assert list(list_runs(torn)) == ["whole"]
    torn.write(toy_graph())
    assert sorted(p.name for p in torn.path.parent.iterdir()) == ["graph.lbug", "graph.lbug.wal.torn"]


def test_a_torn_log_is_mended_by_a_write(torn: LadybugStore) -> None:
    torn.query("CREATE (:Run {run: 'next'})", write=True)
    assert list(list_runs(torn)) == ["next", "whole"]


def test_a_torn_store_is_replaced(store: LadybugStore, torn: LadybugStore, tmp_path: Path) -> None:
    shutil.copy(_log(torn), tmp_path / "log")
    _log(torn).unlink()
    torn.file.dump(tmp_path / "kept")
    shutil.copy(tmp_path / "log", _log(torn))
    torn.file.restore(tmp_path / "kept", overwrite=True)
    assert not _log(torn).exists()
    assert torn.read().equals(toy_graph())


def test_the_log_of_a_file_that_was_removed_is_not_of_the_next(torn: LadybugStore, tmp_path: Path) -> None:
    kept = LadybugStore(LadybugConfig(tmp_path / "kept"))
    kept.write(toy_graph())
    torn.path.unlink()
    torn.file.restore(kept.path)
    assert torn.read().equals(toy_graph())
    _log(torn).write_bytes(b"torn")
    torn.path.unlink()
    torn.write(toy_graph())
    assert torn.read().equals(toy_graph())


def test_a_state_that_cannot_be_seen_is_not_called_whole(store: LadybugStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        msg = "IO exception: No space left on device"
        raise RuntimeError(msg)

    monkeypatch.setattr("ladybug.Database", refuse)
    with pytest.raises(StoreWriteError, match="what was there cannot be seen now .*free some space, then repeat"):
        store.write(toy_graph())
    with pytest.raises(StoreUnreachableError, match="an earlier write is to be finished first: free some space"):
        store.read()
    with pytest.raises(StoreWriteError, match="cannot dump .*No space left on device; see that its folder"):
        store.file.dump(store.path.with_name("kept"))


def test_a_store_with_a_log_is_no_dump(torn: LadybugStore, tmp_path: Path) -> None:
    other = LadybugStore(LadybugConfig(tmp_path / "other.lbug"))
    with pytest.raises(StoreFormatError, match=r"a log beside it \(`graph.lbug.wal`\) and no dump"):
        other.file.restore(torn.path)


def _log(store: LadybugStore) -> Path:
    return store.path.with_name("graph.lbug.wal")

import errno
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kg import files
from kg.errors import FileFormatError, FormatVersionError, HalfWrittenError, WriteError
from kg.files import (
    GRAPH_FORMAT,
    atomic_directory,
    code_version,
    file_sha256,
    read_graph,
    read_manifest,
    write_file,
    write_graph,
    write_manifest,
)
from kg.graph import Graph
from kg.tables import TABLES
from tests.toy import toy_graph

ROOT = Path(__file__).parent.parent.parent
GOLDEN = Path(__file__).parent.parent / "goldens" / "graph-v1"


def listing(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def other_graph() -> Graph:
    return Graph.from_rows(entities=[{"entity_id": "e", "type": "T", "name": "older"}])


def change_manifest(directory: Path, **changes: Any) -> None:
    path = directory / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **changes}), encoding="utf-8")


def test_a_graph_is_read_as_it_was_written(tmp_path: Path) -> None:
    write_graph(toy_graph(), tmp_path / "g", config={"k": [1, 2]}, seed=3, documents={"note.json": {"a": "夜"}})
    assert read_graph(tmp_path / "g").equals(toy_graph())
    manifest = read_manifest(tmp_path / "g", GRAPH_FORMAT)
    assert (manifest["config"], manifest["seed"]) == ({"k": [1, 2]}, 3)
    assert manifest["counts"] == toy_graph().counts()
    assert manifest["code"] == code_version()
    assert manifest["files"]["note.json"] == file_sha256(tmp_path / "g" / "note.json")
    assert listing(tmp_path) == ["g"]


def test_equal_graphs_give_equal_files(tmp_path: Path) -> None:
    turned = Graph(**{name: table.take(list(range(len(table)))[::-1]) for name, table in toy_graph().tables().items()})
    write_graph(toy_graph(), tmp_path / "a")
    write_graph(turned, tmp_path / "b")
    assert (tmp_path / "a" / "manifest.json").read_bytes() == (tmp_path / "b" / "manifest.json").read_bytes()


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


@given(st.lists(st.tuples(texts, st.none() | texts, st.none() | st.integers(-(2**63), 2**63 - 1)), max_size=6))
@settings(deadline=None, max_examples=25)
def test_any_text_number_and_null_survives(
    tmp_path_factory: Any, rows: list[tuple[str, str | None, int | None]]
) -> None:
    graph = Graph.from_rows(
        entities=[{"entity_id": f"{n}{a}", "type": "T", "name": a, "text": b} for n, (a, b, _) in enumerate(rows)],
        sources=[{"source": f"{n}", "kind": "llm", "quote": b, "tokens": c} for n, (_, b, c) in enumerate(rows)],
    )
    place = tmp_path_factory.mktemp("any") / "g"
    write_graph(graph, place)
    assert read_graph(place).equals(graph)


def test_a_directory_of_the_first_version_stays_readable() -> None:
    assert read_graph(GOLDEN).equals(toy_graph())


def test_another_version_is_refused(tmp_path: Path) -> None:
    shutil.copytree(GOLDEN, tmp_path / "g")
    change_manifest(tmp_path / "g", version=2)
    with pytest.raises(FormatVersionError, match="has format version 2, this kglift reads 1; make it again"):
        read_graph(tmp_path / "g")


def test_another_kind_of_directory_is_refused(tmp_path: Path) -> None:
    with atomic_directory(tmp_path / "m") as partial:
        write_manifest(partial, "kglift-model")
    with pytest.raises(FileFormatError, match="holds `kglift-model`, expected `kglift-graph`"):
        read_graph(tmp_path / "m")
    with pytest.raises(FileFormatError, match="`.*nowhere` is no directory"):
        read_graph(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (b"{", "is not valid JSON"),
        (b"\xff\xfe{}", "is not valid JSON"),
        (b"[]", "is no JSON object"),
        (b'{"format": "kglift-graph", "version": 1}', "lists no files"),
        (b'{"format": "kglift-graph", "version": 1, "files": {}}', "entities`?.parquet` is not readable Parquet"),
    ],
)
def test_a_damaged_manifest_is_refused(tmp_path: Path, text: bytes, match: str) -> None:
    (tmp_path / "manifest.json").write_bytes(text)
    with pytest.raises(HalfWrittenError, match=match):
        read_graph(tmp_path)


def test_a_directory_without_a_manifest_is_half_written(tmp_path: Path) -> None:
    shutil.copytree(GOLDEN, tmp_path / "g")
    (tmp_path / "g" / "manifest.json").unlink()
    with pytest.raises(HalfWrittenError, match=r"`.*/g` has no manifest.json: it is half-written or something else"):
        read_graph(tmp_path / "g")


def test_the_folder_above_a_graph_suggests_the_graph(tmp_path: Path) -> None:
    write_graph(toy_graph(), tmp_path / "fused")
    with pytest.raises(HalfWrittenError, match="has no manifest.json: .*Known: fused"):
        read_graph(tmp_path)


@pytest.mark.parametrize("name", TABLES)
def test_a_missing_file_or_changed_byte_is_named(tmp_path: Path, name: str) -> None:
    place = tmp_path / "g"
    shutil.copytree(GOLDEN, place)
    table = place / f"{name}.parquet"
    content = bytearray(table.read_bytes())
    content[len(content) // 2] ^= 1
    table.write_bytes(bytes(content))
    with pytest.raises(HalfWrittenError, match=f"{name}.parquet` is not what was written .sha256 differs.; make"):
        read_graph(place)
    table.unlink()
    with pytest.raises(HalfWrittenError, match=f"lacks `{name}.parquet`, which its manifest names"):
        read_graph(place)


def test_unreadable_parquet_is_refused_even_unverified(tmp_path: Path) -> None:
    shutil.copytree(GOLDEN, tmp_path / "g")
    (tmp_path / "g" / "members.parquet").write_bytes(b"PAR1 no PAR1")
    with pytest.raises(HalfWrittenError, match="members`?.parquet` is not readable Parquet"):
        read_graph(tmp_path / "g", verify=False)


def test_a_taken_place_is_left_alone(tmp_path: Path) -> None:
    write_graph(other_graph(), tmp_path / "g")
    with pytest.raises(WriteError, match="`.*/g` exists already; choose another place"):
        write_graph(toy_graph(), tmp_path / "g")
    assert read_graph(tmp_path / "g").equals(other_graph())
    (tmp_path / "file").write_text("mine")
    with pytest.raises(WriteError, match="it is no directory"):
        write_graph(toy_graph(), tmp_path / "file", overwrite=True)
    assert (tmp_path / "file").read_text() == "mine"
    assert listing(tmp_path) == ["file", "g"]


def test_overwriting_replaces_the_whole_directory(tmp_path: Path) -> None:
    write_graph(other_graph(), tmp_path / "g", documents={"old.json": 1})
    write_graph(toy_graph(), tmp_path / "g", overwrite=True)
    assert read_graph(tmp_path / "g").equals(toy_graph())
    assert not (tmp_path / "g" / "old.json").exists()
    assert listing(tmp_path) == ["g"]


@pytest.mark.parametrize("older", [False, True])
def test_a_failing_block_leaves_nothing_and_keeps_the_older(tmp_path: Path, older: bool) -> None:
    if older:
        write_graph(other_graph(), tmp_path / "g")

    def interrupted() -> None:
        with atomic_directory(tmp_path / "g", overwrite=True) as partial:
            (partial / "half").write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert listing(tmp_path) == (["g"] if older else [])


@pytest.mark.parametrize("when", ["table", "fsync", "rename"])
def test_a_full_disk_leaves_nothing_and_keeps_the_older(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    write_graph(other_graph(), tmp_path / "g")

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    rename = Path.rename

    def rename_in(self: Path, target: Path) -> Path:
        return full() or self if ".partial-" in self.name else rename(self, target)

    if when == "table":
        monkeypatch.setattr(pq, "write_table", full)
    elif when == "fsync":
        monkeypatch.setattr(os, "fsync", full)
    else:
        monkeypatch.setattr(Path, "rename", rename_in)
    with pytest.raises(WriteError, match="cannot write `.*/g`: No space left on device; nothing there was changed"):
        write_graph(toy_graph(), tmp_path / "g", overwrite=True)
    monkeypatch.undo()
    assert read_graph(tmp_path / "g").equals(other_graph())
    assert listing(tmp_path) == ["g"]


LIMITED = """
import resource, signal, sys
from pathlib import Path
from kg.files import write_graph
from tests.toy import toy_graph
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (900, 900))
write_graph(toy_graph(), Path(sys.argv[1]), overwrite=True)
"""


def test_a_limit_on_file_sizes_is_an_error_and_keeps_the_older(tmp_path: Path) -> None:
    write_graph(other_graph(), tmp_path / "g")
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path / "g")], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert "WriteError: cannot write" in done.stderr
    assert "File too large" in done.stderr
    assert read_graph(tmp_path / "g").equals(other_graph())
    assert listing(tmp_path) == ["g"]


def test_a_place_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(WriteError, match="cannot write `.*/file/g`: (Not a directory|File exists)"):
        write_graph(toy_graph(), tmp_path / "file" / "g")


@pytest.mark.parametrize("reading", [True, False])
def test_a_directory_set_aside_by_a_killed_writer_is_put_back(tmp_path: Path, reading: bool) -> None:
    write_graph(other_graph(), tmp_path / ".g.old-999999999")
    (tmp_path / ".g.partial-999999999").mkdir()
    if reading:
        assert read_graph(tmp_path / "g").equals(other_graph())
        return
    with pytest.raises(WriteError, match="exists already"):
        write_graph(toy_graph(), tmp_path / "g")
    write_graph(toy_graph(), tmp_path / "g", overwrite=True)
    assert listing(tmp_path) == ["g"]


def test_the_temporary_directory_of_a_living_writer_is_left_alone(tmp_path: Path) -> None:
    alive = tmp_path / f".g.partial-{os.getppid()}"
    alive.mkdir()
    write_graph(toy_graph(), tmp_path / "g")
    assert alive.exists()


def test_one_file_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_file(tmp_path / "deep" / "a", b"first")
    with pytest.raises(WriteError, match="`.*/a` exists already"):
        write_file(tmp_path / "deep" / "a", b"second")
    assert (tmp_path / "deep" / "a").read_bytes() == b"first"

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(WriteError, match="No space left on device"):
        write_file(tmp_path / "deep" / "b", b"third")
    assert listing(tmp_path / "deep") == ["a"]


def test_the_code_version_names_the_commit_of_a_checkout() -> None:
    found = code_version()
    assert found["version"]
    if (ROOT / ".git").exists():
        assert found["commit"] is None or len(found["commit"]) == 40


def test_code_that_is_not_installed_or_no_checkout_has_no_version(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(_: str) -> str:
        raise files.PackageNotFoundError

    monkeypatch.setattr(files, "version", absent)
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert code_version.__wrapped__() == {"version": "uninstalled", "commit": None}


KILLED = """
import sys
from pathlib import Path
from kg.files import read_graph, write_graph
graphs = [read_graph(Path(p)) for p in sys.argv[2:]]
print("ready", flush=True)
while True:
    for graph in graphs:
        write_graph(graph, Path(sys.argv[1]), overwrite=True)
"""


@pytest.mark.slow
def test_a_writer_killed_at_any_point_leaves_one_of_two_whole_graphs(tmp_path: Path) -> None:
    graphs = {"toy": toy_graph(), "other": other_graph()}
    for name, graph in graphs.items():
        write_graph(graph, tmp_path / name)
    target, rng = tmp_path / "out" / "g", random.Random(0)
    write_graph(graphs["toy"], target)
    for _ in range(15):
        writer = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(target), *(str(tmp_path / name) for name in graphs)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
        )
        assert writer.stdout is not None
        writer.stdout.readline()
        time.sleep(rng.uniform(0.0, 0.25))
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
        found = read_graph(target)
        assert any(found.equals(graph) for graph in graphs.values())
    write_graph(graphs["toy"], target, overwrite=True)
    assert listing(target.parent) == ["g"]

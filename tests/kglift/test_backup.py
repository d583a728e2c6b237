"""`kglift load --bulk`, `dump` and `restore`."""

import subprocess
import sys
from pathlib import Path

import pytest

import kglift.stores
from db.ladybug_store import LadybugConfig, LadybugStore
from db.neo4j_admin import Home
from kg.files import write_graph
from kg.graph import Graph
from kglift.cli import main
from tests.toy import toy_graph


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]):
    def call(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stopped:
            main(list(arguments))
        out, err = capsys.readouterr()
        return int(stopped.value.code or 0), out, err

    return call


def test_a_dump_is_restored(run, tmp_path: Path) -> None:
    at, kept = str(tmp_path / "graph.lbug"), str(tmp_path / "kept")
    store = LadybugStore(LadybugConfig(tmp_path / "graph.lbug"))
    store.write(toy_graph())
    assert run("dump", kept, "--at", at)[0] == 0
    store.write(Graph.from_rows(entities=[{"entity_id": "new", "type": "T", "name": "n"}]))
    code, _, err = run("restore", kept, "--at", at)
    assert code == 1
    assert "give --overwrite to replace it" in err
    assert run("restore", kept, "--at", at, "--overwrite")[0] == 0
    assert store.read().equals(toy_graph())


def test_the_tools_of_neo4j_get_its_own_server(run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[tuple[object, ...]] = []
    for name in ("bulk_load", "dump", "restore"):
        monkeypatch.setattr(kglift.stores, name, lambda *a, _name=name, **k: called.append((_name, *a, k)))
    monkeypatch.setattr(kglift.stores, "default_home", lambda: tmp_path / "home")
    monkeypatch.setenv("NEO4J_PASSWORD", "s3cret-word")
    monkeypatch.delenv("NEO4J_URI", raising=False)
    (tmp_path / "kept").write_text("")
    write_graph(toy_graph(), tmp_path / "graph")
    assert run("load", str(tmp_path / "graph"), "--store", "neo4j", "--bulk")[0] == 0
    assert run("dump", str(tmp_path / "kept"), "--store", "neo4j")[0] == 0
    assert run("restore", str(tmp_path / "kept"), "--store", "neo4j", "--overwrite")[0] == 0
    home = Home(tmp_path / "home", tmp_path / "home" / "lib", "s3cret-word")
    assert called[0][:2] == ("bulk_load", home)
    assert called[1:] == [
        ("dump", home, tmp_path / "kept", {}),
        ("restore", home, tmp_path / "kept", {"overwrite": True}),
    ]


def test_the_tools_of_neo4j_leave_its_own_server_alone_where_neo4j_uri_is_another(
    run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kglift.stores, "default_home", lambda: tmp_path / "home")
    monkeypatch.setenv("NEO4J_URI", "bolt://127.0.0.1:7688")
    kept = tmp_path / "kept"
    kept.touch()
    write_graph(toy_graph(), tmp_path / "graph")
    for arguments in (
        ("load", str(tmp_path / "graph"), "--bulk"),
        ("dump", str(kept)),
        ("restore", str(kept), "--overwrite"),
    ):
        code, _, err = run(*arguments, "--store", "neo4j")
        assert code == 1
        assert "NEO4J_URI is bolt://127.0.0.1:7688, another server than that of" in err
        assert err.count("\n") == 1
    assert not (tmp_path / "home").exists()


def test_what_the_driver_of_neo4j_logs_is_not_shown(tmp_path: Path) -> None:
    code = (
        "import logging, sys\nfrom kglift.cli import main\nimport kglift.stores\n"
        "def load_graph(*_):\n"
        "    logging.getLogger('neo4j.session').warning('Transaction failed and will be retried')\n"
        "kglift.stores.load_graph = load_graph\nmain(sys.argv[1:])\n"
    )
    write_graph(toy_graph(), tmp_path / "graph")
    command = [sys.executable, "-c", code, "load", str(tmp_path / "graph"), "--store", "neo4j", "-q"]
    for more, shown in (([], False), (["--debug"], True)):
        done = subprocess.run([*command, *more], capture_output=True, text=True, check=True, timeout=60)
        assert ("will be retried" in done.stderr) is shown


def test_bulk_is_for_neo4j(run, tmp_path: Path) -> None:
    write_graph(toy_graph(), tmp_path / "graph")
    code, _, err = run("load", str(tmp_path / "graph"), "--bulk")
    assert code == 2
    assert "--bulk is for Neo4j" in err

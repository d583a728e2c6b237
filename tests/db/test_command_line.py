"""`python -m db`: load a directory, ask it, and read one clear line when something is wrong."""

import io
import json
from pathlib import Path

import pytest

from db.__main__ import main
from kg.files import write_graph
from tests.toy import toy_graph


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["db", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    monkeypatch.delenv("NEO4J_URI", raising=False)
    return run


def test_load_then_ask(run, tmp_path: Path) -> None:
    write_graph(toy_graph(), tmp_path / "graph")
    store = ["--path", str(tmp_path / "graph.lbug")]
    code, out, _ = run("load", str(tmp_path / "graph"), *store)
    assert code == 0
    assert "12 triples" in out
    code, out, _ = run("query", "facts_of_entity", "--param", "entity_id=person:anna", "--json", *store)
    assert code == 0
    assert {json.loads(line)["relation"] for line in out.splitlines()} == {"acted_by", "directed_by"}
    code, out, _ = run("query", "MATCH (e:Entity {entity_id: 'item:5'}) RETURN e.name AS name", *store)
    assert code == 0
    assert "name" in out


def test_dump_then_restore(run, tmp_path: Path) -> None:
    write_graph(toy_graph(), tmp_path / "graph")
    store, kept = ["--path", str(tmp_path / "graph.lbug")], str(tmp_path / "kept.lbug")
    assert run("load", str(tmp_path / "graph"), *store)[0] == 0
    code, out, _ = run("dump", kept, *store)
    assert (code, "bytes" in out) == (0, True)
    code, _, err = run("restore", kept, *store)
    assert code == 1
    assert "give --overwrite" in err
    assert run("restore", kept, "--overwrite", *store)[0] == 0
    code, _, err = run("dump", kept, "--home", str(tmp_path / "nowhere"))
    assert code == 1
    assert "has no database to dump" in err


def test_saved_queries_are_listed(run) -> None:
    code, out, _ = run("query")
    assert code == 0
    assert "coverage_by_relation" in out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["query", "RETURN 1 AS x"], "set NEO4J_URI"),
        (["ping"], "set NEO4J_URI"),
        (["query", "RETURN 1 AS x", "--path", "nowhere.lbug"], "there is no store at"),
        (["query", "coverage_by_relatio", "--path", "nowhere.lbug"], "did you mean `coverage_by_relation`"),
        (["load", "nowhere", "--path", "x.lbug"], "`nowhere` is no directory"),
    ],
)
def test_what_is_wrong_is_one_line(run, arguments: list[str], says: str) -> None:
    code, _, err = run(*arguments)
    assert code == 1
    assert says in err
    assert err.count("\n") == 1


def test_no_server_of_this_home(run, tmp_path: Path) -> None:
    code, out, _ = run("server", "status", "--home", str(tmp_path))
    assert code == 1
    assert "no Neo4j of this home is running" in out
    code, out, _ = run("server", "stop", "--home", str(tmp_path))
    assert code == 0


def test_a_database_is_emptied_when_the_answer_is_yes(run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    part = tmp_path / "data" / "databases" / "neo4j"
    part.mkdir(parents=True)
    for answer, ends, stays in (("n\n", 1, True), ("y\n", 0, False)):
        monkeypatch.setattr("sys.stdin", io.StringIO(answer))
        code, out, _ = run("server", "empty", "--home", str(tmp_path))
        assert code == ends
        assert f"Remove everything from the database of `{tmp_path}`?" in out
        assert part.exists() is stays
    part.mkdir(parents=True)
    assert run("server", "empty", "--yes", "--home", str(tmp_path))[0] == 0
    assert not part.exists()


def test_the_files_of_our_own_server_are_left_alone_where_neo4j_uri_is_another(
    run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("db.server.default_home", lambda: tmp_path / "home")
    monkeypatch.setenv("NEO4J_URI", "bolt://127.0.0.1:7688")
    (tmp_path / "kept.dump").touch()
    write_graph(toy_graph(), tmp_path / "graph")
    for arguments in (
        ("dump", str(tmp_path / "a.dump")),
        ("restore", str(tmp_path / "kept.dump"), "--overwrite"),
        ("load", str(tmp_path / "graph"), "--bulk"),
    ):
        code, _, err = run(*arguments)
        assert code == 1
        assert "NEO4J_URI is bolt://127.0.0.1:7688, another server than that of" in err
        assert err.count("\n") == 1

"""`kglift query`, `shell` and `runs`: what they print, write and refuse."""

import io
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document
from prompt_toolkit.history import InMemoryHistory
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput

from db import saved_queries
from db.ladybug_store import LadybugConfig, LadybugStore
from kg.files import write_graph
from kg.graph import Graph
from kglift.cli import main
from kglift.errors import SettingError
from kglift.shell import Shell, completer_of, converse, run_script, split_statements
from tests.toy import toy_graph

NAMES = "MATCH (e:Entity) WHERE e.type = 'Genre' RETURN e.name AS name, [1, 2] AS list ORDER BY name"


@pytest.fixture
def at(tmp_path: Path) -> str:
    LadybugStore(LadybugConfig(tmp_path / "graph.lbug")).write(toy_graph())
    return str(tmp_path / "graph.lbug")


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]):
    def call(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stopped:
            main(list(arguments))
        out, err = capsys.readouterr()
        return int(stopped.value.code or 0), out, err

    return call


def test_an_answer_is_printed_or_written_in_each_format(run, at: str, tmp_path: Path) -> None:
    code, out, _ = run("query", NAMES, "--at", at)
    assert code == 0
    assert "comedy" in out
    rows = [{"name": "comedy", "list": [1, 2]}, {"name": "drama", "list": [1, 2]}]
    assert json.loads(run("query", NAMES, "--at", at, "--json")[1]) == rows
    assert run("query", NAMES, "--at", at, "-f", "csv")[1] == 'name,list\ncomedy,"[1, 2]"\ndrama,"[1, 2]"\n'
    for how in ("json", "csv", "parquet"):
        code, out, err = run("query", NAMES, "--at", at, "-f", how, "--out", str(tmp_path / how))
        assert (code, out) == (0, "")
        assert "2 rows" in err
    assert json.loads((tmp_path / "json").read_text()) == rows
    assert pq.read_table(tmp_path / "parquet").to_pylist() == rows
    assert (tmp_path / "csv").read_text().splitlines()[0] == "name,list"
    assert "exists already" in run("query", NAMES, "--at", at, "-f", "csv", "--out", str(tmp_path / "csv"))[2]


def test_a_query_is_a_text_a_file_or_a_name(run, at: str, tmp_path: Path) -> None:
    (tmp_path / "mine.cypher").write_text(NAMES)
    assert "comedy" in run("query", str(tmp_path / "mine.cypher"), "--at", at)[1]
    code, out, _ = run("query", "facts_of_entity", "--param", "entity_id=person:anna", "--at", at, "--json")
    assert code == 0
    assert len(json.loads(out)) == 3
    listed = run("query")[1]
    assert all(name in listed for name in saved_queries())


def test_the_name_of_a_file_says_its_form(run, at: str, tmp_path: Path) -> None:
    for name in ("a.parquet", "a.json", "a.csv"):
        assert run("query", NAMES, "--at", at, "-o", str(tmp_path / name))[0] == 0
    assert len(pq.read_table(tmp_path / "a.parquet")) == len(json.loads((tmp_path / "a.json").read_text())) == 2
    assert (tmp_path / "a.csv").read_text().splitlines()[0] == "name,list"


def test_what_an_answer_holds_is_printed_as_it_is(run, at: str) -> None:
    assert "a:star:b" in run("query", "RETURN 'a:star:b' AS x", "--at", at)[1]
    large = "UNWIND [9007199254740993, NULL] AS n RETURN n"
    assert run("query", large, "--at", at, "-f", "csv")[1].split() == ["n", "9007199254740993", '""']


def test_a_query_may_be_long_and_its_file_have_a_blank_in_its_name(run, at: str, tmp_path: Path) -> None:
    assert "x" in run("query", f"RETURN/*{'-' * 5_000}*/1/**/AS/**/x", "--at", at)[1]
    (tmp_path / "my query.cypher").write_text(NAMES)
    assert "comedy" in run("query", str(tmp_path / "my query.cypher"), "--at", at)[1]


def test_a_file_that_is_no_text_is_not_taken_for_a_query(run, at: str, tmp_path: Path) -> None:
    (tmp_path / "odd.cypher").write_bytes(b"RETURN '\xff' AS x")
    code, _, err = run("query", str(tmp_path / "odd.cypher"), "--at", at)
    assert code == 1
    assert "odd.cypher` is not UTF-8" in err


def test_rows_are_limited_and_it_is_said(run, at: str) -> None:
    code, out, err = run("query", NAMES, "--at", at, "--limit", "1", "--json")
    assert code == 0
    assert [row["name"] for row in json.loads(out)] == ["comedy"]
    assert "first 1 rows, there are more; raise --limit" in err
    assert "first" not in run("query", NAMES, "--at", at, "--limit", "2")[2]


def test_it_writes_only_with_leave(run, at: str) -> None:
    rename = "MATCH (e:Entity) WHERE e.entity_id = 'item:1' SET e.name = 'new'"
    code, _, err = run("query", rename, "--at", at)
    assert code == 1
    assert "may only read" in err
    assert run("query", rename, "--at", at, "--write")[0] == 0
    assert LadybugStore(LadybugConfig(Path(at))).read().names()["item:1"] == "new"


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["RETURN 1 AS x", "-f", "parquet"], 2, "--out FILE"),
        (["RETURN 1 AS x", "--limit", "0"], 2, "--limit"),
        (["RETURN 1 AS x", "--timeout", "-1"], 2, "-1 is no time"),
        (["RETURN 1 AS x", "--timeout", "nan"], 2, "nan is no time"),
        (["UNWIND range(1, 100000) AS a UNWIND range(1, 100000) AS b RETURN sum(a * b) AS x", "--timeout", "0.3"], 1,
         "longer than 0.3 s"),
        (["facts_of_entty"], 1, "did you mean `facts_of_entity`"),
        (["RETURN $x AS x"], 1, "--param x=VALUE"),
        (["RETURN 1 AS x", "--param", "x"], 1, "key=value"),
        (["RETURN $x AS x", "--param", f"x={2**63}"], 1, "is no integer of 64 bits"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_query_is_said(run, at: str, arguments: list[str], code: int, says: str) -> None:
    got, _, err = run("query", *arguments, "--at", at)
    assert got == code
    assert says in err


def test_what_a_model_wrote_does_not_steer_the_terminal(run, tmp_path: Path) -> None:
    graph = Graph.from_rows(entities=[{"entity_id": "e", "type": "T", "name": "\x1b]0;owned\x07\x1b[2Jred\x9b"}])
    LadybugStore(LadybugConfig(tmp_path / "odd.lbug")).write(graph)
    out = run("query", "MATCH (e:Entity) RETURN e.name AS name", "--at", str(tmp_path / "odd.lbug"))[1]
    assert "red" in out
    assert not {"\x1b", "\x07", "\x9b"} & set(out)


def test_runs_are_added_compared_and_taken_back(run, at: str, tmp_path: Path) -> None:
    base = read_graph_of(at)
    new = Graph.from_rows(
        entities=[row for row in base.entities.to_pylist() if row["entity_id"] in ("item:7", "mood:dark")],
        triples=[{"head": "item:7", "relation": "has_mood", "tail": "mood:dark", "confidence": 0.9, "source": "llm:n"}],
        sources=[{"source": "llm:n", "kind": "llm"}],
    )
    write_graph(toy_graph(), tmp_path / "old")
    write_graph(new, tmp_path / "new")
    assert run("runs", "add", "v1", str(tmp_path / "old"), "--at", at)[0] == 0
    assert run("runs", "add", "v2", str(tmp_path / "new"), "--at", at)[0] == 0
    assert json.loads(run("runs", "list", "--at", at, "--json")[1])["v2"] == ["llm:n"]
    _, out, err = run("runs", "diff", "v1", "v2", "--at", at, "--json")
    assert [row["after"] for row in json.loads(out) if row["change"] == "changed"] == [0.9]
    assert "1 changed, 22 removed" in err  # 10 facts, 10 members of hyperedges, 2 texts
    assert "no difference" in run("runs", "diff", "v1", "v1", "--at", at)[2]
    assert "no run `v3`; Known: v1, v2" in run("runs", "diff", "v1", "v3", "--at", at)[2]
    assert "1 triples" in run("runs", "delete", "v2", "--at", at)[2]
    assert read_graph_of(at).equals(base)
    assert "3 triples" in run("runs", "delete", "llm:aaaa", "--source", "--at", at)[2]
    assert len(read_graph_of(at).triples) == 10


def test_a_shell_reads_a_pipe(run, at: str, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = ":param day=0\nfacts_of_entity\n  entity_id=person:anna;\nRETURN 'a;b' // c;\n AS x;\n:queries\n:schema\n"
    monkeypatch.setattr("sys.stdin", io.StringIO(lines))
    code, out, err = run("shell", "--at", at)
    assert code == 0
    assert all(word in out for word in ("directed_by", "a;b", "coverage_by_relation", "Genre", "has_mood"))
    assert "$day = 0" in err
    assert "3 rows" in err


def test_a_pipe_keeps_comments_and_quotes_of_several_lines(run, at: str, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = "/* old:\nMATCH (n) DETACH DELETE n;\n*/\nRETURN size('a   \nb') AS x;\n/* end\n*/\n"
    monkeypatch.setattr("sys.stdin", io.StringIO(lines))
    code, out, _ = run("shell", "--write", "--at", at)
    assert (code, out.split()[-1]) == (0, "6")
    assert read_graph_of(at).equals(toy_graph())


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (["RETURN 1 AS x"], "no `;` at its end, or .*: RETURN 1"),
        (["/* RETURN 1;"], "no `;` at its end, or .*: /. RETURN 1;"),
        ([":quieries"], "no command `:quieries`"),
        ([":param x='a b"], "`x='a b` cannot be read: No closing quotation"),
    ],
)
def test_a_script_that_is_wrong_stops(at: str, lines: list[str], says: str) -> None:
    shell = Shell(LadybugStore(LadybugConfig(Path(at))), lambda table: None, lambda text: None)
    with pytest.raises(SettingError, match=says):
        run_script(shell, lines)


def test_a_sitting_at_a_terminal_goes_on_after_an_error(at: str) -> None:
    tables, said, history = [], [], InMemoryHistory()
    shell = Shell(LadybugStore(LadybugConfig(Path(at))), tables.append, said.append, max_rows=1)
    with create_pipe_input() as keys:
        keys.send_text("MTCH x;\r")
        keys.send_text("MATCH (e:Entity)\rWHERE e.type = 'Genre'\rRETURN e.name AS name ORDER BY name;\r")
        keys.send_text(":help\r\r:quit\r")
        converse(shell, history=history, source=keys, sink=DummyOutput())
    assert said[0].startswith("error: the query was refused")
    assert tables[0]["name"].to_pylist() == ["comedy"]
    assert "there are more" in said[1]
    assert "several lines" in said[2]
    assert any("RETURN e.name" in line for line in history.get_strings())


def test_completion_knows_the_store(at: str) -> None:
    completer = completer_of(Shell(LadybugStore(LadybugConfig(Path(at))), lambda table: None, lambda text: None))

    def offers(typed: str) -> list[str]:
        return [c.text for c in completer.get_completions(Document(typed), CompleteEvent())]

    assert offers("MATCH (e:Ent") == ["Entity"]
    assert offers("mat") == ["MATCH"]
    assert offers("MATCH (i)-[:HAS_G") == ["has_genre", "HAS_GENRE"]
    assert offers("MATCH (e:Entity {type: 'inter") == ["INTERACTED", "Interest"]
    assert "facts_of_entity" in offers("facts_o")
    assert offers("MATCH (e {n: 1}) ") != []


def test_completion_does_without_a_store_that_holds_nothing(tmp_path: Path) -> None:
    words = Shell(LadybugStore(LadybugConfig(tmp_path / "none")), lambda table: None, lambda text: None).words()
    assert {"MATCH", "Entity", "why_near"} <= set(words)


@given(st.lists(st.text("ab \n'\"`/*;", max_size=8), max_size=6))
def test_splitting_never_loses_a_statement(pieces: list[str]) -> None:
    text = ";".join(pieces)
    statements, rest = split_statements(text)
    again, rest_again = split_statements(";\n".join([*statements, rest]))
    assert (again, rest_again) == (statements, rest)


def read_graph_of(at: str) -> Graph:
    return LadybugStore(LadybugConfig(Path(at))).read()

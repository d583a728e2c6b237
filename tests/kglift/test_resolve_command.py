"""`kglift resolve` is a dry run whose decisions `kglift fuse` applies."""

import json
from pathlib import Path

import pytest

from kg.files import read_graph, write_graph
from kg.graph import Graph, concat
from kglift.cli import main
from tests.toy import toy_graph


def run(*arguments: object) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([str(a) for a in arguments])
    assert stopped.value.code == 0


def test_decisions_are_shown_stored_and_applied(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mood = {"entity_id": "mood:darkk", "type": "Mood", "name": "quite dark mood"}
    other = {"entity_id": "mood:darker", "type": "Mood", "name": "quite dark moods"}
    graph = concat(toy_graph(), Graph.from_rows(entities=[mood, other]))
    write_graph(graph, tmp_path / "base")
    run("resolve", tmp_path / "base", "-o", tmp_path / "same.json", "--set", "min_name_similarity=0.7", "--json")
    (decision,) = json.loads(capsys.readouterr().out)["decisions"]
    assert (decision["entity_id"], decision["canonical_id"]) == ("mood:darkk", "mood:darker")
    assert read_graph(tmp_path / "base").equals(graph)
    run("resolve", tmp_path / "base")
    assert "0 entities would go" in capsys.readouterr().out
    run("fuse", tmp_path / "base", tmp_path / "base", "-o", tmp_path / "f", "--set", f"decisions={tmp_path}/same.json")
    assert "mood:darkk" not in read_graph(tmp_path / "f").names()

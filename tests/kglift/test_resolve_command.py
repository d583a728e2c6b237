"""`kglift resolve` is a dry run whose decisions `kglift fuse` applies and `kglift unmerge` takes back."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from kg.files import read_graph, write_graph
from kg.graph import Graph, concat
from kglift import fusing
from kglift.cli import main
from tests.toy import toy_graph


def run(*arguments: object, code: int = 0) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([str(a) for a in arguments])
    assert stopped.value.code == code


def graph_with_two_moods() -> Graph:
    mood = {"entity_id": "mood:darkk", "type": "Mood", "name": "quite dark mood"}
    other = {"entity_id": "mood:darker", "type": "Mood", "name": "quite dark moods"}
    return concat(toy_graph(), Graph.from_rows(entities=[mood, other]))


def test_fusion_says_what_it_did_and_the_baseline_does_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_graph(graph_with_two_moods(), tmp_path / "base")
    bert = {"entity_id": "person:bert", "type": "Person", "name": "Bert"}
    item = next(row for row in toy_graph().entities.to_pylist() if row["entity_id"] == "item:5")
    fact = {"head": "item:5", "relation": "directed_by", "tail": "person:bert", "confidence": 0.5, "source": "llm:d"}
    said = {"source": "llm:d", "kind": "llm", "reply_sha": "d"}
    write_graph(Graph.from_rows(entities=[bert, item], triples=[fact], sources=[said]), tmp_path / "more")
    both = (tmp_path / "base", tmp_path / "more")
    run("fuse", *both, "-o", tmp_path / "f", "--set", "min_name_similarity=0.7", "--set", 'functional=["directed_by"]')
    shown = {line[:45].strip(): line[45:].strip() for line in capsys.readouterr().out.splitlines()}
    assert shown["entities merged into others"] == "1"
    kept = json.loads((tmp_path / "f" / "fusion.json").read_text(encoding="utf-8"))["conflicts"]
    assert shown["conflicts: functional"] == str(len(kept)) != "0"
    run("fuse", *both, "-o", tmp_path / "direct", "--direct")
    assert "person:bert" in read_graph(tmp_path / "direct").names()
    assert set(read_graph(tmp_path / "direct").triples["confidence"].to_pylist()) == {1.0}
    run("fuse", *both, "-o", tmp_path / "g", "--direct", "--set", "max_cluster=2", code=2)
    assert "--direct leaves nothing to set" in capsys.readouterr().err


def test_decisions_are_shown_stored_and_applied(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    graph = graph_with_two_moods()
    write_graph(graph, tmp_path / "base")
    run("resolve", tmp_path / "base", "-o", tmp_path / "same.json", "--set", "min_name_similarity=0.7", "--json")
    (decision,) = json.loads(capsys.readouterr().out)["decisions"]
    assert (decision["entity_id"], decision["canonical_id"]) == ("mood:darkk", "mood:darker")
    assert read_graph(tmp_path / "base").equals(graph)
    run("resolve", tmp_path / "base")
    assert "0 entities would go" in capsys.readouterr().out
    run("fuse", tmp_path / "base", tmp_path / "base", "-o", tmp_path / "f", "--set", f"decisions={tmp_path}/same.json")
    assert "mood:darkk" not in read_graph(tmp_path / "f").names()


def test_merges_are_shown_and_taken_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_graph(graph_with_two_moods(), tmp_path / "base")
    run("fuse", tmp_path / "base", tmp_path / "base", "-o", tmp_path / "fused", "--set", "min_name_similarity=0.7")
    places = (tmp_path / "fused", tmp_path / "base", tmp_path / "base")
    capsys.readouterr()
    run("unmerge", *places)
    shown = capsys.readouterr().out
    assert "1 entity would be apart again" in shown
    assert "letters 0." in shown
    run("unmerge", *places, "-o", tmp_path / "apart", "--only", "mood:darkk", "--json")
    found = json.loads(capsys.readouterr().out)
    assert ([row["entity_id"] for row in found["back"]], found["still_merged"]) == (["mood:darkk"], [])
    assert read_graph(tmp_path / "apart").equals(graph_with_two_moods().canonical())
    run("unmerge", tmp_path / "apart", *places[1:], "--only", "mood:darkk", code=1)
    assert "`mood:darkk` was not merged into another entity" in capsys.readouterr().err


def test_a_directory_that_no_fusion_wrote_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_graph(toy_graph(), tmp_path / "base")
    run("unmerge", tmp_path / "base", tmp_path / "base", code=1)
    assert "fusion.json` is no report of a fusion" in capsys.readouterr().err


def test_an_encoder_is_asked_about_titles_that_an_extraction_does_not_find(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    named = [
        {**e, "name": "Sun" if e["entity_id"] == "item:3" else e["name"]} for e in toy_graph().entities.to_pylist()
    ]
    write_graph(toy_graph().replace(entities=Graph.from_rows(entities=named).entities), tmp_path / "base")
    said = {"unit": "item:1", "text": json.dumps({"similar_to": ["Our star"]})}
    (tmp_path / "said.jsonl").write_text(json.dumps(said), encoding="utf-8")
    monkeypatch.setattr(fusing, "fetch", lambda name, _tell: tmp_path / name)

    def encode(texts: Sequence[str]) -> np.ndarray:
        return np.array([[1.0, 9.0 * (text in ("sun", "our star"))] for text in texts], np.float32)

    monkeypatch.setattr("extract.encode.SentenceEncoder", lambda _folder, _memory: encode)
    ask = ("extract", tmp_path / "base", "--provider", "replay", "--llm", f"path={tmp_path}/said.jsonl", "--quiet")
    ask += ("--ledger", tmp_path / "ledger", "--set", 'relations=["similar_to"]', "--set", "max_items=1", "--json")
    run(*ask, "-o", tmp_path / "without")
    assert json.loads(capsys.readouterr().out)["ungrounded_share"] == 1.0
    run(*ask, "-o", tmp_path / "with", "--set", "min_meaning=0.9")
    assert json.loads(capsys.readouterr().out)["ungrounded_share"] == 0.0
    assert read_graph(tmp_path / "with").triples["tail"].to_pylist() == ["item:3"]


def test_an_encoder_is_asked_where_a_meaning_is_demanded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_graph(graph_with_two_moods(), tmp_path / "base")
    monkeypatch.setattr(fusing, "fetch", lambda name, _tell: tmp_path / name)
    same = lambda texts: np.ones((len(texts), 2), np.float32)  # noqa: E731
    monkeypatch.setattr("extract.encode.SentenceEncoder", lambda _folder, _memory: same)
    run("resolve", tmp_path / "base", "--set", "min_meaning=0.9")
    assert "meaning 1.00" in capsys.readouterr().out
    run("fuse", tmp_path / "base", tmp_path / "base", "-o", tmp_path / "f", "--set", "min_meaning=0.9", "--json")
    assert json.loads(capsys.readouterr().out)["merged"][0]["entity_id"] == "mood:darkk"

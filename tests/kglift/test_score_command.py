"""`kglift extract score` prints what the library counts."""

import json
from pathlib import Path

import pytest

from kglift.cli import main


def files(folder: Path) -> list[str]:
    gold = {"id": "1", "sent": "Heat by Mann", "triples": [{"sub": "Heat", "rel": "director", "obj": "Mann"}]}
    (folder / "gold.jsonl").write_text(json.dumps(gold), "utf-8")
    ontology = {"concepts": [{"label": "film"}], "relations": [{"label": "director"}]}
    (folder / "ontology.json").write_text(json.dumps(ontology), "utf-8")
    (folder / "said.jsonl").write_text('{"id": "1", "response": "director(Heat,Mann)\\ngenre(Heat,drama)"}', "utf-8")
    return ["extract", "score", str(folder / "gold.jsonl"), "--ontology", str(folder / "ontology.json")]


def run(arguments: list[str], status: int = 0) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == status


def test_answers_are_scored_by_relation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run([*files(tmp_path), "--answers", str(tmp_path / "said.jsonl"), "--json"])
    found = json.loads(capsys.readouterr().out)["said.jsonl"]
    assert (found["published"]["f1"], found["strict"]["precision"], found["conformance"]) == (1.0, 0.5, 0.5)
    assert found["relations"]["director"]["right"] == 1


def test_a_table_has_a_column_for_each_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = str(tmp_path / "said.jsonl")
    run([*files(tmp_path), "--answers", said])
    out = capsys.readouterr().out
    assert "1 sentences" in out
    assert "said.jsonl" in out
    assert "1.000" in out


def test_nothing_to_score_is_one_clear_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(files(tmp_path), 1)
    assert "there is nothing to score; give --answers FILE" in capsys.readouterr().err

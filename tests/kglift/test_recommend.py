"""`kglift recommend` names the items, filters them, and serves everybody into a file."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from kg.files import write_graph
from kglift.cli import main
from tests.toy import toy_graph


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    root = tmp_path_factory.mktemp("recommend")
    graph, model = str(root / "graph"), str(root / "model")
    write_graph(toy_graph(), root / "graph")
    assert run("train", graph, "--model", "lightgcn", "--out", model, "--set", "epochs=2", "--quiet") == 0
    return graph, model


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stopped:
        main(list(arguments))
    return int(stopped.value.code or 0)


def test_items_come_with_names_and_a_reason(
    places: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "only").write_text("item:5\nitem:6\nitem:7\n")
    (tmp_path / "block").write_text("item:6\n")
    filters = ["--only", str(tmp_path / "only"), "--block", str(tmp_path / "block")]
    assert run("recommend", *places, "--user", "user:1", *filters, "--json") == 0
    rows = json.loads(capsys.readouterr().out)
    names = toy_graph().names()
    assert {r["item_id"] for r in rows} == {"item:5", "item:7"}
    assert all(r["item"] == names[r["item_id"]] and r["why"] in ("vectors", "graph") for r in rows)


def test_everybody_is_served_into_a_file(
    places: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "all.parquet"
    assert run("recommend", *places, "--all", "-k", "2", "--out", str(out), "--quiet") == 0
    assert "6 users; " in capsys.readouterr().err
    assert pq.read_table(out).num_rows == 12


def test_either_some_users_or_all(places: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([], ["--all", "--user", "user:1"]):
        assert run("recommend", *places, *arguments) == 2
        assert "give either --user or --all" in capsys.readouterr().err

"""`python -m gnn` trains and evaluates with what a GPU box has, and fails in one line."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from gnn.__main__ import main
from gnn.recommender import Recommender
from kg.files import write_graph
from tests.toy import toy_graph

HEAVY = "torch_geometric rdflib pydantic typer rich openai neo4j ladybug matplotlib networkx jinja2"


@pytest.fixture
def graph(tmp_path: Path) -> str:
    write_graph(toy_graph(), tmp_path / "graph")
    return str(tmp_path / "graph")


def test_train_then_evaluate(graph: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "model")
    assert main(["train", graph, "--model", "lightgcn", "--out", out, "--set", "epochs=4", "--set", "dim=8"]) == 0
    said = capsys.readouterr()
    assert "lightgcn, 4 epochs" in said.out
    assert "epoch 4/4" in said.err
    assert main(["evaluate", graph, out, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["n_users"] == 6
    assert set(result["metrics"]) >= {"recall@20", "ndcg@10"}
    assert main(["evaluate", graph, out, "--split", "valid"]) == 0
    assert "valid, 6 users" in capsys.readouterr().out


def test_models_are_compared_user_by_user(graph: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    users = {name: str(tmp_path / f"{name}.parquet") for name in ("ease", "popularity")}
    for name, file in users.items():
        out = str(tmp_path / name)
        assert main(["train", graph, "--model", name, "--out", out]) == 0
        assert main(["evaluate", graph, out, "--per-user", file, "--legacy"]) == 0
        assert "ndcg_kgat_legacy@20" in capsys.readouterr().out
    assert main(["compare", *users.values(), "--metric", "ndcg@20", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["comparisons"]
    assert (row["model"], row["against"], row["n_users"]) == (users["ease"], users["popularity"], 6)
    assert row["low"] <= row["difference"] <= row["high"]
    assert main(["compare", *users.values()]) == 0
    assert "ndcg_kgat_legacy@10" in capsys.readouterr().out
    assert main(["evaluate", graph, str(tmp_path / "ease"), "--per-user", users["ease"]]) == 1
    assert "exists already" in capsys.readouterr().err


def test_settings_override_the_file(graph: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "c.toml").write_text("[lightgcn]\nepochs = 9\ndim = 4\n[kgat]\nepochs = 1\n")
    arguments = ["train", graph, "--model", "lightgcn", "--config", str(tmp_path / "c.toml"), "--set", "epochs=3"]
    assert main([*arguments, "--out", str(tmp_path / "model"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["epochs"] == 3
    manifest = json.loads((tmp_path / "model" / "manifest.json").read_text())
    assert manifest["model_config"]["dim"] == 4


def test_models_are_listed_with_their_parameters(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert list(listed) == list(Recommender.members())
    assert listed["ease"]["parameters"] == {"l2": 300.0, "precision": "float64"}
    assert main(["models"]) == 0
    assert "n_layers=3" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["evaluate", "GRAPH", "nowhere"], "error: `nowhere` is no directory"),
        (["train", "nowhere", "--model", "ease", "--out", "x"], "error: `nowhere` is no directory"),
        (["train", "GRAPH", "--model", "eas", "--out", "x"], "error: unknown recommender `eas`; did you mean `ease`?"),
        (["train", "GRAPH", "--model", "ease", "--out", "x", "--set", "l3=1"], "error: unknown parameter `l3`"),
        (["evaluate", "GRAPH", "GRAPH"], "expected `kglift-model`"),
    ],
)
def test_errors_are_one_line_and_exit_1(
    graph: str, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([graph if a == "GRAPH" else a for a in arguments]) == 1
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_ctrl_c_exits_130(graph: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("gnn.__main__.train", interrupted)
    assert main(["train", graph, "--model", "ease", "--out", "x"]) == 130
    assert "goes on from the last checkpoint" in capsys.readouterr().err


def test_help_shows_an_example_and_nothing_heavy_is_imported() -> None:
    code = (
        "import sys; from gnn.__main__ import main\n"
        "try: main(['train', '--help'])\n"
        "except SystemExit: pass\n"
        f"main(['models']); print('HEAVY', sorted(set({HEAVY!r}.split()) & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "python -m gnn train runs/graph --model lightgcn --out runs/lightgcn" in done.stdout
    assert "HEAVY []" in done.stdout

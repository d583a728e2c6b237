"""Bad input: one clear line that says what, where and what to do next; exit 1; nothing already made is lost."""

import json
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from kg.files import read_graph, write_graph
from kg.graph import Graph
from kglift.cli import main
from tests.toy import toy_graph

Cli = Callable[..., str]


@pytest.fixture
def refuse(capsys: pytest.CaptureFixture[str]) -> Cli:
    """Run a command that must fail, and return its one line."""

    def call(*arguments: str) -> str:
        with pytest.raises(SystemExit) as stopped:
            main(list(arguments))
        told = capsys.readouterr().err
        assert stopped.value.code == 1
        assert "Traceback" not in told
        lines = [line for line in told.splitlines() if line.startswith("error:")]
        assert len(lines) == 1
        return lines[0]

    return call


@pytest.fixture
def graph_dir(tmp_path: Path) -> Path:
    write_graph(toy_graph(), tmp_path / "graph")
    return tmp_path / "graph"


def table(path: Path, text: str | bytes) -> str:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


def test_an_unknown_column(refuse: Cli, tmp_path: Path) -> None:
    path = table(tmp_path / "r.csv", "who,what\n1,2\n")
    line = refuse(
        "data", "read", "table", path, "-o", str(tmp_path / "out"), "--set", "user=whom", "--set", "item=what"
    )
    assert "`whom`" in line
    assert "who" in line
    assert not (tmp_path / "out").exists()


def test_a_missing_column(refuse: Cli, tmp_path: Path) -> None:
    table(tmp_path / "toy.inter", "user_id:token\trating:float\n1\t2\n")
    assert "`item_id`" in refuse("data", "read", "recbole", str(tmp_path), "-o", str(tmp_path / "out"))


def test_a_value_of_a_wrong_type_names_its_line(refuse: Cli, tmp_path: Path) -> None:
    table(tmp_path / "toy.inter", "user_id:token\titem_id:token\ttimestamp:float\n1\t2\t3\n1\t3\tsoon\n")
    line = refuse("data", "read", "recbole", str(tmp_path), "-o", str(tmp_path / "out"))
    assert "soon" in line
    assert "3" in line


def test_text_that_is_not_utf8(refuse: Cli, tmp_path: Path) -> None:
    path = table(tmp_path / "r.csv", "user,item\n1,caf\xe9\n".encode("latin-1"))
    line = refuse(
        "data", "read", "table", path, "-o", str(tmp_path / "out"), "--set", "user=user", "--set", "item=item"
    )
    assert "UTF-8" in line


def test_a_duplicate_id(refuse: Cli, tmp_path: Path) -> None:
    table(tmp_path / "toy.inter", "user_id:token\titem_id:token\n1\t2\n")
    table(tmp_path / "toy.item", "item_id:token\tmovie_title:token_seq\n2\tA\n2\tB\n")
    line = refuse("data", "read", "recbole", str(tmp_path), "-o", str(tmp_path / "out"))
    assert "more than once" in line


def test_an_unknown_id(refuse: Cli, graph_dir: Path) -> None:
    line = refuse("explain", "99", "item:1", "--graph", str(graph_dir))
    assert "no User is called `99`" in line


def test_an_empty_split(refuse: Cli, tmp_path: Path) -> None:
    table(tmp_path / "toy.inter", "user_id:token\titem_id:token\ttimestamp:float\n1\t2\t1\n2\t2\t1\n")
    with pytest.raises(SystemExit):
        main(["data", "read", "recbole", str(tmp_path), "-o", str(tmp_path / "read")])
    line = refuse(
        "data", "split", str(tmp_path / "read"), "-o", str(tmp_path / "out"), "--set", "method=leave_last_out"
    )
    assert "empty" in line
    assert not (tmp_path / "out").exists()


def test_a_graph_that_is_not_split(refuse: Cli, graph_dir: Path, tmp_path: Path) -> None:
    graph = toy_graph()
    plain = graph.interactions.set_column(4, "split", [["unsplit"] * len(graph.interactions)])
    write_graph(graph.replace(interactions=plain), tmp_path / "unsplit")
    line = refuse("train", str(tmp_path / "unsplit"), "-o", str(tmp_path / "model"))
    assert "kglift data split" in line


def test_another_format_version(refuse: Cli, graph_dir: Path) -> None:
    manifest = json.loads((graph_dir / "manifest.json").read_text())
    (graph_dir / "manifest.json").write_text(json.dumps({**manifest, "version": 99}))
    assert "format version 99" in refuse("stats", str(graph_dir))


def test_a_half_written_directory(refuse: Cli, graph_dir: Path) -> None:
    (graph_dir / "triples.parquet").unlink()
    assert "lacks `triples.parquet`" in refuse("stats", str(graph_dir))


def test_a_directory_that_is_taken_is_left_alone(refuse: Cli, graph_dir: Path) -> None:
    line = refuse("data", "split", str(graph_dir), "-o", str(graph_dir))
    assert "exists already" in line
    assert read_graph(graph_dir).equals(toy_graph())


def test_a_full_disk_leaves_what_was_there(graph_dir: Path, tmp_path: Path) -> None:
    def small_files() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, 2_000))

    command = [sys.executable, "-m", "kglift", "fuse", str(graph_dir), str(graph_dir), "-o", str(graph_dir)]
    done = subprocess.run(
        [*command, "--overwrite"], capture_output=True, text=True, preexec_fn=small_files, timeout=60, check=False
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert f"cannot write `{graph_dir}`" in done.stderr
    assert read_graph(graph_dir).equals(toy_graph())
    assert not list(tmp_path.glob(".*partial*"))


def test_a_full_disk_that_the_output_goes_to_is_no_bug() -> None:
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        command = [sys.executable, "-m", "kglift", "members", "--json"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    assert (done.returncode, "bug" in done.stderr) == (1, False)
    assert "No space left on device" in done.stderr


def test_a_missing_key(refuse: Cli, graph_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KGLIFT_LLM_BASE_URL", "http://127.0.0.1:9/v1")
    monkeypatch.setenv("KGLIFT_LLM_MODEL", "some-model")
    monkeypatch.delenv("KGLIFT_LLM_API_KEY", raising=False)
    line = refuse("extract", str(graph_dir), "-o", str(tmp_path / "facts"), "--ledger", str(tmp_path / "l.sqlite"))
    assert "KGLIFT_LLM_API_KEY is not set" in line


def test_an_endpoint_without_a_model(refuse: Cli, graph_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KGLIFT_LLM_BASE_URL", "http://127.0.0.1:9/v1")
    monkeypatch.delenv("KGLIFT_LLM_MODEL", raising=False)
    assert "set KGLIFT_LLM_MODEL" in refuse("extract", str(graph_dir), "-o", "never")


def test_an_unreachable_endpoint(refuse: Cli, graph_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KGLIFT_LLM_BASE_URL", "http://127.0.0.1:9/v1")
    monkeypatch.setenv("KGLIFT_LLM_MODEL", "some-model")
    monkeypatch.setenv("KGLIFT_LLM_API_KEY", "secret-word")
    limits = ("--engine", "max_retries=0", "--ledger", str(tmp_path / "l.sqlite"), "--quiet")
    line = refuse("extract", str(graph_dir), "-o", str(tmp_path / "facts"), *limits)
    assert "127.0.0.1:9" in line
    assert "secret-word" not in line


def test_an_unreachable_database(refuse: Cli, graph_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEO4J_URI", "bolt://127.0.0.1:9")
    monkeypatch.setenv("NEO4J_PASSWORD", "secret-word")
    line = refuse("load", str(graph_dir), "--store", "neo4j", "--quiet")
    assert "127.0.0.1:9" in line
    assert "secret-word" not in line


def test_no_database_named(refuse: Cli, graph_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NEO4J_URI", raising=False)
    assert "make neo4j" in refuse("load", str(graph_dir), "--store", "neo4j")


@pytest.mark.parametrize(
    "cypher", ["COPY (RETURN 1) TO '{path}'", "LOAD FROM '{path}' RETURN *", "EXPORT DATABASE '{path}'"]
)
def test_a_query_cannot_reach_files(refuse: Cli, graph_dir: Path, tmp_path: Path, cypher: str) -> None:
    store, victim = str(tmp_path / "g.lbug"), tmp_path / "victim.csv"
    victim.write_text("mine")
    with pytest.raises(SystemExit):
        main(["load", str(graph_dir), "--at", store, "--quiet"])
    line = refuse("query", cypher.format(path=victim), "--at", store)
    assert "outside the store" in line
    assert victim.read_text() == "mine"


def test_a_store_that_is_not_there(refuse: Cli, tmp_path: Path) -> None:
    line = refuse("query", "MATCH (n) RETURN n", "--at", str(tmp_path / "none.lbug"))
    assert "kglift load" in line


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("run", "dmo"), "did you mean `demo`"),
        (("data", "get", "ml100k"), "did you mean `ml-100k`"),
        (("data", "read", "recbol", ".", "-o", "x"), "did you mean `recbole`"),
        (("run", "demo", "--set", "bench.n_sedes=3"), "did you mean `n_seeds`"),
        (("run", "demo", "--set", "bench.n_seeds"), "not of the form key=value"),
        (("stats", "nowhere"), "`nowhere` is no directory"),
    ],
)
def test_a_slip_of_the_pen(refuse: Cli, arguments: tuple[str, ...], said: str) -> None:
    assert said in refuse(*arguments)


def test_debug_shows_the_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--debug", "stats", "nowhere"])
    assert "Traceback" in capsys.readouterr().err


def test_wrong_usage_is_exit_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["stats"])
    assert stopped.value.code == 2
    assert "Missing argument" in capsys.readouterr().err


def test_an_empty_graph_is_described_not_divided_by(tmp_path: Path) -> None:
    write_graph(Graph.from_rows(), tmp_path / "empty")
    with pytest.raises(SystemExit) as stopped:
        main(["stats", str(tmp_path / "empty"), "--json"])
    assert stopped.value.code == 0

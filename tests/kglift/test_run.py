"""`kglift run` on toy data: every stage, resumed, killed at every stage, always to the same end."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from extract.ledger import Ledger
from extract.ledger_rows import UnitState, settle_units
from kg.files import read_graph
from kg.progress import silent
from kg.terms import TRAIN
from kglift.bench import _ctrl_c_is_ours
from kglift.cli import main
from kglift.pipeline import _replace_store
from kglift.stores import open_store
from tests.extract.mock_api import answer, mock_api
from tests.kglift.toyrun import write_toy_run

_STAGES = ("data", "extract-item_facts", "extract-llmhg", "fuse", "bench", "explain", "store")


@pytest.fixture(autouse=True)
def _no_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NEO4J_URI", "KGLIFT_LLM_BASE_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A run that nothing disturbed: its plan and its directory."""
    folder = tmp_path_factory.mktemp("toyrun")
    plan = write_toy_run(folder)
    assert run("run", str(plan), "--out", str(folder / "run"), "--quiet") == 0
    return plan, folder / "run"


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stopped:
        main(list(arguments))
    return int(stopped.value.code or 0)


def lasting(value: Any) -> Any:
    """Leave out what may differ between two runs to the same end: times, and how often something was asked."""
    passing = ("second", "about", "cached", "asked", "calls", "retries", "_per_s", "prompt_tokens", "completion_tokens")
    if isinstance(value, dict):
        return {k: lasting(v) for k, v in value.items() if not any(word in k for word in passing)}
    return [lasting(v) for v in value] if isinstance(value, list) else value


def report_of(root: Path) -> Any:
    return lasting(json.loads((root / "report.json").read_text(encoding="utf-8")))


def test_every_stage_leaves_a_whole_directory(finished: tuple[Path, Path]) -> None:
    _, root = finished
    assert all((root / stage / "manifest.json").exists() for stage in _STAGES)
    assert (root / "report.html").read_text(encoding="utf-8").lower().startswith("<!doctype html>")
    assert not list(root.rglob("*.partial-*"))


def test_the_fused_graph_holds_the_facts_of_both(finished: tuple[Path, Path]) -> None:
    graph = read_graph(finished[1] / "fuse")
    assert {"film.film.genre", "has_mood", "has_theme", "has_interest"} <= set(graph.triples["relation"].to_pylist())
    assert len(graph.hyperedges) > 0
    assert len(graph.interactions_of(TRAIN)) > 0


def test_the_report_compares_what_was_planned(finished: tuple[Path, Path]) -> None:
    rows = report_of(finished[1])["comparison"]["rows"]
    compared = {(row["model"], row["graph"]) for row in rows}
    assert compared == {("popularity", "none"), *(("lightgcn", g) for g in ("none", "kg", "kg+llm", "kg+random"))}


def test_two_seeds_are_not_enough_for_a_claim(finished: tuple[Path, Path]) -> None:
    verdict = report_of(finished[1])["verdict"]
    assert verdict["outcome"] == "not_enough_evidence"
    assert verdict["n_seeds"] == 2


def test_a_finished_run_does_nothing_again(finished: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    plan, root = finished
    before = report_of(root)
    assert run("run", str(plan), "--out", str(root), "--quiet") == 0
    assert capsys.readouterr().err.count("done already") == len(_STAGES)
    assert report_of(root) == before


def test_units_set_aside_are_in_the_exit_status_and_the_last_line_of_a_finished_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan, root = write_toy_run(tmp_path), tmp_path / "run"
    answers = [json.loads(line) for line in (tmp_path / "answers.jsonl").read_text(encoding="utf-8").splitlines()]
    said = [one | {"text": "no"} if one["unit"] in ("item:3", "user:1") else one for one in answers]
    (tmp_path / "answers.jsonl").write_text("\n".join(map(json.dumps, said)), encoding="utf-8")
    assert run("run", str(plan), "--out", str(root), "--until", "data", "--quiet") == 0, "nothing was asked yet"
    for _ in ("made", "found done"):
        assert run("run", str(plan), "--out", str(root), "--quiet") == 3
        last = capsys.readouterr().err.splitlines()[-1]
        assert last.startswith(f"units set aside: 2; `kglift extract status --ledger {root}/ledger.sqlite`")
    assert [one["set_aside"] for one in report_of(root)["extractions"]] == [1, 1]


class Moody:
    """An endpoint that answers the toy run's questions, but for one item with what cannot be read."""

    def __init__(self) -> None:
        self.is_cured = False

    def __call__(self, body: dict[str, Any], n: int) -> Any:
        asked = body["messages"][1]["content"]
        if "angles" in body["response_format"]["json_schema"]["schema"]["properties"]:
            kinds = [{"category": "favourites", "items": [1, 2, 3]}]
            return answer(json.dumps({"angles": [{"angle": "mood", "categories": kinds}]}))
        is_ill = "Film number 3\n" in asked and not self.is_cured
        return answer("no" if is_ill else json.dumps({"has_theme": [], "has_mood": ["dark"]}))


@pytest.fixture
def moody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Moody, tuple[str, ...]]]:
    """The endpoint, and the command that runs the toy run with it as far as the fused graph."""
    plan, behave = write_toy_run(tmp_path), Moody()
    monkeypatch.setenv("KGLIFT_LLM_API_KEY", "key")
    with mock_api(behave) as api:
        who = f'provider = "openai_api"\nconfig = {{ base_url = "{api.base_url}", model = "m" }}'
        text = re.sub(r'provider = "replay"\nconfig = .*', who, plan.read_text(encoding="utf-8"))
        plan.write_text(text, encoding="utf-8")
        yield behave, ("run", str(plan), "--out", str(tmp_path / "run"), "--until", "fuse", "--quiet")


def test_what_retry_reopened_is_asked_in_the_same_directory(
    moody: tuple[Moody, tuple[str, ...]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    behave, command = moody
    ledger = str(tmp_path / "run" / "ledger.sqlite")
    assert run(*command) == 3
    capsys.readouterr()
    assert run(*command) == 3
    assert capsys.readouterr().err.count("done already") == 4, "nothing is asked again unless somebody wants it"
    behave.is_cured = True
    assert run("extract", "retry", "--ledger", ledger) == 0
    capsys.readouterr()
    assert run(*command) == 0
    assert re.findall(r"(\S+)  started", capsys.readouterr().err) == ["extract-item_facts", "fuse"]
    summary = json.loads((tmp_path / "run" / "extract-item_facts" / "summary.json").read_text(encoding="utf-8"))
    assert (summary["asked"], summary["set_aside"]) == (1, 0)
    facts = read_graph(tmp_path / "run" / "fuse").triples.to_pylist()
    assert any(t["head"] == "item:3" and t["relation"] == "has_mood" for t in facts)


def test_a_repair_counts_though_the_run_was_killed_before_it_was_written(
    moody: tuple[Moody, tuple[str, ...]], tmp_path: Path
) -> None:
    behave, command = moody
    assert run(*command) == 3
    behave.is_cured = True
    with Ledger(tmp_path / "run" / "ledger.sqlite") as ledger:
        (aside,) = [one.run for one in ledger.runs() if ledger.retire(one.run)]
        ledger.write(settle_units(aside, [UnitState("item:3", 3, "done", 1, "")]))  # as a run leaves it that is killed
    assert run(*command) == 0
    facts = read_graph(tmp_path / "run" / "extract-item_facts").triples.to_pylist()
    assert any(t["head"] == "item:3" for t in facts)


def test_other_prices_leave_the_models_alone(
    finished: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan, root = finished
    shutil.copytree(root, tmp_path / "run")
    priced = ("--set", "engine.prompt_price=1")
    assert run("run", str(plan), "--out", str(tmp_path / "run"), *priced, "--quiet") == 0
    told = capsys.readouterr().err
    assert [stage for stage in _STAGES if f"{stage}  started" in told] == ["extract-item_facts", "extract-llmhg"]


def test_until_stops_early(tmp_path: Path) -> None:
    plan = write_toy_run(tmp_path)
    assert run("run", str(plan), "--out", str(tmp_path / "run"), "--until", "data", "--quiet") == 0
    assert (tmp_path / "run" / "data").exists()
    assert not (tmp_path / "run" / "fuse").exists()


def test_after_a_change_the_store_holds_the_new_graph_only(finished: tuple[Path, Path], tmp_path: Path) -> None:
    plan, root = finished
    again = tmp_path / "run"
    shutil.copytree(root, again)
    fewer = tmp_path / "fewer.toml"
    fewer.write_text(plan.read_text(encoding="utf-8").replace("max_users = 10", "max_users = 4"), encoding="utf-8")
    assert run("run", str(fewer), "--out", str(again), "--until", "fuse", "--quiet") == 0
    assert len(read_graph(again / "fuse").hyperedges) < len(read_graph(root / "fuse").hyperedges)
    load_graph_of(again)
    with open_store("ladybug", str(again / "graph.lbug")) as store:
        assert store.read().equals(read_graph(again / "fuse"))


def test_what_was_deleted_is_made_again(finished: tuple[Path, Path], tmp_path: Path) -> None:
    plan, root = finished
    again = tmp_path / "run"
    shutil.copytree(root, again)
    (again / "graph.lbug").unlink()
    shutil.rmtree(again / "jobs")
    shutil.rmtree(again / "explain")
    assert run("run", str(plan), "--out", str(again), "--quiet") == 0
    assert (again / "graph.lbug").exists()
    assert report_of(again) == report_of(root)


def load_graph_of(root: Path) -> None:
    _replace_store(read_graph(root / "fuse"), root / "graph.lbug", silent)


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT], ids=["kill", "interrupt"])
@pytest.mark.parametrize("stage", _STAGES)
def test_a_run_stopped_in_any_stage_comes_to_the_same_end(
    finished: tuple[Path, Path], tmp_path: Path, stage: str, how: signal.Signals
) -> None:
    plan, undisturbed = finished
    command = [sys.executable, "-m", "kglift", "run", str(plan), "--out", str(tmp_path / "run")]
    _stop_in(command, stage, how)
    assert subprocess.run(command, capture_output=True, timeout=240, check=False).returncode == 0
    assert report_of(tmp_path / "run") == report_of(undisturbed)
    assert read_graph(tmp_path / "run" / "fuse").equals(read_graph(undisturbed / "fuse"))


def _stop_in(command: list[str], stage: str, how: signal.Signals) -> None:
    """Start a run and stop it a moment after it says that `stage` started."""
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stderr is not None
    for line in process.stderr:
        if line.split() == [stage, "started"]:
            time.sleep(0.1 if stage != "bench" else 3.0)
            os.killpg(process.pid, how)
            break
    told = process.communicate(timeout=60)[1]
    if process.returncode == 0:  # CPython drops an interrupt that falls into a callback of its own, and says so
        assert "Exception ignored" in told or "report  done" in told
        return
    assert process.returncode == (-how if how == signal.SIGKILL else 130), told
    assert "Traceback" not in told


def test_an_interrupt_that_another_thread_gets_waits_until_the_workers_are_started() -> None:
    ended, started = threading.Event(), []
    other = threading.Thread(target=ended.wait)
    other.start()  # before SIGINT is blocked: it takes what this thread does not

    def start() -> None:
        with _ctrl_c_is_ours():
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.2)
            started.append("workers")

    try:
        with pytest.raises(KeyboardInterrupt):
            start()
    finally:
        ended.set()
        other.join()
    assert started == ["workers"]


def test_an_interrupt_while_python_tidies_up_changes_nothing() -> None:
    late = "import atexit, os, signal, sys; from kglift.cli import main; sys.argv = ['kglift', '--version']; "
    code = late + "atexit.register(os.kill, os.getpid(), signal.SIGINT); main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("kglift ")

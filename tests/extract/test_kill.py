"""Killed at any moment, interrupted, or two at once: nothing that was answered is paid for again."""

import multiprocessing
import os
import random
import signal
import sqlite3
import time
from pathlib import Path

import pytest

from extract.engine import EngineConfig, extract
from extract.provider import Request
from extract.providers.scripted import Scripted
from kg.files import read_graph, write_graph
from kg.graph import Graph
from tests.extract.asking import MoodMethod, moods
from tests.toy import toy_graph

pytestmark = pytest.mark.usefixtures("_mood_prompt")

N_IN_FLIGHT = 8
N_TASKS = 2 * N_IN_FLIGHT + 1  # each holds a question that was sent, or an answer that is being committed


def refuse_some(request: Request) -> str:
    """Refuse every fifth unit once and every eleventh always; otherwise answer."""
    number = int(request.unit_id[5:])
    if number % 11 == 0 or (number % 5 == 0 and "refused" not in request.prompt):
        return '{"moods": "dark"}'
    return moods("dark", f"mood {number % 7}")


def run_child(ledger: Path, log: Path, out: Path, n_units: int, latency_s: float) -> None:
    """Extract, log each call before it is answered, and write the graph at the end."""
    handle = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def script(request: Request) -> str:
        os.write(handle, f"{request.unit_id} {request.prompt.count('was refused') + 1}\n".encode())
        return refuse_some(request)

    provider = Scripted(Scripted.Config(latency_s=latency_s, max_in_flight=N_IN_FLIGHT), script)
    result = extract(MoodMethod(n_units=n_units), toy_graph(), provider, ledger, EngineConfig(max_attempts=2))
    write_graph(result.graph, out)


class Child:
    """A forked process that extracts with a shared ledger and log."""

    def __init__(self, folder: Path, out: str, n_units: int, latency_s: float) -> None:
        self.folder, self.out = folder, folder / out
        arguments = (folder / "ledger", folder / "calls", self.out, n_units, latency_s)
        self.process = multiprocessing.get_context("fork").Process(target=run_child, args=arguments)
        self.process.start()

    def wait_for_calls(self, n_calls: int) -> None:
        deadline = time.monotonic() + 60
        while len(calls(self.folder)) < n_calls and self.process.is_alive():
            assert time.monotonic() < deadline, "the child does not call"
            time.sleep(0.001)

    def finish(self) -> Graph:
        self.process.join(120)
        assert self.process.exitcode == 0
        return read_graph(self.out)

    def stop(self, number: int) -> None:
        assert self.process.pid is not None
        os.kill(self.process.pid, number)
        self.process.join(60)


def calls(folder: Path) -> list[str]:
    path = folder / "calls"
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def stored(folder: Path) -> set[str]:
    """Return the replies that are on disk, read as a stranger would."""
    if not (folder / "ledger").exists():
        return set()
    connection = sqlite3.connect(folder / "ledger", timeout=30)
    try:
        return {f"{unit} {attempt}" for unit, attempt in connection.execute("SELECT unit_id, attempt FROM replies")}
    except sqlite3.OperationalError:
        return set()
    finally:
        connection.close()


def whole(tmp_path: Path, n_units: int) -> tuple[Graph, int]:
    """Return the graph and the number of calls of a run that nobody disturbs."""
    folder = tmp_path / "whole"
    folder.mkdir()
    return Child(folder, "graph", n_units, 0.0).finish(), len(calls(folder))


def kill_and_resume(tmp_path: Path, n_kills: int, n_units: int, seed: int) -> None:
    expected, n_calls = whole(tmp_path, n_units)
    folder = tmp_path / "killed"
    folder.mkdir()
    rng = random.Random(seed)
    paid_twice: list[str] = []
    for _ in range(n_kills):
        before, seen = stored(folder), len(calls(folder))
        child = Child(folder, "graph", n_units, 0.004)
        child.wait_for_calls(seen + rng.randint(1, max(2, 2 * n_calls // (3 * n_kills))))
        time.sleep(rng.random() * 0.01)
        child.stop(signal.SIGKILL)
        paid_twice += [call for call in calls(folder)[seen:] if call in before]
    before, seen = stored(folder), len(calls(folder))
    assert 0 < len(before) < n_calls, "the kills came too early or too late to test anything"
    graph = Child(folder, "graph", n_units, 0.0).finish()
    paid_twice += [call for call in calls(folder)[seen:] if call in before]
    assert paid_twice == []
    assert graph.equals(expected)
    assert len(calls(folder)) <= n_calls + N_TASKS * n_kills, "more was lost than what was under way"


def test_killed_and_resumed_it_pays_once_and_makes_the_same_graph(tmp_path: Path) -> None:
    kill_and_resume(tmp_path, n_kills=3, n_units=150, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [2, 3])
def test_killed_at_sixty_random_points(tmp_path: Path, seed: int) -> None:
    kill_and_resume(tmp_path, n_kills=30, n_units=800, seed=seed)


def test_two_processes_share_a_ledger_without_paying_twice(tmp_path: Path) -> None:
    expected, n_calls = whole(tmp_path, 120)
    folder = tmp_path / "both"
    folder.mkdir()
    both = [Child(folder, f"graph{n}", 120, 0.02) for n in range(2)]
    graphs = [child.finish() for child in both]
    made = calls(folder)
    assert len(made) == len(set(made)) == n_calls
    assert all(graph.equals(expected) for graph in graphs)


def test_ctrl_c_keeps_the_answers_under_way(tmp_path: Path) -> None:
    child = Child(tmp_path, "graph", 100, 0.3)
    child.wait_for_calls(8)
    child.stop(signal.SIGINT)
    assert child.process.exitcode != 0
    assert stored(tmp_path) == set(calls(tmp_path))
    assert len(calls(tmp_path)) < 100

"""On a local Ray: the same questions, ledger and graph as without, even where a worker dies."""

import os
import sys
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from extract.engine import EngineConfig, extract
from extract.errors import PassingProviderError, TerminalProviderError
from extract.on_ray import OnRay
from extract.provider import Provider, Request
from extract.providers.scripted import Scripted
from tests.extract.asking import MoodMethod, moods
from tests.toy import toy_graph

pytestmark = pytest.mark.usefixtures("_mood_prompt")
N_UNITS = 40


def answer(folder: Path, request: Request) -> str | Exception:
    """Write down each call; fail in passing once, die once, refuse once, and answer well otherwise."""
    number = int(request.unit_id[5:])
    calls = folder / "calls" / request.unit_id
    calls.mkdir(exist_ok=True)
    n_calls = len(list(calls.iterdir()))
    (calls / f"{n_calls} {os.getpid()}").touch()
    if n_calls == 0 and number == 7 and (folder / "may_die").exists():
        os._exit(1)
    if n_calls == 0 and number == 11:
        return PassingProviderError("busy", 0.01)
    return moods("dark", f"mood {number % 5}") if number % 9 or "refused" in request.prompt else "no JSON"


def make(folder: Path) -> Provider:
    return Scripted(Scripted.Config(latency_s=0.01, max_in_flight=4), partial(answer, folder))


def run(folder: Path, provider: Provider) -> Any:
    return extract(MoodMethod(n_units=N_UNITS), toy_graph(), provider, folder / "ledger", EngineConfig())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "calls").mkdir()
    return tmp_path


def calls(folder: Path) -> dict[str, int]:
    return {unit.name: len(list(unit.iterdir())) for unit in (folder / "calls").iterdir()}


@pytest.mark.slow
@pytest.mark.parametrize("may_die", [False, True])
def test_a_run_on_ray_asks_and_keeps_what_a_run_without_does(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, may_die: bool
) -> None:
    pytest.importorskip("ray", reason="Ray is not installed: pip install kglift[ray]")
    alone = tmp_path_factory.mktemp("alone")
    (alone / "calls").mkdir()
    expected = run(alone, make(alone))
    if may_die:
        (folder / "may_die").touch()
    provider = OnRay(partial(make, folder), n_workers=2)
    try:
        assert provider.max_in_flight == 8
        result = run(folder, provider)
        again = run(folder, provider)
    finally:
        provider.shut_down()
    assert result.graph.equals(expected.graph)
    assert (result.summary.done, result.summary.set_aside) == (N_UNITS, 0)
    assert result.summary.paid_replies == expected.summary.paid_replies
    assert (again.summary.calls, again.graph.equals(result.graph)) == (0, True)
    pids = {call.name.split()[1] for unit in (folder / "calls").iterdir() for call in unit.iterdir()}
    assert len(pids) >= 2, "both workers answered"
    if not may_die:
        assert calls(folder) == calls(alone)


def test_without_ray_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(TerminalProviderError, match=r"Ray is not installed.*pip install kglift\[ray\]"):
        OnRay(lambda: Scripted(Scripted.Config(), []))


class FakeRay(ModuleType):
    """Starts only after some failures."""

    def __init__(self, n_failures: int) -> None:
        super().__init__("ray")
        self.n_failures, self.n_shut_down = n_failures, 0

    def is_initialized(self) -> bool:
        return False

    def init(self, **options: object) -> None:
        if self.n_failures:
            self.n_failures -= 1
            raise Exception("the node timed out")  # as Ray does

    def shutdown(self) -> None:
        self.n_shut_down += 1

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": 3.0}


def on_fake_ray(monkeypatch: pytest.MonkeyPatch, n_failures: int) -> tuple[OnRay, FakeRay]:
    ray = FakeRay(n_failures)
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setitem(sys.modules, "ray.exceptions", ModuleType("ray.exceptions"))
    return OnRay(lambda: Scripted(Scripted.Config(), [])), ray


def test_ray_gets_a_second_try_to_start(monkeypatch: pytest.MonkeyPatch) -> None:
    _, ray = on_fake_ray(monkeypatch, 1)
    assert (ray.n_failures, ray.n_shut_down) == (0, 1)


def test_ray_that_does_not_start_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TerminalProviderError, match="Ray does not start.*the node timed out; see what `ray start"):
        on_fake_ray(monkeypatch, 2)

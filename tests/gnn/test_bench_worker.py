"""Peers in another environment answer when told to, and their rows say why they are missing."""

import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from gnn.bench import worker
from gnn.bench.evaluation import EvaluationTask
from gnn.bench.lightgcn_step import LightGCNStep
from gnn.bench.measure import measure_task
from gnn.bench.row import Machine
from gnn.bench.setting import TOY, Setting
from gnn.bench.worker import Worker, outside
from gnn.errors import InputError

ARRAYS = {"numbers": np.arange(4)}
SETTING = Setting(TOY, "cpu", 1)
HERE = Path(__file__).parent.parent.parent / worker.ENVIRONMENT


@pytest.fixture
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "ENVIRONMENT", Path(sys.prefix))


@pytest.mark.usefixtures("_own_environment")
def test_a_worker_runs_once_for_each_call_whatever_its_libraries_print() -> None:
    peer = Worker("tests.gnn.echo_peer", "total", ARRAYS, 3)
    folder = Path(peer._folder.name)
    assert [float(peer()) for _ in range(3)] == [9, 1009, 2009]
    peer.stop()
    assert not folder.exists()
    assert peer._process.returncode is not None


@pytest.mark.usefixtures("_own_environment")
def test_a_worker_that_dies_says_its_last_words() -> None:
    peer = Worker("tests.gnn.echo_peer", "dies", ARRAYS, 1)
    with pytest.raises(InputError, match=r"tests.gnn.echo_peer ended: out of luck"):
        peer()


@pytest.mark.usefixtures("_own_environment")
def test_a_peer_whose_library_is_missing_is_not_installed_and_another_failure_is_told() -> None:
    there = outside("echo", partial(Worker, "tests.gnn.echo_peer", "total", ARRAYS, 1), "a note", times=2.0)
    assert (there.absent, there.note, there.is_extrapolated) == ("", "a note", True)
    there.stop()
    missing = outside("gone", partial(Worker, "tests.gnn.no_peer", "total", ARRAYS, 1), "")
    assert missing.absent == "not installed"
    failing = outside("fails", partial(Worker, "tests.gnn.echo_peer", "no action", ARRAYS, 1), "")
    assert "tests.gnn.echo_peer ended: KeyError: 'no action'" in failing.absent


def test_without_the_environment_the_row_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "ENVIRONMENT", Path("nowhere"))
    rows = measure_task(LightGCNStep(), SETTING, Machine(1e9, 1e9), 1)
    said = {row.note for row in rows if row.peer == "recbole"}
    assert said == {"recbole: not installed; `make bench` does that"}


@pytest.fixture
def _peers(monkeypatch: pytest.MonkeyPatch) -> None:
    if not (HERE / "bin" / "python").exists():
        pytest.skip("the peers' environment is not here; `make bench` makes it")
    monkeypatch.setattr(worker, "ENVIRONMENT", HERE)


@pytest.mark.slow
@pytest.mark.usefixtures("_peers")
def test_recbole_gives_the_loss_of_ours_and_implicit_the_metric() -> None:
    task = LightGCNStep()
    found = {c.name: c for c in task.contenders(SETTING)}
    ours, recbole = found["torch"].parts[0].run, found["recbole"].parts[0].run
    for _ in range(3):
        mine, theirs = ours(), recbole()
        assert isinstance(mine, torch.Tensor)
        assert isinstance(theirs, torch.Tensor)
        torch.testing.assert_close(theirs, mine, rtol=1e-5, atol=1e-6)
    found["recbole"].stop()
    evaluation = {c.name: c for c in EvaluationTask().contenders(SETTING)}
    torch.testing.assert_close(evaluation["implicit"].parts[0].run(), evaluation["torch"].parts[0].run())
    for peer in evaluation.values():
        peer.stop()

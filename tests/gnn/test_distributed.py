"""Several processes train the model that one would, each with its part, and come back from a kill."""

import dataclasses
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from hypothesis import given, settings
from hypothesis import strategies as st

from gnn.build import TrainConfig, build_model
from gnn.checkpoint import Trained, load_model
from gnn.data import TrainingGraph
from gnn.distributed import PartOfLightGCN, _PartRun, train_together
from gnn.errors import CheckpointError, ContactError, GnnError, InputError
from gnn.models.lightgcn import LightGCN
from gnn.partition import Group, Part, lookup, propagate_part
from gnn.sampling import FactBatch, InteractionBatch
from gnn.sparse import use_route
from gnn.synthetic import SyntheticConfig, write_synthetic
from gnn.train import train
from kg.errors import UnknownNameError, WriteError
from kg.stream import read_ckg
from tests.gnn import oracles
from tests.gnn.graphs import random_ckg

CKG = random_ckg(11, n_users=20, n_items=15)
CONFIG = TrainConfig(epochs=6, batch_size=16, lr=0.02, patience=0, eval_every=2, checkpoint_every=1, device="cpu")
MODEL = {"dim": 8}
KILLED = 137


def together(world: int, work: Callable[[Group], Any], folder: Path, *, timeout_s: float = 60) -> list[Any]:
    """Run a function in `world` forked processes; what each returned or raised, or that it was killed."""
    folder.mkdir(parents=True, exist_ok=True)

    def process(rank: int) -> None:
        torch.set_num_threads(1)
        about = {"rank": rank, "world_size": world, "timeout": timedelta(seconds=timeout_s)}
        dist.init_process_group("gloo", init_method=f"file://{folder.resolve()}/meeting", **about)
        try:
            with use_route("torch"):  # no process has to compile
                result = work(Group.current())
        except GnnError as error:
            result = error
        (folder / f"{rank}.pickle").write_bytes(pickle.dumps(result))
        os._exit(0)  # the others may be dead: there is nobody to say goodbye to

    context = mp.start_processes(_Entry(process), nprocs=world, join=False, start_method="fork")
    for each in context.processes:
        each.join()
    (folder / "meeting").unlink(missing_ok=True)
    paths = [folder / f"{rank}.pickle" for rank in range(world)]
    results = [pickle.loads(path.read_bytes()) if path.exists() else KILLED for path in paths]
    for path in paths:
        path.unlink(missing_ok=True)
    return results


@dataclasses.dataclass
class _Entry:
    process: Callable[[int], None]

    def __call__(self, rank: int) -> None:
        self.process(rank)


@pytest.fixture(autouse=True, scope="module")
def _warm() -> None:
    """Make torch import what it imports at a first step, once and before any fork."""
    with use_route("torch"):
        train("lightgcn", CKG, MODEL, dataclasses.replace(CONFIG, epochs=1))


def state_of(trained: Trained | None) -> dict[str, Any] | None:
    if trained is None:
        return None
    return {
        "embedding": trained.model.state_dict()["embedding"],
        "vectors": trained.model.vectors(),
        "curve": trained.curve.drop(["seconds"]).to_pydict(),
        "best": trained.best_epoch,
    }


def trained_by(world: int, folder: Path, out: Path | None = None, **changes: Any) -> dict[str, Any]:
    config = dataclasses.replace(CONFIG, **changes)
    first, *others = together(world, lambda _: state_of(train_together("lightgcn", CKG, MODEL, config, out)), folder)
    assert others == [None] * (world - 1)
    assert isinstance(first, dict), first
    return first


@pytest.mark.parametrize("world", [1, 2, 4])
def test_any_number_of_processes_trains_the_same_model(world: int, tmp_path: Path) -> None:
    got = trained_by(world, tmp_path)
    expected = state_of(train("lightgcn", CKG, MODEL, CONFIG))
    assert expected is not None
    for name in ("loss", "recall@20", "ndcg@20"):
        assert got["curve"][name] == pytest.approx(expected["curve"][name], abs=1e-5)
    assert got["best"] == expected["best"]
    torch.testing.assert_close(got["embedding"], expected["embedding"], rtol=0, atol=1e-4)
    for one, other in zip(got["vectors"], expected["vectors"], strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-4)


def test_loss_and_gradient_of_a_batch_are_those_of_the_whole_model(tmp_path: Path) -> None:
    batch = InteractionBatch(torch.tensor([0, 3, 3]), torch.tensor([1, 0, 2]), torch.tensor([4, 4, 14]))
    config = LightGCN.Config(dim=8, l2=0.3)
    whole = build_model("lightgcn", CKG, vars(config), CONFIG)
    loss = whole.loss(batch)
    loss.backward()  # type: ignore[no-untyped-call]

    def work(group: Group) -> Any:
        torch.manual_seed(CONFIG.seed)
        model = PartOfLightGCN(config, whole.graph, group)
        mine = model.loss(batch)
        mine.backward()  # type: ignore[no-untyped-call]
        return mine.item(), model.embedding.grad

    for rank, (value, grad) in enumerate(together(3, work, tmp_path)):
        assert value == pytest.approx(loss.item(), rel=1e-6)
        torch.testing.assert_close(grad, whole.embedding.grad[rank::3])  # type: ignore[union-attr,index]


@pytest.mark.parametrize("storage", [torch.float32, torch.bfloat16])
def test_propagation_and_lookup_are_the_dense_ones(storage: torch.dtype, tmp_path: Path) -> None:
    graph = TrainingGraph.from_ckg(CKG)
    x = torch.randn(graph.n_nodes, 4, generator=torch.Generator().manual_seed(0))
    nodes = torch.tensor([5, 0, 39, 5])

    def work(group: Group) -> Any:
        own = x[group.rank :: group.world].clone().requires_grad_()
        y = propagate_part(Part.of(graph, 1.0, group), own, 3, storage)
        rows = lookup(group, y, nodes)
        (rows * torch.arange(4.0)).sum().backward()  # type: ignore[no-untyped-call]
        return group.rows(y.detach(), 7, 31), rows.detach(), own.grad

    dense = torch.from_numpy(oracles.normalised(CKG))
    powers = [torch.linalg.matrix_power(dense, power) for power in range(4)]
    mean = torch.stack(powers).mean(0)
    y = mean @ x.double()
    grad = mean[:, nodes].sum(1)[:, None] * torch.arange(4.0)
    near = {"rtol": 0, "atol": 1e-5 if storage == torch.float32 else 3e-2}
    for rank, (some, rows, own_grad) in enumerate(together(2, work, tmp_path)):
        torch.testing.assert_close(some.double(), y[7:31], **near)
        torch.testing.assert_close(rows.double(), y[nodes], **near)
        torch.testing.assert_close(own_grad.double(), grad[rank::2], **near)


@given(st.integers(0, 50), st.integers(1, 6), st.sampled_from([1.0, 0.5, 0.0]))
@settings(deadline=None, max_examples=25)
def test_the_parts_are_the_whole_and_each_is_its_share(seed: int, world: int, fact_weight: float) -> None:
    graph = TrainingGraph.from_ckg(random_ckg(seed))
    whole = graph.normalised(fact_weight)
    dense, sizes = np.zeros((graph.n_nodes, graph.n_nodes)), []
    for rank in range(world):
        part = Part.of(graph, fact_weight, Group(rank, world))
        for owner, (csr, values) in enumerate(part.blocks):
            dense[rank::world, owner::world] = csr.matrix(values).to_dense()
        sizes.append(sum(len(values) for _, values in part.blocks))
        assert {csr.n_rows for csr, _ in part.blocks} == {len(range(rank, graph.n_nodes, world))}
    np.testing.assert_allclose(dense, whole.matrix.to_dense(), atol=1e-6)
    assert sum(sizes) == len(whole.csr.col)


def test_a_process_holds_its_share_of_table_state_and_adjacency(tmp_path: Path) -> None:
    world = 4

    def work(group: Group) -> Any:
        model = PartOfLightGCN(LightGCN.Config(**MODEL), TrainingGraph.from_ckg(CKG), group)
        run = _PartRun(model, CKG, dataclasses.replace(CONFIG, epochs=1), {}, None)
        run.to_the_end(lambda *_: None)
        state = run.optimisers["interactions"].state_dict()["state"][0]
        tables = [model.embedding, state["exp_avg"], state["exp_avg_sq"]]
        return [len(t) for t in tables], [(len(csr.col), len(values)) for csr, values in model.part.blocks]

    results = together(world, work, tmp_path)
    n_entries = len(TrainingGraph.from_ckg(CKG).normalised().csr.col)
    assert [rows for rows, _ in results] == [[10] * 3] * world
    assert sum(n for _, blocks in results for n, _ in blocks) == n_entries
    assert max(sum(n for n, _ in blocks) for _, blocks in results) < 1.3 * n_entries / world


@pytest.mark.parametrize("dim", [1, 3])
def test_the_first_table_is_the_one_that_one_process_draws(dim: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gnn.distributed._SLAB", 16)
    graph = TrainingGraph.from_ckg(random_ckg(3, n_users=30, n_items=18))
    for config in (LightGCN.Config(dim=dim), LightGCN.Config(dim=dim, init_std=0.7)):
        torch.manual_seed(5)
        whole = LightGCN(config, graph).embedding
        for rank in range(3):
            torch.manual_seed(5)
            assert torch.equal(PartOfLightGCN(config, graph, Group(rank, 3)).embedding, whole[rank::3])


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return trained_by(2, tmp_path_factory.mktemp("whole"))


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["before writing", "while writing", "before the others wrote", "before renaming"])
def test_a_process_killed_at_any_moment_of_a_checkpoint_loses_nothing(
    moment: str, uninterrupted: dict[str, Any], tmp_path: Path
) -> None:
    out = tmp_path / "model"

    def work(group: Group) -> Any:
        if group.rank == 1:
            _die(moment, epoch=3)
        return train_together("lightgcn", CKG, MODEL, CONFIG, out)

    first, second = together(2, work, tmp_path / "killed")
    assert second == KILLED
    assert isinstance(first, ContactError)
    assert "process 0 of 2 lost contact with another, which died or hung" in str(first)
    assert "they go on from the last checkpoint" in str(first)
    again = trained_by(2, tmp_path / "again", out)
    assert again["curve"] == uninterrupted["curve"]
    assert torch.equal(again["embedding"], uninterrupted["embedding"])
    assert [p.name for p in tmp_path.glob("model*")] == ["model"]


def _die(moment: str, epoch: int) -> None:
    """Kill this process at a moment of the checkpoint of an epoch."""

    def kill(*_: Any, **__: Any) -> Any:
        os.kill(os.getpid(), signal.SIGKILL)

    keep = _PartRun.keep

    def watched(run: _PartRun, path: Path) -> None:
        if run.epoch == epoch:
            if moment == "before writing":
                kill()
            elif moment == "while writing":
                os.fsync = kill
            elif moment == "before the others wrote":
                Group.collect = kill  # type: ignore[method-assign]
            else:
                Path.replace = _replace_but_not_last(kill)  # type: ignore[method-assign]
        keep(run, path)

    _PartRun.keep = watched  # type: ignore[method-assign]


def _replace_but_not_last(kill: Callable[[], Any]) -> Callable[..., Any]:
    replace = Path.replace
    return lambda path, target: kill() if path.name.endswith(".next") else replace(path, target)


@pytest.mark.slow
def test_a_process_that_hangs_is_given_up_after_the_time_out(tmp_path: Path) -> None:
    def work(group: Group) -> Any:
        if group.rank == 1:
            time.sleep(6)
            return None
        return group.add_up(torch.ones(1))

    error, _ = together(2, work, tmp_path, timeout_s=2)
    assert isinstance(error, ContactError)
    assert "Timed out" in str(error)


@pytest.fixture
def alone(tmp_path: Path) -> Any:
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/meeting", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("alone")
def test_what_cannot_be_trained_together_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="`kgat` is trained by one process; only `lightgcn` by several"):
        train_together("kgat", CKG, {}, CONFIG)
    with pytest.raises(UnknownNameError, match="did you mean `lightgcn`"):
        train_together("lightgnc", CKG, {}, CONFIG)
    with pytest.raises(WriteError, match="exists already"):
        train_together("lightgcn", CKG, MODEL, CONFIG, tmp_path)
    (tmp_path / "model.checkpoint.0-of-3").touch()
    with pytest.raises(CheckpointError, match=r"`model.checkpoint.0-of-3` .* another number of processes than 1"):
        train_together("lightgcn", CKG, MODEL, CONFIG, tmp_path / "model")
    monkeypatch.setattr(Group, "current", lambda: Group(0, 41))
    with pytest.raises(InputError, match="41 processes are too many for 39 nodes"):
        train_together("lightgcn", CKG, MODEL, CONFIG)


def test_checkpoints_without_a_common_epoch_are_refused(tmp_path: Path) -> None:
    out = tmp_path / "model"

    def work(group: Group) -> Any:
        if group.rank == 1:
            _die("before writing", epoch=3)
        return train_together("lightgcn", CKG, MODEL, CONFIG, out)

    together(2, work, tmp_path / "killed")
    (tmp_path / "model.checkpoint.1-of-2").unlink()
    for error in together(2, lambda _: train_together("lightgcn", CKG, MODEL, CONFIG, out), tmp_path / "again"):
        assert isinstance(error, CheckpointError)
        assert "checkpoints of the epochs [[2, 3], []]" in str(error)


def test_a_part_answers_for_no_other_part() -> None:
    part = PartOfLightGCN(LightGCN.Config(**MODEL), TrainingGraph.from_ckg(CKG), Group(0, 2))
    with pytest.raises(InputError, match="call `make_ready` on every process first"):
        part.scores(torch.tensor([0]))
    with pytest.raises(InputError, match="`lightgcn` is not trained on FactBatch"):
        part.loss(FactBatch(*torch.zeros(4, 1, dtype=torch.int64)))


def test_a_model_made_together_loads_as_any_other(tmp_path: Path) -> None:
    got = trained_by(2, tmp_path / "work", tmp_path / "model")
    loaded = load_model(tmp_path / "model", CKG)
    assert torch.equal(loaded.state_dict()["embedding"], got["embedding"])


@pytest.mark.slow
def test_torchrun_trains_and_goes_on_after_a_kill(tmp_path: Path) -> None:
    write_synthetic(SyntheticConfig(300, 200, 6000, seed=1), tmp_path / "graph")
    config = dataclasses.replace(CONFIG, epochs=20, batch_size=512)
    changed = {
        f.name: getattr(config, f.name) for f in dataclasses.fields(config) if f.default != getattr(config, f.name)
    }
    options = [part for name, value in {**changed, **MODEL}.items() for part in ("--set", f"{name}={value}")]
    torchrun = ("torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "gnn", "train")
    out = tmp_path / "model"
    command = [sys.executable, "-m", *torchrun, str(tmp_path / "graph"), "--model", "lightgcn", "--out", str(out)]
    with subprocess.Popen([*command, *options], stderr=subprocess.PIPE, text=True) as killed:
        while not (tmp_path / "model.checkpoint.1-of-2").exists():
            assert killed.poll() is None
            time.sleep(0.02)
        os.kill(_workers(killed.pid)[1], signal.SIGKILL)
        _, complaint = killed.communicate()
    assert killed.returncode == 1
    assert "Signal 9 (SIGKILL)" in complaint
    again = subprocess.run([*command, *options], capture_output=True, text=True, check=True)
    assert again.stdout.count(f"{out}: lightgcn, 20 epochs") == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["graph", "model"]
    ckg = read_ckg(tmp_path / "graph")
    expected = train("lightgcn", ckg, MODEL, config, tmp_path / "alone").model.state_dict()["embedding"]
    torch.testing.assert_close(load_model(out, ckg).state_dict()["embedding"], expected, rtol=0, atol=1e-3)
    files = [{p.name for p in (tmp_path / name).iterdir()} for name in ("model", "alone")]
    assert files[0] == files[1]


def _workers(pid: int) -> list[int]:
    """The processes that a process started, in order, on Linux."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

"""LightGCN trained by several processes, each with its rows of the graph, of the embedding and of Adam's state."""

import dataclasses
from collections.abc import Mapping
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from gnn.build import TrainConfig, build_model, device_of, identity_of
from gnn.checkpoint import Checkpoint, Trained, load_checkpoint, remove_checkpoint, save_checkpoint, save_model
from gnn.data import TrainingGraph, prune_entities
from gnn.errors import CheckpointError, InputError
from gnn.evaluate import evaluate
from gnn.losses import bpr, half_squared_norm
from gnn.models.lightgcn import LightGCN
from gnn.partition import Group, Part, lookup, propagate_part
from gnn.recommender import Recommender, Vectors
from gnn.sampling import Batch, InteractionBatch
from gnn.train import Run
from kg.ckg import CollaborativeKG
from kg.config import build_config
from kg.errors import WriteError
from kg.progress import Progress, silent

_TIMEOUT_S = 600
_SLAB = 1 << 16


class PartOfLightGCN(Recommender):
    """The rows of LightGCN's table that one process holds; together the processes make the steps of the whole.

    Source:
        As `gnn.models.lightgcn`.

    Deviations:
        None from `gnn.models.lightgcn`; sums in another order.
    """

    Config = LightGCN.Config
    name = LightGCN.name

    def __init__(self, config: LightGCN.Config, graph: TrainingGraph, group: Group) -> None:
        """Take this process's rows of the graph, and of the table that one process would draw."""
        super().__init__(config, graph)
        self.group = group
        self.part = Part.of(graph, config.fact_weight, group)
        self.embedding = torch.nn.Parameter(self._initial_rows().to(graph.device))
        self._ready: Vectors | None = None

    def loss(self, batch: Batch) -> Tensor:
        """See `LightGCN.loss`; every process has to be given the same batch, and gets the same loss."""
        if not isinstance(batch, InteractionBatch):
            return super().loss(batch)
        shift = self.graph.n_users
        nodes = torch.cat([batch.users, batch.positives + shift, batch.negatives + shift])
        user, positive, negative = lookup(self.group, self._propagated(), nodes).view(3, len(batch.users), -1)
        first = lookup(self.group, self.embedding, nodes).view(3, len(batch.users), -1)
        ranking = bpr((user * positive).sum(1), (user * negative).sum(1))
        total: Tensor = ranking + self.config.l2 * half_squared_norm(*first)
        return total

    @torch.no_grad()
    def make_ready(self) -> None:
        """Propagate, and fetch the items, so that `scores` can answer; every process has to call this."""
        rows, graph = self._propagated(), self.graph
        self._ready = rows, self.group.rows(rows, graph.n_users, graph.n_users + graph.n_items)

    def scores(self, users: Tensor) -> Tensor:
        """Score every item for some of this process's users, as of the last `make_ready`."""
        if self._ready is None:
            msg = "the vectors of items lie with other processes; call `make_ready` on every process first"
            raise InputError(msg)
        rows, items = self._ready
        return rows[users // self.group.world] @ items.T

    def _propagated(self) -> Tensor:
        storage: torch.dtype = getattr(torch, self.config.storage)
        return propagate_part(self.part, self.embedding, self.config.n_layers, storage)

    def _initial_rows(self) -> Tensor:
        """Draw `torch.randn(n_nodes, dim)` slab by slab, 16 rows or more each, and keep this process's rows."""
        n, rank, world = self.graph.n_nodes, self.group.rank, self.group.world
        starts = [*range(0, max(n - 15, 1), _SLAB), n]
        slabs = ((low, torch.randn(high - low, self.config.dim)) for low, high in pairwise(starts))
        return torch.cat([slab[(rank - low) % world :: world] * self.config.init_std for low, slab in slabs])


class _PartRun(Run):
    """A run whose state is this process's part."""

    model: PartOfLightGCN

    def measure(self) -> dict[str, float]:
        """Rank for this process's users and average over those of all."""
        group = self.model.group
        self.model.make_ready()
        pairs = self.ckg.interactions[self.split]
        own = {**self.ckg.interactions, self.split: pairs[pairs[:, 0] % group.world == group.rank]}
        names = ("recall@20", "ndcg@20")
        sums = [0.0] * (1 + len(names))
        if len(own[self.split]):
            evaluation = evaluate(self.model, dataclasses.replace(self.ckg, interactions=own), self.split, (20,))
            sums = [evaluation.n_users, *(evaluation.n_users * evaluation.metrics[name] for name in names)]
        n_users, *totals = group.add_up(
            torch.tensor(sums, dtype=torch.float64, device=self.model.graph.device)
        ).tolist()
        return {name: total / n_users for name, total in zip(names, totals, strict=True)}

    def keep(self, path: Path) -> None:
        """Write a checkpoint in two moves, so that a kill between them leaves one epoch that all processes have."""
        save_checkpoint(_next(path), self.identity, self._checkpoint())
        self.model.group.collect(self.epoch)
        _next(path).replace(path)

    def resume(self) -> None:
        """Go on from the last epoch that all processes have."""
        if self.path is None:
            return
        there = [file for file in (self.path, _next(self.path)) if file.exists()]
        saved: dict[int, Checkpoint] = {c.epoch: c for c in (load_checkpoint(f, self.identity) for f in there)}
        known = self.model.group.collect((self.path.exists(), sorted(saved)))
        common = max(set.intersection(*(set(epochs) for _, epochs in known)), default=0)
        if common:
            self.restore(saved[common])
        elif any(is_there for is_there, _ in known):
            msg = (
                f"the processes have checkpoints of the epochs {[epochs for _, epochs in known]} beside `{self.path}`, "
                "none of them common; remove them to train again"
            )
            raise CheckpointError(msg)


def train_together(
    model_name: str,
    ckg: CollaborativeKG,
    model_config: Mapping[str, Any],
    config: TrainConfig,
    out: Path | None = None,
    progress: Progress = silent,
) -> Trained | None:
    """Train LightGCN as `gnn.train.train` does, with the processes of torch's default group; all have to call this.

    Losses and vectors equal those of one process but for the order of sums. Each process holds its rows of embedding,
    Adam's state and adjacency, the list of train interactions (16 bytes each) that all batches are drawn from alike,
    and, while it evaluates, the vectors of all items. Processes on several machines need `out` on a common disk.

    Args:
        model_name: `lightgcn`.
        ckg: the graph, split; the same for every process.
        model_config: the model's parameters.
        config: the loop's parameters.
        out: the model directory to make, by process 0; checkpoints lie beside it, one for each process.
        progress: told after every epoch.

    Returns:
        The whole model on process 0, None on the others.

    Raises:
        InputError: for another model, or more processes than nodes; and as `train`.
        ContactError: if another process died or hung.
        CheckpointError: if a checkpoint beside `out` is of another run or another number of processes.
        WriteError: if `out` is taken or cannot be written.
    """
    group = Group.current()
    whole_graph = prune_entities(ckg, config.min_entity_degree)
    _check(model_name, whole_graph, group)
    path = None if out is None else _checkpoint_path(out, group)
    parameters = build_config(LightGCN.Config, model_config, where=f"model `{model_name}`")
    graph = TrainingGraph.from_ckg(whole_graph, device_of(config.device))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = PartOfLightGCN(parameters, graph, group)
    run = _PartRun(model, ckg, config, identity_of(model, ckg, config), path)
    run.resume()
    run.to_the_end(progress if group.rank == 0 else silent)
    trained = run.finish()
    table = group.gather(model.embedding.detach(), graph.n_nodes)
    if table is not None:
        whole = build_model(model_name, ckg, model_config, config, to_train=False)
        whole.load_state_dict({"embedding": table})
        trained = dataclasses.replace(trained, model=whole.eval())
        if out is not None:
            save_model(trained, ckg, out)
    group.collect(None)  # nobody removes a checkpoint before the model is on disk
    for file in [] if path is None else (path, _next(path)):
        remove_checkpoint(file)
    return None if table is None else trained


def train_launched(*arguments: Any) -> Trained | None:
    """Call `train_together` in a process that `torchrun` started: nccl where there are CUDA devices, else gloo."""
    on_gpu = torch.cuda.is_available()
    if on_gpu:
        torch.cuda.set_device(dist.get_node_local_rank())
    dist.init_process_group("nccl" if on_gpu else "gloo", timeout=timedelta(seconds=_TIMEOUT_S))
    try:
        return train_together(*arguments)
    finally:
        dist.destroy_process_group()


def _check(model_name: str, ckg: CollaborativeKG, group: Group) -> None:
    Recommender.find(model_name)
    if model_name != LightGCN.name:
        msg = f"`{model_name}` is trained by one process; only `{LightGCN.name}` by several: start it without torchrun"
        raise InputError(msg)
    if group.world > ckg.n_nodes:
        msg = f"{group.world} processes are too many for {ckg.n_nodes} nodes; start at most one for each node"
        raise InputError(msg)


def _checkpoint_path(out: Path, group: Group) -> Path:
    if out.exists():
        msg = f"`{out}` exists already; choose another place, or remove it to train again"
        raise WriteError(msg)
    ending = f"-of-{group.world}"
    left = [p.name for p in out.parent.glob(f"{out.name}.checkpoint*")]
    others = [name for name in left if ending not in name]
    if others:
        msg = (
            f"`{others[0]}` beside `{out}` is of another number of processes than {group.world}; "
            "start as many as then, or remove it"
        )
        raise CheckpointError(msg)
    return out.with_name(f"{out.name}.checkpoint.{group.rank}{ending}")


def _next(path: Path) -> Path:
    return path.with_name(f"{path.name}.next")

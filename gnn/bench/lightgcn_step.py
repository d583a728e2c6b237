"""One training step of LightGCN."""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import cycle
from typing import Literal

import torch
from torch import Tensor

from gnn.bench import lightgcn_peers
from gnn.bench.setting import Setting
from gnn.bench.spmm import note_of, routes
from gnn.bench.task import Bar, Contender, Part, Task
from gnn.bench.worker import Worker, outside
from gnn.models.lightgcn import LightGCN
from gnn.sampling import InteractionBatch, interaction_batches
from gnn.sparse import use_route
from gnn.sparse.route import Name

N_LAYERS, L2, LR = 3, 1e-4, 1e-3
_N_BATCHES = 32
Step = Callable[[InteractionBatch], Tensor]
Storage = Literal["float32", "bfloat16"]


class LightGCNStep(Task, name="lightgcn-step"):
    """A step of LightGCN: propagation, BPR loss with regulariser, gradient, Adam; 2,048 triplets, d 64, 3 layers.

    Floor: 2 L (4 nnz + 2 w N d) + 28 N d bytes: L sparse products forward and L backward, each reading int32 columns
    and a table of w bytes a number once and writing one (w = 4, or 2 where tables are stored as bfloat16); Adam reads
    parameter, gradient and two moments and writes all but the gradient.
    """

    bars = (
        Bar("fused", "ratio", 60, peer="pyg-edge-index"),
        Bar("fused", "ratio", 10, peer="pyg-sparse-csr"),
        Bar("fused", "ratio", 15, peer="coo-autograd"),
        Bar("fused", "floors", 3.5),
        Bar("torch", "ratio", 8, peer="pyg-edge-index"),
    )

    def contenders(self, setting: Setting) -> Sequence[Contender]:
        """Our routes beside what users of PyG and of LightGCN-PyTorch run; see `Task.contenders`."""
        batches = first_batches(setting)
        steps = own_steps(setting).items()
        ours = [
            Contender(
                name,
                (Part(walk(step, batches)),),
                size_bytes=step_bytes(setting, name),
                note=note_of(name, setting),
            )
            for name, step in steps
        ]
        return [*ours, *peers(setting)]


def step_bytes(setting: Setting, route: str) -> int:
    """Return the least bytes of a step; the formula is in `LightGCNStep`."""
    n_nodes, n_edges, d = setting.graph.n_nodes, 2 * len(setting.graph.users), setting.dim
    width = 2 if route.endswith("bf16") else 4
    return 2 * N_LAYERS * (4 * n_edges + 2 * width * n_nodes * d) + 28 * n_nodes * d


def first_batches(setting: Setting) -> list[InteractionBatch]:
    """Return the batches that every contender steps on in turn: the first of an epoch that is drawn with seed 0."""
    drawn = interaction_batches(setting.graph, setting.batch_size, setting.generator())
    return [batch for batch in drawn if len(batch.users) == setting.batch_size][:_N_BATCHES]


def walk(step: Step, batches: Sequence[InteractionBatch]) -> Callable[[], Tensor]:
    """Return what steps on the next batch each time, and begins anew after the last."""
    turn = cycle(batches)
    return lambda: step(next(turn))


def own_steps(setting: Setting) -> dict[str, Step]:
    """Return our ways to do a step, each on a model of its own of the same initial embeddings."""
    fused = {"fused": _fused_step(setting, "float32"), "fused-bf16": _fused_step(setting, "bfloat16")}
    there = {name: step for name, step in fused.items() if step is not None}
    return {**there, **{name: _autograd_step(setting, name) for name in routes(setting)}}


def peers(setting: Setting, times: float = 1.0) -> list[Contender]:
    """Return the peers' steps; `times` of them make what the task measures."""
    batches = first_batches(setting)
    table = new_model(setting)[0].embedding.detach()
    graph, hyper = setting.graph, (N_LAYERS, L2, LR)
    made: dict[str, Step] = {
        "pyg-edge-index": lightgcn_peers.pyg_step(graph, table, hyper, is_sparse=False),
        "pyg-sparse-csr": lightgcn_peers.pyg_step(graph, table, hyper, is_sparse=True),
        "coo-autograd": lightgcn_peers.coo_step(graph, table, hyper),
    }
    inside = [Contender(name, (Part(walk(step, batches), times),), is_peer=True) for name, step in made.items()]
    return [*inside, _recbole(setting, table, batches, times)] if setting.device == "cpu" else inside


def _recbole(setting: Setting, table: Tensor, batches: Sequence[InteractionBatch], times: float) -> Contender:
    users, items = table[: setting.graph.n_users].numpy(), table[setting.graph.n_users :].numpy()
    arrays = {
        **setting.arrays,
        **{"user_vectors": users, "item_vectors": items},
        "batches": torch.stack([torch.stack([b.users, b.positives, b.negatives]) for b in batches]).numpy(),
        **{"n_layers": N_LAYERS, "l2": L2, "lr": LR},
    }
    note = "in a process of its own, mended in memory for NumPy 2 and SciPy 1.17"
    start = partial(Worker, "gnn.bench.recbole_peer", "lightgcn-step", arrays, setting.n_threads)
    return outside("recbole", start, note, times)


def new_model(setting: Setting, storage: Storage = "float32") -> tuple[LightGCN, torch.optim.Adam]:
    """Return a LightGCN of the setting's width, always with the same embeddings, and its Adam."""
    config = LightGCN.Config(dim=setting.dim, n_layers=N_LAYERS, l2=L2, storage=storage)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = LightGCN(config, setting.graph)
    return model, torch.optim.Adam(model.parameters(), lr=LR, fused=True)


def _fused_step(setting: Setting, storage: Storage) -> Step | None:
    model, optimiser = new_model(setting, storage)
    return model.fused_step("interactions", optimiser)


def _autograd_step(setting: Setting, route: Name) -> Step:
    model, optimiser = new_model(setting)

    def step(batch: InteractionBatch) -> Tensor:
        optimiser.zero_grad(set_to_none=True)
        with use_route(route):
            loss = model.loss(batch)
            loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        return loss.detach()

    return step

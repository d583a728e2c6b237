"""One training step of LightGCN."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from gnn.bench import lightgcn_peers
from gnn.bench.setting import Setting
from gnn.bench.spmm import on_route, routes
from gnn.bench.task import Bar, Contender, Part, Task
from gnn.models.lightgcn import LightGCN
from gnn.sampling import InteractionBatch, interaction_batches

N_LAYERS, L2, LR = 3, 1e-4, 1e-3
Step = Callable[[Tensor, Tensor, Tensor], Tensor]


class LightGCNStep(Task, name="lightgcn-step"):
    """A step of LightGCN: propagation, BPR loss with regulariser, gradient, Adam; 2,048 triplets, d 64, 3 layers.

    Floor: 2 L (4 nnz + 8 N d) + 28 N d bytes: L sparse products forward and L backward, each reading int32 columns and
    a float32 table once and writing one; Adam reads parameter, gradient and two moments and writes all but the
    gradient.
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
        batch = first_batch(setting)
        size = step_bytes(setting)
        ours = [
            Contender(name, (Part(_of(step, batch)),), size_bytes=size) for name, step in own_steps(setting).items()
        ]
        return [*ours, *peers(setting)]


def step_bytes(setting: Setting) -> int:
    """Return the least bytes of a step; the formula is in `LightGCNStep`."""
    n_nodes, n_edges, d = setting.graph.n_nodes, 2 * len(setting.graph.users), setting.dim
    return 2 * N_LAYERS * (4 * n_edges + 8 * n_nodes * d) + 28 * n_nodes * d


def first_batch(setting: Setting) -> InteractionBatch:
    """Return the batch that every contender steps on, drawn with seed 0."""
    return next(interaction_batches(setting.graph, setting.batch_size, torch.Generator().manual_seed(0)))


def own_steps(setting: Setting) -> dict[str, Step]:
    """Return our ways to do a step, each on a model of its own of the same initial embeddings."""
    return {name: _autograd_step(setting, name) for name in routes(setting)}


def peers(setting: Setting, times: float = 1.0) -> list[Contender]:
    """Return the peers' steps; `times` of them make what the task measures."""
    batch = first_batch(setting)
    table = new_model(setting).embedding.detach()
    graph, hyper = setting.graph, (N_LAYERS, L2, LR)
    made = {
        "pyg-edge-index": lightgcn_peers.pyg_step(graph, table, hyper, is_sparse=False),
        "pyg-sparse-csr": lightgcn_peers.pyg_step(graph, table, hyper, is_sparse=True),
        "coo-autograd": lightgcn_peers.coo_step(graph, table, hyper),
    }
    return [Contender(name, (Part(_of(step, batch), times),), is_peer=True) for name, step in made.items()]


def new_model(setting: Setting) -> LightGCN:
    """Return a LightGCN of the setting's width, always with the same embeddings."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return LightGCN(LightGCN.Config(dim=setting.dim, n_layers=N_LAYERS, l2=L2), setting.graph)


def _autograd_step(setting: Setting, route: str) -> Step:
    model = new_model(setting)
    optimiser = torch.optim.Adam(model.parameters(), lr=LR, fused=True)

    def step(users: Tensor, positives: Tensor, negatives: Tensor) -> Tensor:
        optimiser.zero_grad(set_to_none=True)
        loss = model.loss(InteractionBatch(users, positives, negatives))
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        return loss.detach()

    def forced(users: Tensor, positives: Tensor, negatives: Tensor) -> Tensor:
        result = on_route(route, lambda: step(users, positives, negatives))()  # type: ignore[arg-type]
        assert isinstance(result, Tensor)
        return result

    return forced


def _of(step: Step, batch: InteractionBatch) -> Callable[[], Tensor]:
    return lambda: step(batch.users, batch.positives, batch.negatives)

"""LightGCN as users of other libraries write it, by their public interface, with the loss of `gnn.models.lightgcn`."""

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from gnn.data import TrainingGraph
from gnn.sampling import InteractionBatch

Step = Callable[[InteractionBatch], Tensor]


def pyg_step(graph: TrainingGraph, table: Tensor, hyper: tuple[int, float, float], *, is_sparse: bool) -> Step:
    """Return a training step of PyG's LightGCN.

    Args:
        graph: train interactions.
        table: (n_nodes, d) initial embeddings.
        hyper: number of layers, weight of the regulariser, learning rate.
        is_sparse: give PyG the graph as a torch sparse CSR tensor (its `adj_t`), not as `edge_index`.

    Source:
        torch_geometric.nn.models.LightGCN; the loop of examples/lightgcn.py.

    Deviations:
        The regulariser takes each triplet's rows, repeated nodes included, with half the weight: then the loss is ours.
    """
    from torch_geometric.nn.models import LightGCN
    from torch_geometric.utils import to_torch_csr_tensor

    n_layers, l2, lr = hyper
    model: Any = LightGCN(graph.n_nodes, table.shape[1], n_layers).to(graph.device)
    with torch.no_grad():
        model.embedding.weight.copy_(table)
    optimiser = torch.optim.Adam(model.parameters(), lr=lr)
    edge_index = torch.stack(_ends(graph))
    size = (graph.n_nodes, graph.n_nodes)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse (CSR tensor support|invariant checks)")
        edges = to_torch_csr_tensor(edge_index, size=size) if is_sparse else edge_index

    def step(batch: InteractionBatch) -> Tensor:
        items = torch.cat([batch.positives, batch.negatives]) + graph.n_users
        nodes = torch.cat([batch.users, items])
        pairs = torch.stack([batch.users.repeat(2), items])
        optimiser.zero_grad()
        positive, negative = model(edges, pairs).chunk(2)
        loss: Tensor = model.recommendation_loss(positive, negative, node_id=nodes, lambda_reg=l2 / 2)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        return loss.detach()

    return step


def coo_step(graph: TrainingGraph, table: Tensor, hyper: tuple[int, float, float]) -> Step:
    """Return a training step with a COO matrix under autograd.

    Args:
        graph: train interactions.
        table: (n_nodes, d) initial embeddings.
        hyper: number of layers, weight of the regulariser, learning rate.

    Source:
        The form of gusye1234/LightGCN-PyTorch 947ca2b, `model.py`: two tables, COO products, all layers kept and
        averaged.

    Deviations:
        Written anew; one loss function, so none of the original's extra passes.
    """
    n_layers, l2, lr = hyper
    sizes = [graph.n_users, graph.n_nodes - graph.n_users]
    tables: list[Tensor] = [torch.nn.Parameter(part.clone()) for part in torch.split(table, sizes)]
    optimiser = torch.optim.Adam(tables, lr=lr)
    adjacency = _normalised_coo(graph)

    def step(batch: InteractionBatch) -> Tensor:
        users, positives, negatives = batch.users, batch.positives, batch.negatives
        layers = [torch.cat(tables)]
        for _ in range(n_layers):
            layers.append(torch.sparse.mm(adjacency, layers[-1]))
        of_user, of_item = torch.split(torch.stack(layers, dim=1).mean(dim=1), sizes)
        user, positive, negative = of_user[users], of_item[positives], of_item[negatives]
        first = (tables[0][users], tables[1][positives], tables[1][negatives])
        ranking = functional.softplus((user * negative).sum(1) - (user * positive).sum(1)).mean()
        loss = ranking + l2 * torch.stack([x.square().sum() for x in first]).sum() / (2 * len(users))
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        return loss.detach()

    return step


def _ends(graph: TrainingGraph) -> tuple[Tensor, Tensor]:
    users, items = graph.users, graph.items + graph.n_users
    return torch.cat([users, items]), torch.cat([items, users])


def _normalised_coo(graph: TrainingGraph) -> Tensor:
    head, tail = _ends(graph)
    degree = torch.bincount(head, minlength=graph.n_nodes).clamp_min(1).to(torch.float32)
    values = (degree[head] * degree[tail]).rsqrt()
    index = torch.stack([head, tail])
    return torch.sparse_coo_tensor(index, values, (graph.n_nodes, graph.n_nodes), check_invariants=False).coalesce()

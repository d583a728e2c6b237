"""The route for the CPU: machine code that numba makes, see `gnn.kernels`. See `gnn.sparse.route.Route`."""

import torch
from torch import Tensor

from gnn.kernels import cpu_edges, cpu_rank, cpu_spmm, cpu_topk
from gnn.sparse.pattern import Csr, NormalisedGraph

edge_dot = cpu_spmm.edge_dot
edge_softmax = cpu_edges.softmax
edge_softmax_backward = cpu_edges.softmax_backward
attend = cpu_edges.attend


def multiply(csr: Csr, values: Tensor | None, x: Tensor) -> Tensor:
    """Multiply by a sparse matrix."""
    return cpu_spmm.multiply_add(csr, x, x.new_empty(csr.n_rows, x.shape[1]), values=values)


def layer_mean(graph: NormalisedGraph, x: Tensor, n_layers: int, storage: torch.dtype) -> Tensor:
    """Average the layers by Horner's rule on scaled tables, G = D^-1/2 H: G <- D^-1/2 X + D^-1 A G reads no value."""
    if n_layers == 0:
        return x.clone()
    scale, csr = graph.scale, graph.csr
    g, spare = (x * scale[:, None]).to(storage), x.new_empty(x.shape, dtype=storage)
    inner = {"values": graph.weight, "row_scale": scale.square(), "base": x, "base_scale": scale}
    for _ in range(n_layers - 1):
        cpu_spmm.multiply_add(csr, g, spare, **inner)
        g, spare = spare, g
    share = 1.0 / (n_layers + 1)
    last = {"values": graph.weight, "row_scale": scale * share, "base": x, "base_scale": torch.full_like(scale, share)}
    return cpu_spmm.multiply_add(csr, g, torch.empty_like(x), **last)


def attend_backward(
    csr: Csr, logits: Tensor, row_max: Tensor, row_sum: Tensor, x: Tensor, y: Tensor, grad: Tensor
) -> tuple[Tensor, Tensor]:
    """Differentiate `attend` with respect to the logits."""
    to_logits = edge_dot(csr, grad, x)
    weights = cpu_edges.weigh(csr, logits, row_max, row_sum, to_logits, (grad * y).sum(dim=1))
    return to_logits, weights


def topk(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Rank columns."""
    values, columns = _nothing_yet(scores, k)
    cpu_topk.topk(scores.contiguous(), values, columns)
    return values, columns


def rank(users: Tensor, items: Tensor, mask: Csr, k: int) -> tuple[Tensor, Tensor]:
    """Score and rank in registers."""
    values, columns = _nothing_yet(users, k)
    cpu_rank.rank(users, items, mask, values, columns)
    return values, columns


def _nothing_yet(like: Tensor, k: int) -> tuple[Tensor, Tensor]:
    shape = (len(like), k)
    return like.new_full(shape, -torch.inf), torch.zeros(shape, dtype=torch.int64)

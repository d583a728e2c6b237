"""The route in plain PyTorch: needs no compiler, the others are compared with it. See `gnn.sparse.route.Route`."""

import torch
from torch import Tensor

from gnn.sparse.pattern import Csr, NormalisedGraph

_EDGE_CHUNK = 1 << 18


def multiply(csr: Csr, values: Tensor | None, x: Tensor) -> Tensor:
    """Multiply by a sparse matrix."""
    ones = torch.ones(len(csr.col), dtype=x.dtype, device=x.device) if values is None else values
    product: Tensor = csr.matrix(ones) @ x
    return product


def layer_mean(graph: NormalisedGraph, x: Tensor, n_layers: int, storage: torch.dtype) -> Tensor:
    """Average the layers by Horner's rule, H <- X + S H."""
    if n_layers == 0:
        return x.clone()
    h = x
    for _ in range(n_layers):
        h = torch.addmm(x, graph.matrix, h if storage == x.dtype else h.to(storage).to(x.dtype))
    return h.div_(n_layers + 1)


def edge_dot(csr: Csr, left: Tensor, right: Tensor) -> Tensor:
    """Dot per entry, in chunks: the (nnz, d) product is never held."""
    chunks = [slice(start, start + _EDGE_CHUNK) for start in range(0, len(csr.col), _EDGE_CHUNK)]
    dots = [torch.einsum("ed,ed->e", left[csr.row[c]], right[csr.col[c].long()]) for c in chunks]
    return torch.cat([left.new_empty(0), *dots])


def edge_softmax(csr: Csr, logits: Tensor) -> Tensor:
    """Normalise each row."""
    row_max, row_sum = _row_statistics(csr, logits)
    return torch.exp(logits - row_max[csr.row]) / row_sum[csr.row]


def edge_softmax_backward(csr: Csr, weights: Tensor, grad: Tensor) -> Tensor:
    """Differentiate `edge_softmax`."""
    flow = weights * grad
    return flow - weights * _reduce_rows(csr, flow, "sum")[csr.row]


def attend(csr: Csr, logits: Tensor, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Aggregate by softmax weights."""
    row_max, row_sum = _row_statistics(csr, logits)
    weights = torch.exp(logits - row_max[csr.row]) / row_sum[csr.row]
    return multiply(csr, weights, x), row_max, row_sum


def attend_backward(
    csr: Csr, logits: Tensor, row_max: Tensor, row_sum: Tensor, x: Tensor, y: Tensor, grad: Tensor
) -> tuple[Tensor, Tensor]:
    """Differentiate `attend` with respect to the logits."""
    weights = torch.exp(logits - row_max[csr.row]) / row_sum[csr.row]
    through_row = (grad * y).sum(dim=1)
    return weights * (edge_dot(csr, grad, x) - through_row[csr.row]), weights


def topk(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Rank columns; rows that cut a tie at k are sorted whole."""
    values, columns = torch.topk(scores, min(k + 1, scores.shape[1]), dim=1)
    cut_tie = (values[:, k - 1] == values[:, -1]) & (values.shape[1] > k)
    values, columns = values[:, :k], columns[:, :k]
    if bool(cut_tie.any()):
        ranked = torch.sort(scores[cut_tie], dim=1, descending=True, stable=True)
        values[cut_tie], columns[cut_tie] = ranked.values[:, :k], ranked.indices[:, :k]
    columns, order = torch.sort(columns, dim=1)
    values, order = torch.sort(values.gather(1, order), dim=1, descending=True, stable=True)
    return values, columns.gather(1, order)


def rank(users: Tensor, items: Tensor, mask: Csr, k: int) -> tuple[Tensor, Tensor]:
    """Score, mask and rank all items."""
    scores = users @ items.T
    scores[mask.row, mask.col.long()] = -torch.inf
    return topk(scores, k)


def _row_statistics(csr: Csr, logits: Tensor) -> tuple[Tensor, Tensor]:
    row_max = _reduce_rows(csr, logits, "max")
    return row_max, _reduce_rows(csr, torch.exp(logits - row_max[csr.row]), "sum")


def _reduce_rows(csr: Csr, values: Tensor, how: str) -> Tensor:
    return torch.segment_reduce(values, how, offsets=csr.rowptr.long(), axis=0)

"""The route in plain PyTorch: needs no compiler, the others are compared with it. See `gnn.sparse.route.Route`."""

import torch
from torch import Tensor

from gnn.sparse.pattern import Csr, NormalisedGraph

_EDGE_CHUNK = 1 << 18
_BLOCK = 32
_RANKED_AT_ONCE = {"cpu": 128, "cuda": 1024}


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
    """Rank columns; of wide rows only the k blocks with the highest maxima, which hold the k best, and the rest."""
    n_columns = scores.shape[1]
    if n_columns <= 2 * _BLOCK * k:
        return _topk_of_all(scores, k)
    whole = n_columns - n_columns % _BLOCK
    highest = scores[:, :whole].view(len(scores), -1, _BLOCK).amax(-1)
    _, blocks = _topk_of_all(highest, k)
    inside = blocks.sort(dim=1).values[:, :, None] * _BLOCK + torch.arange(_BLOCK, device=scores.device)
    rest = torch.arange(whole, n_columns, device=scores.device).expand(len(scores), -1)
    columns = torch.cat([inside.flatten(1), rest], dim=1)
    values, place = _topk_of_all(scores.gather(1, columns), k)
    return values, columns.gather(1, place)


def rank(users: Tensor, items: Tensor, mask: Csr, k: int) -> tuple[Tensor, Tensor]:
    """Score, mask and rank all items, for some users at a time: a buffer of 20 MB on the CPU at 40,000 items."""
    n_rows = _RANKED_AT_ONCE[users.device.type]
    buffer = users.new_empty(min(n_rows, len(users)), len(items))
    found = []
    for start in range(0, len(users), n_rows):
        scores = buffer[: len(users) - start]
        torch.mm(users[start : start + n_rows], items.T, out=scores)
        low, high = mask.rowptr[start], mask.rowptr[min(start + n_rows, len(users))]
        scores[mask.row[low:high] - start, mask.col[low:high].long()] = -torch.inf
        found.append(topk(scores, k))
    if not found:
        return users.new_empty(0, k), mask.col.new_empty(0, k).long()
    values, columns = (torch.cat(parts) for parts in zip(*found, strict=True))
    return values, columns


def _topk_of_all(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
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


def _row_statistics(csr: Csr, logits: Tensor) -> tuple[Tensor, Tensor]:
    row_max = _reduce_rows(csr, logits, "max")
    return row_max, _reduce_rows(csr, torch.exp(logits - row_max[csr.row]), "sum")


def _reduce_rows(csr: Csr, values: Tensor, how: str) -> Tensor:
    return torch.segment_reduce(values, how, offsets=csr.rowptr.long(), axis=0)

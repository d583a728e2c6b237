"""The operations that models are made of, with their gradients; each runs on the route that fits its tensors."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from gnn.sparse.pattern import Csr, NormalisedGraph
from gnn.sparse.route import load_route, route_of


def propagate(graph: NormalisedGraph, x: Tensor, n_layers: int, *, storage: torch.dtype | None = None) -> Tensor:
    """Average a node's vector over the layers of a linear propagation.

    Y = 1/(L+1) * sum over l = 0..L of S^l X, evaluated by Horner's rule as H <- X + S H. S is symmetric, so the
    gradient is the same function of the incoming gradient: nothing is stored and no transpose is made.

    Args:
        graph: S.
        x: (n, d).
        n_layers: L; 0 returns a copy of `x`.
        storage: type of the tables between layers, e.g. `torch.bfloat16` to halve their traffic; sums are kept in the
            type of `x`. None stores what `x` is.

    Returns:
        (n, d), differentiable once with respect to `x`.

    Source:
        He et al., SIGIR 2020 (LightGCN), equations 3 and 4 with alpha = 1/(L+1).
    """
    result: Tensor = _Propagate.apply(x, graph, n_layers, storage or x.dtype)
    return result


def spmm(csr: Csr, values: Tensor, x: Tensor) -> Tensor:
    """Multiply a sparse matrix by a dense one, with gradients to both.

    Args:
        csr: pattern (n, m).
        values: (nnz,); the gradient is a dot product per entry, computed only where it is asked for.
        x: (m, d).

    Returns:
        (n, d), differentiable once.
    """
    result: Tensor = _Spmm.apply(csr, values, x)
    return result


def edge_softmax(csr: Csr, logits: Tensor) -> Tensor:
    """Normalise edge logits to sum to one over the edges of each row, across parallel edges.

    Args:
        csr: pattern (n, m).
        logits: (nnz,); -inf gives weight 0 unless the whole row is -inf.

    Returns:
        (nnz,), differentiable once.
    """
    result: Tensor = _EdgeSoftmax.apply(csr, logits)
    return result


def attend(csr: Csr, logits: Tensor, x: Tensor) -> Tensor:
    """Sum the vectors of each row's entries, weighted by the softmax of their logits, in one pass over the row.

    Y_i = sum over entries (i, j) of softmax_i(l)_ij x_j. The weights are not kept: the gradient makes them anew from
    the row's highest logit and sum.

    Args:
        csr: pattern (n, m).
        logits: (nnz,).
        x: (m, d).

    Returns:
        (n, d), differentiable once with respect to `logits` and `x`; 0 for a row without an entry.
    """
    result: Tensor = _Attend.apply(csr, logits, x)
    return result


def masked_topk(scores: Tensor, mask: tuple[Tensor, Tensor], k: int) -> tuple[Tensor, Tensor]:
    """Rank the columns of each row, best first, ties by lower column.

    Args:
        scores: (n, m) raw scores; masked entries are OVERWRITTEN with -inf.
        mask: (rows, columns), each (n_masked,) int64: entries that may not be ranked.
        k: how many to keep, at most m.

    Returns:
        (values, columns), each (n, k); a value of -inf marks a place for which no candidate was left.
    """
    scores[mask] = -torch.inf
    return load_route(route_of(scores)).topk(scores, min(k, scores.shape[1]))


def rank(users: Tensor, items: Tensor, mask: Csr, k: int) -> tuple[Tensor, Tensor]:
    """Rank the items of each user by the dot product of their vectors, best first, ties by lower item.

    Scores are made, masked and ranked a tile at a time where the route can; memory does not grow with users x items
    there. Without gradient.

    Args:
        users: (n, d).
        items: (m, d).
        mask: pattern (n, m) of what may not be ranked.
        k: how many to keep, at most m.

    Returns:
        (values, columns), each (n, k); a value of -inf marks a place for which no candidate was left.
    """
    k = min(k, len(items))
    return load_route(route_of(users)).rank(users.contiguous(), items.contiguous(), mask, k)


class _Propagate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, graph: NormalisedGraph, n_layers: int, storage: torch.dtype) -> Tensor:
        ctx.rest = (graph, n_layers, storage)
        return load_route(route_of(x)).layer_mean(graph, x.contiguous(), n_layers, storage)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        graph, n_layers, storage = ctx.rest
        return load_route(route_of(grad)).layer_mean(graph, grad.contiguous(), n_layers, storage), None, None, None


class _Spmm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, csr: Csr, values: Tensor, x: Tensor) -> Tensor:
        ctx.csr = csr
        values, x = values.contiguous(), x.contiguous()
        ctx.save_for_backward(values, x)
        return load_route(route_of(x)).multiply(csr, values, x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor | None, Tensor | None]:
        values, x = ctx.saved_tensors
        grad, route = grad.contiguous(), load_route(route_of(grad))
        to_values = route.edge_dot(ctx.csr, grad, x) if ctx.needs_input_grad[1] else None
        to_x = None
        if ctx.needs_input_grad[2]:
            transposed, place = ctx.csr.transposed
            to_x = route.multiply(transposed, values[place], grad)
        return None, to_values, to_x


class _EdgeSoftmax(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, csr: Csr, logits: Tensor) -> Tensor:
        ctx.csr = csr
        weights = load_route(route_of(logits)).edge_softmax(csr, logits.contiguous())
        ctx.save_for_backward(weights)
        return weights

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor]:
        (weights,) = ctx.saved_tensors
        return None, load_route(route_of(grad)).edge_softmax_backward(ctx.csr, weights, grad.contiguous())


class _Attend(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, csr: Csr, logits: Tensor, x: Tensor) -> Tensor:
        ctx.csr = csr
        logits, x = logits.contiguous(), x.contiguous()
        y, row_max, row_sum = load_route(route_of(x)).attend(csr, logits, x)
        ctx.save_for_backward(logits, x, y, row_max, row_sum)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor, Tensor | None]:
        logits, x, y, row_max, row_sum = ctx.saved_tensors
        grad, route = grad.contiguous(), load_route(route_of(grad))
        to_logits, weights = route.attend_backward(ctx.csr, logits, row_max, row_sum, x, y, grad)
        to_x = None
        if ctx.needs_input_grad[2]:
            transposed, place = ctx.csr.transposed
            to_x = route.multiply(transposed, weights[place], grad)
        return None, to_logits, to_x

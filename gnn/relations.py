"""KGAT's logit of every edge, relation by relation, with the ends of each relation numbered anew."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from gnn.data import Facts
from gnn.sparse import Csr, csr_from_edges, route_of
from gnn.sparse.route import load_route


@dataclass(frozen=True, eq=False)
class EdgesByRelation:
    """The edges of each relation as a matrix between its own heads and its own tails.

    Attributes:
        ends: (total,) int64 distinct heads of relation 0, its distinct tails, the heads of relation 1, ...
        sizes: length of each of these parts.
        patterns: one for each relation, (n_heads, n_tails).
        place: (n_edges,) int64 for each edge of the facts its place among the entries of all patterns in turn.
    """

    ends: Tensor
    sizes: list[int]
    patterns: list[Csr]
    place: Tensor

    @classmethod
    def from_facts(cls, facts: Facts) -> "EdgesByRelation":
        """Group edges by relation."""
        ends, patterns = [], []
        for edges in facts.edges_of_relation:
            heads, row = torch.unique_consecutive(facts.csr.row[edges], return_inverse=True)
            tails, col = torch.unique(facts.csr.col[edges], return_inverse=True)
            patterns.append(csr_from_edges(row, col, len(heads), len(tails))[0])  # keeps the order: heads are sorted
            ends += [heads, tails.long()]
        place = torch.argsort(torch.cat(facts.edges_of_relation))
        return cls(torch.cat(ends), [len(part) for part in ends], patterns, place)


def edge_logits(edges: EdgesByRelation, embedding: Tensor, projection: Tensor, relation: Tensor) -> Tensor:
    """Tell how near head and tail of each edge are in the space of its relation.

        v(h, r, t) = (W_r e_t) . tanh(W_r e_h + e_r)

    A node is projected once for each relation that it is head or tail of, not once for each edge.

    Args:
        edges: which edges.
        embedding: (n_nodes, d) e.
        projection: (n_kinds, d, k) W_r, one for each pattern.
        relation: (n_kinds, k) e_r.

    Returns:
        (n_edges,) in the order of the facts, differentiable once.

    Source:
        Wang et al., KDD 2019 (KGAT), equation 4.
    """
    if route_of(embedding) == "compiled" and not torch.is_grad_enabled():
        from gnn.kernels import cpu_relations

        return cpu_relations.edge_logits(edges, embedding, projection, relation)
    # one lookup of all ends: each lookup costs a gradient of the size of the whole table
    parts = torch.split(functional.embedding(edges.ends, embedding), edges.sizes)
    logits = []
    for kind, csr in enumerate(edges.patterns):
        head, tail = (part @ projection[kind] for part in parts[2 * kind : 2 * kind + 2])
        logits.append(edge_dot(csr, torch.tanh(head + relation[kind]), tail))
    return torch.cat(logits)[edges.place]


def edge_dot(csr: Csr, left: Tensor, right: Tensor) -> Tensor:
    """Multiply the vectors of both ends of each entry, left_i . right_j.

    Args:
        csr: pattern (n, m).
        left: (n, d).
        right: (m, d).

    Returns:
        (nnz,), differentiable once.
    """
    result: Tensor = _EdgeDot.apply(csr, left, right)
    return result


class _EdgeDot(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, csr: Csr, left: Tensor, right: Tensor) -> Tensor:
        ctx.csr = csr
        left, right = left.contiguous(), right.contiguous()
        ctx.save_for_backward(left, right)
        return load_route(route_of(left)).edge_dot(csr, left, right)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor, Tensor]:
        left, right = ctx.saved_tensors
        route, grad = load_route(route_of(grad)), grad.contiguous()
        transposed, place = ctx.csr.transposed
        return None, route.multiply(ctx.csr, grad, right), route.multiply(transposed, grad[place], left)

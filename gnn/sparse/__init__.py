"""The hot path: one function for each operation on a sparse graph, three routes behind it.

`operations` is what models call; it differentiates and picks a route. `torch_route` is plain PyTorch, needs no compiler
and is the oracle of the others; `compiled_route` runs numba's machine code on the CPU; `cuda_route` runs Triton
kernels, or cuSPARSE where that wins.
"""

from gnn.sparse.operations import attend, edge_softmax, masked_topk, propagate, rank, spmm
from gnn.sparse.pattern import Csr, NormalisedGraph, csr_from_edges, expand_ranges, normalise
from gnn.sparse.route import route_of, use_route

__all__ = [
    "Csr",
    "NormalisedGraph",
    "attend",
    "csr_from_edges",
    "edge_softmax",
    "expand_ranges",
    "masked_topk",
    "normalise",
    "propagate",
    "rank",
    "route_of",
    "spmm",
    "use_route",
]

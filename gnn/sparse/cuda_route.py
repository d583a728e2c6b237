"""The route of Triton kernels, on CUDA or interpreted; see `gnn.sparse.route.Route`.

Products run through Triton, not cuSPARSE: which of the two wins on a plain valued product was not measured. Ranking is
PyTorch's: for all users of Gowalla its product and radix selection move some 29 GB, by `gnn.bench.cuda_model` about a
hundredth of a second, so there is little for a fused kernel to save.
"""

from typing import Any

import torch
from torch import Tensor

from gnn.kernels import triton_edges
from gnn.kernels.triton_spmm import Product, product
from gnn.sparse import torch_route
from gnn.sparse.pattern import Csr, NormalisedGraph

edge_dot = triton_edges.edge_dot
edge_softmax = triton_edges.softmax
edge_softmax_backward = triton_edges.softmax_backward
attend = triton_edges.attend
attend_backward = triton_edges.attend_backward
topk = torch_route.topk
rank = torch_route.rank


def multiply(csr: Csr, values: Tensor | None, x: Tensor) -> Tensor:
    """Multiply by a sparse matrix."""
    return product(Product(csr, x, weight=values), x.new_empty(csr.n_rows, x.shape[1]))


def layer_mean(graph: NormalisedGraph, x: Tensor, n_layers: int, storage: torch.dtype) -> Tensor:
    """Average the layers by Horner's rule on scaled tables, G = D^-1/2 H: G <- D^-1/2 X + D^-1 A G reads no value."""
    if n_layers == 0:
        return x.clone()
    given: dict[str, Any] = {"weight": graph.weight, "scale": graph.scale, "base": x}
    g = (x * graph.scale[:, None]).to(storage)
    for _ in range(n_layers - 1):
        g = product(Product(graph.csr, g, scale_result=True, **given), torch.empty_like(g))
    return product(Product(graph.csr, g, factor=1 / (n_layers + 1), **given), torch.empty_like(x))

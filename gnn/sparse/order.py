"""An order of nodes in which neighbours have neighbours in common: what a core has just read, it reads again."""

import numpy as np
import scipy.sparse
import torch
from scipy.sparse.csgraph import reverse_cuthill_mckee
from torch import Tensor

from gnn.sparse.pattern import Csr, NormalisedGraph


def local_order(csr: Csr, n_first: int) -> Tensor:
    """Order the nodes of a symmetric pattern by the reversed rule of Cuthill and McKee.

    Args:
        csr: square; each entry has its mirror.
        n_first: the first nodes (users) stay in front of the others: a row of theirs reads the others only.

    Returns:
        (n,) int64: the node at each place.

    Source:
        Cuthill and McKee, ACM National Conference 1969; `scipy.sparse.csgraph.reverse_cuthill_mckee`.
    """
    order = reverse_cuthill_mckee(_matrix(csr, np.ones(len(csr.col), np.int8)), symmetric_mode=True).astype(np.int64)
    return torch.from_numpy(np.concatenate([order[order < n_first], order[order >= n_first]]))


def reordered(graph: NormalisedGraph, order: Tensor) -> NormalisedGraph:
    """Return the graph whose node i is node order[i] of another; columns are sorted within a row.

    Args:
        graph: without parallel edges.
        order: (n,) int64, each node once.
    """
    nodes = order.numpy()
    moved = _matrix(graph.csr, np.arange(len(graph.csr.col), dtype=np.int32))[nodes][:, nodes]
    moved.sort_indices()
    rowptr, col, place = (torch.from_numpy(a.astype(np.int32)) for a in (moved.indptr, moved.indices, moved.data))
    weight = None if graph.weight is None else graph.weight[place]
    return NormalisedGraph(Csr(rowptr, col, len(order)), graph.scale[order], weight)


def _matrix(csr: Csr, values: np.ndarray) -> scipy.sparse.csr_matrix:
    return scipy.sparse.csr_matrix((values, csr.col.numpy(), csr.rowptr.numpy()), (csr.n_rows, csr.n_cols))

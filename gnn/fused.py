"""LightGCN's training step without autograd: loss, gradient and Adam in six passes over the graph's rows.

With S = D^-1/2 A D^-1/2 and Y = 1/(L+1) (I + S + .. + S^L) E, the loss reads Y at the batch's nodes only, and its
gradient is non-zero there only. So

    forward    G_0 = D^-1/2 E,  G_l = D^-1/2 E + D^-1 A G_(l-1) for l < L,  the last layer for the batch's rows only
    loss       BPR and regulariser on the batch's rows, gradients added up by node
    backward   Q_l = D^-1/2 dY + D^-1 A Q_(l-1), the first product with only the batch's rows in it
    update     the last product ends in Adam and in the next step's G_0: the gradient is never written

The 2 L products are as cheap as 4.4 whole ones at L = 3. No value of S is read: rows are scaled. The tables between are
kept in an order in which neighbours have neighbours in common; the parameter stays in the order of the nodes.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from gnn.adam import TableAdam
from gnn.kernels import cpu_step
from gnn.kernels.cpu_spmm import multiply_add, panels
from gnn.kernels.pages import on_large_pages
from gnn.kernels.threads import share_out, split_evenly, torch_on_one_thread
from gnn.sampling import InteractionBatch
from gnn.sparse import NormalisedGraph
from gnn.sparse.order import local_order, reordered

_NO_VALUES = np.empty(0, np.float32)


class LightGCNStep:
    """One step of LightGCN on the CPU: equal to autograd on `gnn.models.lightgcn` and `torch.optim.Adam`.

    Args:
        embedding: (n_nodes, d) float32 parameter, users first.
        graph: S.
        optimiser: a plain Adam that holds `embedding`.
        n_users: where items begin among the nodes.
        n_layers: L >= 1.
        l2: weight of the regulariser.
        storage: type of the tables between layers, float32 or bfloat16.

    Source:
        He et al., SIGIR 2020 (LightGCN), equations 3, 4 and 15.

    Deviations:
        None from `gnn.models.lightgcn`; sums in another order.
    """

    def __init__(
        self,
        embedding: torch.nn.Parameter,
        graph: NormalisedGraph,
        optimiser: torch.optim.Adam,
        *,
        n_users: int,
        n_layers: int,
        l2: float,
        storage: torch.dtype = torch.float32,
    ) -> None:
        self.embedding, self._adam = embedding, TableAdam(embedding, optimiser)
        self.n_users, self.n_layers, self.l2, self.storage = n_users, n_layers, l2, storage
        self._order = local_order(graph.csr, n_users)
        self._place = torch.empty_like(self._order).index_copy_(0, self._order, torch.arange(len(self._order)))
        self._graph = reordered(graph, self._order)
        self._squares, self._ones = self._graph.scale.square(), torch.ones_like(graph.scale)
        self._slots = np.full(len(embedding), -1, np.int32)
        self._start, self._one, self._other = (torch.empty(embedding.shape, dtype=storage) for _ in range(3))
        on_large_pages(*self._adam.tables(), self._start, self._one, self._other, self._graph.csr.col)
        self._seen_version = -1

    @torch.no_grad()
    @torch_on_one_thread()
    def __call__(self, batch: InteractionBatch) -> Tensor:
        """Make a step on a batch and return its loss, a scalar."""
        if self.embedding._version != self._seen_version:  # somebody else wrote to it, or this is the first step
            self._start.copy_(self.embedding[self._order] * self._graph.scale[:, None])
            self._seen_version = self.embedding._version
        nodes = torch.cat([batch.users, batch.positives + self.n_users, batch.negatives + self.n_users])
        places = self._place[nodes].numpy()
        distinct = np.empty(len(places), np.int64)
        distinct = distinct[: cpu_step.assign_slots(places, self._slots, distinct)]
        rows = torch.from_numpy(distinct)
        share = 1.0 / (self.n_layers + 1)
        first = self.embedding.index_select(0, self._order[rows])
        scales = self._graph.scale[rows].numpy()
        final = self._forward(rows, share).add_(first, alpha=share)
        slots = self._slots[places].reshape(3, -1)
        loss, direct, scaled = cpu_step.bpr_gradient(slots, first.numpy(), final.numpy(), scales, self.l2, share)
        self._backward(direct, scaled)
        cpu_step.release_slots(distinct, self._slots)
        return torch.tensor(loss, dtype=torch.float32)

    def _forward(self, rows: Tensor, share: float) -> Tensor:
        """Return Y at some places without the share of layer 0, (k, d)."""
        csr, values, x = self._graph.csr, self._graph.weight, self._start
        inner = {"values": values, "row_scale": self._squares, "base": self._start, "base_scale": self._ones}
        for layer in range(self.n_layers - 1):
            x = multiply_add(csr, x, (self._one, self._other)[layer % 2], **inner)
        final = torch.empty(len(rows), x.shape[1])
        return multiply_add(csr, x, final, values=values, row_scale=self._graph.scale * share, rows=rows)

    def _backward(self, direct: Any, scaled: Any) -> None:
        d, halves, has_values = direct.shape[1], self.storage == torch.bfloat16, self._graph.weight is not None
        rates, tables = self._adam.next_rates(), self._adam.tables()
        for start, width in panels(d):
            moved = tuple(t.data_ptr() + t.element_size() * start for t in tables)
            to_parameter, to_table = (table.ctypes.data + table.itemsize * start for table in (direct, scaled))
            x = to_table
            for layer in range(self.n_layers):
                is_last = layer == self.n_layers - 1
                kernel = cpu_step.backward(width, has_values, layer == 0, is_last, halves)
                out = (self._start if is_last else (self._one, self._other)[layer % 2]).data_ptr()
                out += self._start.element_size() * start
                rows = self._rows(self._graph.scale if is_last else self._squares)
                base = to_parameter if is_last else to_table
                share_out(kernel, *rows, d, x, base, out, rates, self._order.numpy(), moved)
                x = out

    def _rows(self, scales: Tensor) -> tuple[Any, ...]:
        rowptr, weight = self._graph.csr.rowptr.numpy(), self._graph.weight
        values = _NO_VALUES if weight is None else weight.numpy()
        return split_evenly(rowptr), rowptr, self._graph.csr.col.numpy(), values, self._slots, scales.numpy()

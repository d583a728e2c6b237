"""KGAT's logits without gradient, on the CPU: the ends of a relation are projected by blocks, in tables that stay."""

import torch
from torch import Tensor

from gnn.kernels.cpu_panel import project
from gnn.kernels.cpu_spmm import edge_dot
from gnn.kernels.threads import work_in_blocks
from gnn.relations import EdgesByRelation


def edge_logits(edges: EdgesByRelation, embedding: Tensor, projection: Tensor, relation: Tensor) -> Tensor:
    """Compute `gnn.relations.edge_logits`, which says what the arguments are."""
    ends = torch.split(edges.ends, edges.sizes)
    heads, tails = (embedding.new_empty(max(edges.sizes[k::2]), projection.shape[2]) for k in (0, 1))
    logits = []
    for kind, csr in enumerate(edges.patterns):
        head, tail = heads[: csr.n_rows], tails[: csr.n_cols]
        _project(embedding, ends[2 * kind], projection[kind], head, shift=relation[kind])
        _project(embedding, ends[2 * kind + 1], projection[kind], tail)
        logits.append(edge_dot(csr, head, tail))
    return torch.cat(logits)[edges.place]


def _project(table: Tensor, nodes: Tensor, weight: Tensor, out: Tensor, shift: Tensor | None = None) -> None:
    """Write W e of some nodes, or tanh(W e + r)."""

    @torch.no_grad()
    def work(_: int, part: slice) -> None:
        project(table, nodes[part], weight, shift, out[part])

    work_in_blocks(work, len(nodes), torch.get_num_threads())

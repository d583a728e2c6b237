"""The graph in PyTorch Geometric's forms, for models that are written with it."""

from typing import TYPE_CHECKING

import numpy as np
import torch

from gnn.data import TrainingGraph
from kg.ckg import CollaborativeKG
from kg.terms import HEAD, RELATION, TAIL, TRAIN

if TYPE_CHECKING:
    from torch_geometric import EdgeIndex
    from torch_geometric.data import HeteroData

_KINDS = ("user", "item", "entity")


def to_edge_index(graph: TrainingGraph) -> "EdgeIndex":
    """Return every edge, both directions, sorted by row; `graph.edge_type` is in another order, `graph.facts` in this.

    Returns:
        A PyG `EdgeIndex` of size (n_nodes, n_nodes), parallel edges kept.
    """
    from torch_geometric import EdgeIndex

    csr = graph.facts.csr
    pairs = torch.stack([csr.row, csr.col.long()])
    return EdgeIndex(pairs, sparse_size=(graph.n_nodes, graph.n_nodes), sort_order="row")


def to_hetero_data(ckg: CollaborativeKG) -> "HeteroData":
    """Return train interactions and facts as a PyG `HeteroData`; valid and test interactions are left out.

    Node types are `user`, `item` and `entity`, each numbered from 0 in the order of the CKG. An edge type is (type of
    head, relation, type of tail), in the direction of the fact; `torch_geometric.transforms.ToUndirected` adds the
    inverses. `edge_attr` is the confidence, (n, 1) float32.
    """
    from torch_geometric.data import HeteroData

    data = HeteroData()
    starts = np.array([0, ckg.n_users, ckg.n_users + ckg.n_items, ckg.n_nodes])
    for kind, size in zip(_KINDS, np.diff(starts).tolist(), strict=True):
        data[kind].num_nodes = size
    train = ckg.interactions[TRAIN]
    head = np.concatenate([train[:, 0], ckg.triples[:, HEAD]])
    tail = np.concatenate([train[:, 1], ckg.triples[:, TAIL]])
    relation = np.concatenate([np.zeros(len(train), np.int64), ckg.triples[:, RELATION]])
    confidence = np.concatenate([np.ones(len(train)), ckg.confidence]).astype(np.float32)
    head_kind, tail_kind = (np.searchsorted(starts, ends, side="right") - 1 for ends in (head, tail))
    types = np.stack([head_kind, relation, tail_kind], axis=1)
    for kind in np.unique(types, axis=0):
        chosen = (types == kind).all(axis=1)
        store = data[_KINDS[kind[0]], ckg.relations[kind[1]], _KINDS[kind[2]]]
        ends = np.stack([head[chosen] - starts[kind[0]], tail[chosen] - starts[kind[2]]])
        store.edge_index = torch.from_numpy(ends)
        store.edge_attr = torch.from_numpy(confidence[chosen, None])
    return data

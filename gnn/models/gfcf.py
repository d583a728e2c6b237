"""GF-CF: two low-pass filters of the item graph, in closed form."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import scipy.sparse.linalg
import torch
from torch import Tensor

from gnn.data import TrainingGraph
from gnn.memory import require_memory
from gnn.recommender import Objective, Recommender
from gnn.sparse import Csr, csr_from_edges, spmm
from kg.errors import ConfigError

_WIDTH = 128  # users filtered at once: their (n_items, 128) table stays near the cache, wider ones were slower


class GFCF(Recommender, name="gfcf"):
    """Smooth a user's items over the item graph: once along all edges, once onto its smoothest directions.

    X~ = D_U^-1/2 X D_I^-1/2,  s(u, .) = x_u (X~^T X~ + alpha * D_I^-1/2 V V^T D_I^1/2)

    V holds the right singular vectors of X~ with the largest singular values, X the train interactions. The item graph
    X~^T X~ is never made: each user's row goes through X~ and back. Facts are not used.

    Source:
        Shen et al., CIKM 2021, section 4.3; yshenaw/GF_CF for alpha and the number of vectors.

    Deviations:
        None. (For Amazon-Book the authors' code leaves the second filter out; alpha 0 does so here.)
    """

    objectives: ClassVar[tuple[Objective, ...]] = ()

    @dataclass(frozen=True)
    class Config:
        """Parameters of GF-CF.

        Attributes:
            n_vectors: how many singular vectors the second filter keeps; fewer where the matrix has fewer.
            alpha: weight of the second filter.
        """

        n_vectors: int = 256
        alpha: float = 0.3

        def __post_init__(self) -> None:
            """Check the ranges."""
            for name, low in (("n_vectors", 1), ("alpha", 0)):
                if not getattr(self, name) >= low:
                    msg = f"gfcf: `{name}` is {getattr(self, name)}; expected at least {low}"
                    raise ConfigError(msg)

    def __init__(self, config: Config, graph: TrainingGraph) -> None:
        """Normalise the interactions and make room for V.

        Raises:
            MemoryNeedError: if there is not enough memory to find V.
        """
        super().__init__(config, graph)
        smaller, larger = sorted((graph.n_users, graph.n_items))
        n_vectors = min(config.n_vectors, smaller)
        size_bytes = 4 * n_vectors * (3 * smaller + 2 * larger)  # two Krylov vectors for each, then both sides
        require_memory(size_bytes, f"gfcf with {n_vectors} vectors of {graph.n_users} users and {graph.n_items} items")
        user_degree, item_degree = (
            torch.bincount(index, minlength=n).float()
            for index, n in ((graph.users, graph.n_users), (graph.items, graph.n_items))
        )
        self.root = item_degree.sqrt()
        values = (user_degree[graph.users] * item_degree[graph.items]).rsqrt()
        self.by_user = _matrix(graph.users, graph.items, values, (graph.n_users, graph.n_items))
        self.by_item = _matrix(graph.items, graph.users, values, (graph.n_items, graph.n_users))
        self.basis: Tensor
        self.register_buffer("basis", torch.zeros(graph.n_items, n_vectors, device=graph.device))

    def fit(self) -> None:
        """Find V by Lanczos iterations from a fixed start, or densely where all vectors are wanted."""
        csr, values = self.by_user
        parts = [part.cpu().numpy() for part in (values, csr.col, csr.rowptr)]
        x = scipy.sparse.csr_array(tuple(parts), shape=(csr.n_rows, csr.n_cols))
        n_vectors, smaller = self.basis.shape[1], min(x.shape)
        if n_vectors == smaller:
            rows = np.linalg.svd(x.toarray(), full_matrices=False)[2]
        else:
            start = np.ones(smaller, x.dtype)
            rows = scipy.sparse.linalg.svds(x, n_vectors, v0=start, return_singular_vectors="vh")[2]
        self.basis.copy_(torch.from_numpy(rows.T.copy()))

    def scores(self, users: Tensor) -> Tensor:
        """Filter the users' rows; see `Recommender.scores`."""
        scores = torch.empty(len(users), self.graph.n_items, device=self.graph.device)
        back = self.config.alpha * self.basis.T * self.root
        for start in range(0, len(users), _WIDTH):
            part = scores[start : start + _WIDTH]
            history = self.graph.history(users[start : start + _WIDTH])
            torch.mm((history / self.root.clamp_min(1)) @ self.basis, back, out=part)
            part += spmm(*self.by_item, spmm(*self.by_user, history.T)).T
        return scores


def _matrix(row: Tensor, col: Tensor, values: Tensor, shape: tuple[int, int]) -> tuple[Csr, Tensor]:
    csr, order = csr_from_edges(row, col, *shape)
    return csr, values[order]

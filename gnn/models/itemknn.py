"""ItemKNN: items are alike that the same users have."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from gnn.data import TrainingGraph
from gnn.recommender import Objective, Recommender
from gnn.sparse import Csr
from kg.errors import ConfigError


class ItemKNN(Recommender, name="itemknn"):
    """Score an item by its likeness to the items that the user has, over its k nearest neighbours.

    sim(i, j) = n_ij / (sqrt(n_i n_j) + shrinkage),  s(u, i) = sum over j in N_k(i), j in x_u, of sim(i, j)

    n_ij is the number of users who have both, n_i of those who have i; N_k(i) are the k items most similar to i.

    Source:
        Sarwar et al., WWW 2001, section 3; shrinkage as Dacrema et al., TOIS 2021, section 4.

    Deviations:
        None.
    """

    objectives: ClassVar[tuple[Objective, ...]] = ()

    @dataclass(frozen=True)
    class Config:
        """Parameters of ItemKNN.

        Attributes:
            n_neighbours: k.
            shrinkage: added to the denominator, so that few common users do not make two items alike.
        """

        n_neighbours: int = 100
        shrinkage: float = 10.0

        def __post_init__(self) -> None:
            """Check the ranges."""
            for name, low in (("n_neighbours", 1), ("shrinkage", 0)):
                if not getattr(self, name) >= low:
                    msg = f"itemknn: `{name}` is {getattr(self, name)}; expected at least {low}"
                    raise ConfigError(msg)

    def __init__(self, config: Config, graph: TrainingGraph) -> None:
        """Make room for the neighbours."""
        super().__init__(config, graph)
        shape = (graph.n_items, min(config.n_neighbours, graph.n_items))
        self.neighbours: Tensor
        self.similarity: Tensor
        self.register_buffer("neighbours", torch.zeros(shape, dtype=torch.int32, device=graph.device))
        self.register_buffer("similarity", torch.zeros(shape, device=graph.device))

    def fit(self) -> None:
        """Find each item's neighbours, a row at a time of the sparse product."""
        x = self.graph.interactions()
        counts = (x.T @ x).tocsr()
        norm = np.sqrt(counts.diagonal())
        k = self.neighbours.shape[1]
        for item in range(self.graph.n_items):
            entries = slice(counts.indptr[item], counts.indptr[item + 1])
            others, common = counts.indices[entries], counts.data[entries]
            others, common = others[others != item], common[others != item]
            alike = common / (norm[item] * norm[others] + self.config.shrinkage)
            nearest = np.lexsort((others, -alike))[:k]
            self.neighbours[item, : len(nearest)] = torch.from_numpy(others[nearest].astype(np.int32))
            self.similarity[item, : len(nearest)] = torch.from_numpy(alike[nearest].astype(np.float32))

    def scores(self, users: Tensor) -> Tensor:
        """Add up the similarities to what the users have; see `Recommender.scores`."""
        n_items, k = self.neighbours.shape
        rowptr = torch.arange(0, n_items * k + 1, k, dtype=torch.int32, device=self.graph.device)
        pattern = Csr(rowptr, self.neighbours.ravel(), n_items)
        scores: Tensor = pattern.matrix(self.similarity.ravel()) @ self.graph.history(users).T
        return scores.T.contiguous()

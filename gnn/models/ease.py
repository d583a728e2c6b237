"""EASE: a linear item-item model in closed form."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from gnn.data import TrainingGraph
from gnn.memory import require_memory
from gnn.recommender import Objective, Recommender
from kg.errors import ConfigError


class EASE(Recommender, name="ease"):
    """Reconstruct a user's items from the user's other items by ridge regression.

    P = (X^T X + l2 I)^-1,  B_ij = -P_ij / P_jj for i != j and B_jj = 0,  s(u, .) = x_u B

    Dense in items: memory grows with n_items^2, time with n_items^3 (1,682 items: a second; 40,000: 20 GiB).

    Source:
        Steck, WWW 2019, equation 8 and the code listing.

    Deviations:
        None.
    """

    objectives: ClassVar[tuple[Objective, ...]] = ()

    @dataclass(frozen=True)
    class Config:
        """Parameters of EASE.

        Attributes:
            l2: the ridge; larger trusts single co-occurrences less.
        """

        l2: float = 300.0

        def __post_init__(self) -> None:
            """Check the range."""
            if not self.l2 > 0:
                msg = f"ease: `l2` is {self.l2}; expected a number above 0"
                raise ConfigError(msg)

    def __init__(self, config: Config, graph: TrainingGraph) -> None:
        """Make room for B.

        Raises:
            MemoryNeedError: if there is not enough memory for the items' square matrices.
        """
        super().__init__(config, graph)
        require_memory(3 * 8 * graph.n_items**2, f"ease on {graph.n_items} items")
        self.weights: Tensor
        self.register_buffer("weights", torch.zeros(graph.n_items, graph.n_items, device=graph.device))

    def fit(self) -> None:
        """Invert, in float64."""
        interactions = self.graph.interactions()
        gram = torch.from_numpy((interactions.T @ interactions).toarray())
        gram.diagonal().add_(self.config.l2)
        inverse = torch.linalg.inv(gram)
        weights = inverse / -inverse.diagonal()
        weights.fill_diagonal_(0.0)
        self.weights.copy_(weights)

    def scores(self, users: Tensor) -> Tensor:
        """Multiply the users' rows by B; see `Recommender.scores`."""
        scores: Tensor = self.graph.history(users) @ self.weights
        return scores

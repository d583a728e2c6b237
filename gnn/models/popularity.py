"""Popularity: what most users have."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from gnn.data import TrainingGraph
from gnn.recommender import Objective, Recommender


class Popularity(Recommender, name="popularity"):
    """Score an item by how many users have it, the same for everybody.

    s(u, i) = |{v : (v, i) in train}|

    Source:
        The unpersonalised control of Dacrema et al., TOIS 2021, section 4 (TopPop).

    Deviations:
        None.
    """

    objectives: ClassVar[tuple[Objective, ...]] = ()

    @dataclass(frozen=True)
    class Config:
        """Popularity has no parameter."""

    def __init__(self, config: Config, graph: TrainingGraph) -> None:
        """Make an empty count."""
        super().__init__(config, graph)
        self.count: Tensor
        self.register_buffer("count", torch.zeros(graph.n_items, device=graph.device))

    def fit(self) -> None:
        """Count the users of each item."""
        self.count = torch.bincount(self.graph.items, minlength=self.graph.n_items).float()

    def scores(self, users: Tensor) -> Tensor:
        """Return the counts, once for each user; see `Recommender.scores`."""
        return self.count.expand(len(users), -1).clone()

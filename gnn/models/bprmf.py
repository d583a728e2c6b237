"""BPR-MF: matrix factorisation, learned by ranking."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from gnn.data import TrainingGraph
from gnn.losses import regularised_bpr
from gnn.recommender import Recommender, Vectors
from gnn.sampling import Batch, InteractionBatch
from kg.errors import ConfigError


class BPRMF(Recommender, name="bprmf"):
    """Give each user and each item a vector; what a user has shall score above what the user has not.

    s(u, i) = w_u . h_i,  loss = mean of -ln sigma(s(u, i) - s(u, j)) + l2 * |w_u, h_i, h_j|^2 / 2

    Facts are not used: this is the baseline that says what any graph is worth. A vector is kept for every node, in the
    layout of the other models; those of entities stay as drawn.

    Source:
        Rendle et al., UAI 2009, sections 4.1 and 5.1.

    Deviations:
        One regulariser (the paper has one for users, positives and negatives each). Adam and batches instead of
        stochastic gradient descent by single triplets. BPR is a mean over the batch.
    """

    @dataclass(frozen=True)
    class Config:
        """Parameters of BPR-MF.

        Attributes:
            dim: width of a vector.
            l2: weight of the regulariser on the vectors of a batch.
            init_std: standard deviation of the initial vectors.
        """

        dim: int = 64
        l2: float = 1e-4
        init_std: float = 0.1

        def __post_init__(self) -> None:
            """Check the ranges."""
            for name, low in (("dim", 1), ("l2", 0), ("init_std", 0)):
                if not getattr(self, name) >= low:
                    msg = f"bprmf: `{name}` is {getattr(self, name)}; expected at least {low}"
                    raise ConfigError(msg)

    def __init__(self, config: Config, graph: TrainingGraph) -> None:
        """Draw the vectors."""
        super().__init__(config, graph)
        table = torch.randn(graph.n_nodes, config.dim) * config.init_std
        self.embedding = torch.nn.Parameter(table.to(graph.device))

    def embeddings(self, graph: TrainingGraph) -> Vectors:
        """Return the vectors as they are; see `Recommender.embeddings`."""
        return self.embedding[: graph.n_users], self.embedding[graph.n_users : graph.n_users + graph.n_items]

    def loss(self, batch: Batch) -> Tensor:
        """BPR and the regulariser; see `Recommender.loss`."""
        if not isinstance(batch, InteractionBatch):
            return super().loss(batch)
        shift = self.graph.n_users
        nodes = torch.stack([batch.users, batch.positives + shift, batch.negatives + shift])
        rows = functional.embedding(nodes, self.embedding)
        return regularised_bpr(rows, rows, self.config.l2)

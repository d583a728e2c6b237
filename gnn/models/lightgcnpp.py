"""LightGCN++: LightGCN whose neighbours count by direction, not by length."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from gnn.data import TrainingGraph
from gnn.losses import regularised_bpr
from gnn.recommender import Recommender, Vectors
from gnn.sampling import Batch, InteractionBatch
from gnn.sparse import Csr, spmm
from kg.errors import ConfigError


class LightGCNpp(Recommender, name="lightgcnpp"):
    """Sum the directions of the neighbours, scaled by powers of the degrees, and pool layer 0 apart from the others.

    e_u^(l+1) = 1/d_u^alpha * sum over neighbours i of 1/d_i^beta * e_i^(l) / |e_i^(l)|
    e_u = gamma e_u^(0) + (1 - gamma) * 1/L * sum of e_u^(1) .. e_u^(L),  s(u, i) = e_u . e_i

    alpha sets how the length of a vector grows with the degree of its node, beta how much neighbours of few or many
    edges weigh; LightGCN fixes both to 1/2. Facts are further edges as in `LightGCN`: the degree is the sum of the
    weights of a node's edges.

    Source:
        Lee et al., RecSys 2024, section 4; geon0325/LightGCNpp a394f79, whose defaults these are.

    Deviations:
        Facts as further edges, weighted by confidence (the paper has interactions only). BPR is a mean over the batch.
    """

    @dataclass(frozen=True)
    class Config:
        """Parameters of LightGCN++.

        Attributes:
            dim: width of an embedding.
            n_layers: L.
            alpha: power of the degree of the node that receives.
            beta: power of the degree of the neighbour that sends; below 0, neighbours of many edges weigh more.
            gamma: share of layer 0 in the result.
            l2: weight of the regulariser on the layer-0 embeddings of a batch.
            init_std: standard deviation of the initial embeddings.
            fact_weight: factor on the confidences of facts; 0 ignores them.
        """

        dim: int = 64
        n_layers: int = 2
        alpha: float = 0.6
        beta: float = -0.1
        gamma: float = 0.2
        l2: float = 1e-4
        init_std: float = 0.1
        fact_weight: float = 1.0

        def __post_init__(self) -> None:
            """Check the ranges."""
            lows = (("dim", 1), ("n_layers", 1), ("l2", 0), ("init_std", 0), ("fact_weight", 0))
            for name, low in lows:
                if not getattr(self, name) >= low:
                    msg = f"lightgcnpp: `{name}` is {getattr(self, name)}; expected at least {low}"
                    raise ConfigError(msg)
            for name, value in (("alpha", self.alpha), ("beta", self.beta)):
                if not -1 < value <= 1:
                    msg = f"lightgcnpp: `{name}` is {value}; expected a number above -1 and at most 1"
                    raise ConfigError(msg)
            if not 0 <= self.gamma <= 1:
                msg = f"lightgcnpp: `gamma` is {self.gamma}; expected a number in [0, 1]"
                raise ConfigError(msg)

    def __init__(self, config: Config, graph: TrainingGraph) -> None:
        """Draw the layer-0 embeddings."""
        super().__init__(config, graph)
        table = torch.randn(graph.n_nodes, config.dim) * config.init_std
        self.scaled = self._scaled(graph)
        self.embedding = torch.nn.Parameter(table.to(graph.device))

    def embeddings(self, graph: TrainingGraph) -> Vectors:
        """Propagate; see `Recommender.embeddings`."""
        x = self._propagated(graph)
        return x[: graph.n_users], x[graph.n_users : graph.n_users + graph.n_items]

    def loss(self, batch: Batch) -> Tensor:
        """BPR and the regulariser on layer 0; see `Recommender.loss`."""
        if not isinstance(batch, InteractionBatch):
            return super().loss(batch)
        shift = self.graph.n_users
        nodes = torch.stack([batch.users, batch.positives + shift, batch.negatives + shift])
        final = functional.embedding(nodes, self._propagated(self.graph))
        return regularised_bpr(final, functional.embedding(nodes, self.embedding), self.config.l2)

    def _scaled(self, graph: TrainingGraph) -> tuple[Csr, Tensor]:
        """Return the pattern and the weight / (d_row^alpha d_col^beta) of its entries."""
        normalised = graph.normalised(self.config.fact_weight)
        csr = normalised.csr
        degree = normalised.scale.square().reciprocal()  # of a node without an edge infinite, and in no entry
        values = degree[csr.row] ** -self.config.alpha * degree[csr.col.long()] ** -self.config.beta
        return csr, values if normalised.weight is None else values * normalised.weight

    def _propagated(self, graph: TrainingGraph) -> Tensor:
        csr, values = self.scaled if graph is self.graph else self._scaled(graph)
        x: Tensor = self.embedding
        total = torch.zeros_like(x)
        for _ in range(self.config.n_layers):
            x = spmm(csr, values, functional.normalize(x, dim=1))
            total = total + x
        gamma, n_layers = self.config.gamma, self.config.n_layers
        pooled: Tensor = gamma * self.embedding + (1 - gamma) / n_layers * total
        return pooled

"""LightGCN: linear propagation over interactions, and over facts where there are any."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from gnn.data import TrainingGraph
from gnn.losses import bpr, half_squared_norm
from gnn.recommender import Objective, Recommender, Step, Vectors
from gnn.sampling import Batch, InteractionBatch
from gnn.sparse import propagate, route_of
from kg.errors import ConfigError


class LightGCN(Recommender, name="lightgcn"):
    """Average a node's embedding with those of its neighbours, and nothing else.

    E^(l+1) = D^-1/2 A D^-1/2 E^(l),  E = 1/(L+1) * sum of E^(0) .. E^(L),  s(u, i) = e_u . e_i

    A holds the train interactions and, where the graph has facts, for each pair of nodes the sum of the confidences of
    its facts. On a graph `without_triples()` this is the paper's model; on a graph with facts it is the same model over
    more edges, so a comparison of the two shows what the facts are worth.

    Source:
        He et al., SIGIR 2020, equations 3, 4, 7, 8 and 15; initial N(0, 0.1) as gusye1234/LightGCN-PyTorch 947ca2b.

    Deviations:
        Facts as further edges, weighted by confidence (the paper has interactions only). BPR is a mean over the batch.
    """

    @dataclass(frozen=True)
    class Config:
        """Parameters of LightGCN.

        Attributes:
            dim: width of an embedding.
            n_layers: L; 0 is matrix factorisation.
            l2: weight of the regulariser on the layer-0 embeddings of a batch.
            init_std: standard deviation of the initial embeddings.
            fact_weight: factor on the confidences of facts; 0 ignores them.
            storage: type of the tables between layers; `bfloat16` halves their traffic, sums stay float32.
        """

        dim: int = 64
        n_layers: int = 3
        l2: float = 1e-4
        init_std: float = 0.1
        fact_weight: float = 1.0
        storage: Literal["float32", "bfloat16"] = "float32"

        def __post_init__(self) -> None:
            """Check the ranges."""
            for name, low in (("dim", 1), ("n_layers", 0), ("l2", 0), ("init_std", 0), ("fact_weight", 0)):
                if not getattr(self, name) >= low:
                    msg = f"lightgcn: `{name}` is {getattr(self, name)}; expected at least {low}"
                    raise ConfigError(msg)

    def __init__(self, config: Config, graph: TrainingGraph) -> None:
        """Draw the layer-0 embeddings."""
        super().__init__(config, graph)
        table = torch.randn(graph.n_nodes, config.dim) * config.init_std
        self.normalised = graph.normalised(config.fact_weight)
        self.embedding = torch.nn.Parameter(table.to(graph.device))

    def embeddings(self, graph: TrainingGraph) -> Vectors:
        """Propagate; see `Recommender.embeddings`."""
        x = self._propagated(graph)
        return x[: graph.n_users], x[graph.n_users : graph.n_users + graph.n_items]

    def loss(self, batch: Batch) -> Tensor:
        """BPR and the regulariser of equation 15; see `Recommender.loss`."""
        if not isinstance(batch, InteractionBatch):
            return super().loss(batch)
        shift = self.graph.n_users
        nodes = torch.stack([batch.users, batch.positives + shift, batch.negatives + shift])
        # one lookup of all three: each lookup costs a gradient of the size of the whole table
        user, positive, negative = functional.embedding(nodes, self._propagated(self.graph))
        first = functional.embedding(nodes, self.embedding)
        ranking = bpr((user * positive).sum(1), (user * negative).sum(1))
        total: Tensor = ranking + self.config.l2 * half_squared_norm(*first)
        return total

    def fused_step(self, objective: Objective, optimiser: torch.optim.Adam) -> Step | None:
        """Step without autograd where a route has it; see `Recommender.fused_step`."""
        route = route_of(self.embedding)
        if self.config.n_layers == 0 or route == "torch":
            return None
        form = {"n_users": self.graph.n_users, "n_layers": self.config.n_layers, "l2": self.config.l2}
        if route == "cuda":
            from gnn.fused_cuda import CudaLightGCNStep

            return CudaLightGCNStep(self.embedding, self.normalised, optimiser, storage=self._storage, **form)
        from gnn.fused import LightGCNStep

        return LightGCNStep(self.embedding, self.normalised, optimiser, storage=self._storage, **form)

    @property
    def _storage(self) -> torch.dtype:
        dtype: torch.dtype = getattr(torch, self.config.storage)
        return dtype

    def _propagated(self, graph: TrainingGraph) -> Tensor:
        own = graph is self.graph
        normalised = self.normalised if own else graph.normalised(self.config.fact_weight)
        return propagate(normalised, self.embedding, self.config.n_layers, storage=self._storage)

"""XSimGCL: LightGCN whose layers are made to agree in spite of noise."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from gnn.data import TrainingGraph
from gnn.losses import info_nce, regularised_bpr
from gnn.recommender import Recommender, Vectors
from gnn.sampling import Batch, InteractionBatch
from gnn.sparse import spmm
from kg.errors import ConfigError


class XSimGCL(Recommender, name="xsimgcl"):
    """Propagate once with noise, rank by the mean of the layers and contrast it with one of them.

    E^(l) = S E^(l-1) + eps * sign(S E^(l-1)) * n / |n|,  n uniform in [0, 1]^d;  S = D^-1/2 A D^-1/2
    E = 1/L * sum of E^(1) .. E^(L),  s(u, i) = e_u . e_i
    loss = BPR + contrast * (InfoNCE of E and E^(l*) over the batch's users + the same over its positive items) + L2

    The noise leaves each vector in its orthant and spreads the vectors over the sphere, which helps items of few
    interactions. It is drawn in the loss only, from torch's global generator; scores are without noise. Facts are
    further edges as in `LightGCN`.

    Source:
        Yu et al., TKDE 2023, sections 3.2 and 4.1; Coder-Yu/SELFRec 5b02294, also for the parameters of Yelp2018.

    Deviations:
        Facts as further edges, weighted by confidence (the paper has interactions only). The regulariser is LightGCN's,
        squared norms of layer 0 (the code: norms of final vectors of users and positives). BPR and InfoNCE are means.
    """

    @dataclass(frozen=True)
    class Config:
        """Parameters of XSimGCL.

        Attributes:
            dim: width of an embedding.
            n_layers: L.
            contrast_layer: l*, the layer that is contrasted with the mean of all.
            contrast: weight of InfoNCE.
            eps: length of the noise vectors.
            temperature: of InfoNCE.
            l2: weight of the regulariser on the layer-0 embeddings of a batch.
            fact_weight: factor on the confidences of facts; 0 ignores them.
        """

        dim: int = 64
        n_layers: int = 3
        contrast_layer: int = 1
        contrast: float = 0.2
        eps: float = 0.2
        temperature: float = 0.15
        l2: float = 1e-4
        fact_weight: float = 1.0

        def __post_init__(self) -> None:
            """Check the ranges."""
            lows = (("dim", 1), ("n_layers", 1), ("contrast", 0), ("eps", 0), ("l2", 0), ("fact_weight", 0))
            for name, low in lows:
                if not getattr(self, name) >= low:
                    msg = f"xsimgcl: `{name}` is {getattr(self, name)}; expected at least {low}"
                    raise ConfigError(msg)
            if not 1 <= self.contrast_layer <= self.n_layers:
                msg = f"xsimgcl: `contrast_layer` is {self.contrast_layer}; expected 1 to `n_layers` = {self.n_layers}"
                raise ConfigError(msg)
            if not self.temperature > 0:
                msg = f"xsimgcl: `temperature` is {self.temperature}; expected a number above 0"
                raise ConfigError(msg)

    def __init__(self, config: Config, graph: TrainingGraph) -> None:
        """Draw the layer-0 embeddings within Glorot's bound."""
        super().__init__(config, graph)
        table = torch.nn.init.xavier_uniform_(torch.empty(graph.n_nodes, config.dim))
        self.normalised = graph.normalised(config.fact_weight)
        self.embedding = torch.nn.Parameter(table.to(graph.device))

    def embeddings(self, graph: TrainingGraph) -> Vectors:
        """Propagate without noise; see `Recommender.embeddings`."""
        x, _ = self._propagated(graph, eps=0.0)
        return x[: graph.n_users], x[graph.n_users : graph.n_users + graph.n_items]

    def loss(self, batch: Batch) -> Tensor:
        """BPR, InfoNCE and the regulariser on layer 0; see `Recommender.loss`."""
        if not isinstance(batch, InteractionBatch):
            return super().loss(batch)
        config, shift = self.config, self.graph.n_users
        nodes = torch.stack([batch.users, batch.positives + shift, batch.negatives + shift])
        mean, layer = self._propagated(self.graph, config.eps)
        first = functional.embedding(nodes, self.embedding)
        total = regularised_bpr(functional.embedding(nodes, mean), first, config.l2)
        for side in (torch.unique(nodes[0]), torch.unique(nodes[1])):
            view, other = functional.embedding(side, mean), functional.embedding(side, layer)
            total = total + config.contrast * info_nce(view, other, config.temperature)
        return total

    def _propagated(self, graph: TrainingGraph, eps: float) -> tuple[Tensor, Tensor]:
        """Return the mean of the layers, and the layer to contrast it with."""
        own = graph is self.graph
        normalised = self.normalised if own else graph.normalised(self.config.fact_weight)
        x: Tensor = self.embedding
        layers = []
        for _ in range(self.config.n_layers):
            x = spmm(normalised.csr, normalised.values, x)
            if eps:
                x = x + eps * x.sign() * functional.normalize(torch.rand_like(x), dim=1)
            layers.append(x)
        return torch.stack(layers).mean(0), layers[self.config.contrast_layer - 1]

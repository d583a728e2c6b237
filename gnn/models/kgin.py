"""KGIN: users act out of intents, and facts are followed along their relations."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from gnn.data import TrainingGraph
from gnn.losses import distance_correlation, regularised_bpr
from gnn.recommender import Recommender, Vectors
from gnn.sampling import Batch, InteractionBatch
from gnn.sparse import Csr, csr_from_edges, spmm
from kg.errors import ConfigError


class KGIN(Recommender, name="kgin"):
    """Multiply a neighbour by the relation that leads to it; what leads from a user to an item is a mix of intents.

    e_p = sum over relations r of softmax_r(w_p) e_r                                                (1, 2)
    beta(u, p) = softmax over the intents p of e_p . e_u^(l)                                           (8)
    e_u^(l+1) = 1/|N_u| * sum over items i of u, intents p of beta(u, p) e_p * e_i^(l)                  (7)
    e_v^(l+1) = 1/|N_v| * sum over facts (v, r, t) of e_r * e_t^(l)                                   (10)
    e = e^(0) + .. + e^(L),  s(u, i) = e_u . e_i                                               (11, 13, 14)
    loss = BPR + independence * sum over pairs of intents of dCor(e_p, e_q) + L2               (4, 5, 15, 16)

    Relations are those of the facts and their inverses; items do not listen to users. Where users have facts of their
    own, N_u holds them beside the items, each with its relation. A graph without facts has no relations, so no intents:
    this is then BPR-MF. Facts count by their confidence.

    Source:
        Wang et al., WWW 2021; huangtinglin/Knowledge_Graph_based_Intent_Network 0e43517 for what the paper leaves open:
        dropout of edges and messages, and the parameters.

    Deviations:
        Confidence and facts of users (the paper has neither). The regulariser is on the final vectors of a batch, as
        in the code. Of the code we do not take what the paper does not have: it adds the plain mean of the items to
        a user's message, takes beta from vectors of its own instead of e_p, scales each layer to unit length, and
        measures independence on w_p instead of e_p. Dropped edges still count in |N_v|; the others are scaled up.
    """

    @dataclass(frozen=True)
    class Config:
        """Parameters of KGIN.

        Attributes:
            dim: width of an embedding.
            n_layers: L.
            n_intents: number of intents.
            edge_dropout: share of the edges that is dropped in a training step.
            dropout: share of a layer's output that is dropped in training.
            independence: weight of the intents' distance correlation.
            l2: weight of the regulariser on the final vectors of a batch.
        """

        dim: int = 64
        n_layers: int = 3
        n_intents: int = 4
        edge_dropout: float = 0.5
        dropout: float = 0.1
        independence: float = 1e-4
        l2: float = 1e-5

        def __post_init__(self) -> None:
            """Check the ranges."""
            for name, low in (("dim", 1), ("n_layers", 0), ("n_intents", 1), ("independence", 0), ("l2", 0)):
                if not getattr(self, name) >= low:
                    msg = f"kgin: `{name}` is {getattr(self, name)}; expected at least {low}"
                    raise ConfigError(msg)
            for name, value in (("edge_dropout", self.edge_dropout), ("dropout", self.dropout)):
                if not 0 <= value < 1:
                    msg = f"kgin: `{name}` is {value}; expected a number in [0, 1)"
                    raise ConfigError(msg)

    def __init__(self, config: Config, graph: TrainingGraph) -> None:
        """Draw the parameters within Glorot's bounds."""
        super().__init__(config, graph)
        n_relations = 2 * (graph.n_relations - 1)
        self.paths = _paths(graph)
        self.embedding = _xavier(graph, graph.n_nodes, config.dim)
        self.relation = _xavier(graph, n_relations, config.dim)
        self.intent = _xavier(graph, config.n_intents, n_relations)

    def embeddings(self, graph: TrainingGraph) -> Vectors:
        """Propagate; see `Recommender.embeddings`."""
        x = self._propagated(graph, self._intents())
        return x[: graph.n_users], x[graph.n_users : graph.n_users + graph.n_items]

    def loss(self, batch: Batch) -> Tensor:
        """BPR, the intents' dependence and the regulariser; see `Recommender.loss`."""
        if not isinstance(batch, InteractionBatch):
            return super().loss(batch)
        shift, intents = self.graph.n_users, self._intents()
        nodes = torch.stack([batch.users, batch.positives + shift, batch.negatives + shift])
        final = functional.embedding(nodes, self._propagated(self.graph, intents))
        ranking = regularised_bpr(final, final, self.config.l2)
        total: Tensor = ranking + self.config.independence * distance_correlation(intents)
        return total

    def _intents(self) -> Tensor:
        """Return e_p of each intent, (n_intents, dim)."""
        return torch.softmax(self.intent, dim=1) @ self.relation

    def _propagated(self, graph: TrainingGraph, intents: Tensor) -> Tensor:
        config = self.config
        paths = self.paths if graph is self.graph else _paths(graph)
        confidence = functional.dropout(paths.confidence, config.edge_dropout, self.training)
        x: Tensor = self.embedding
        total = x
        for _ in range(config.n_layers):
            mixed = torch.softmax(x[: graph.n_users] @ intents.T, dim=1) @ intents
            factors = functional.embedding(paths.factor, torch.cat([self.relation, mixed]))
            x = spmm(paths.joined, paths.share, factors * spmm(paths.grouped, confidence, x))
            x = functional.dropout(x, config.dropout, self.training)
            total = total + x
        return total


@dataclass(frozen=True, eq=False)
class _Paths:
    """Edges in groups of equal head and relation: a group's tails are summed before its relation multiplies them.

    So what is as long as the edges is only their confidences, and parallel edges stay in groups of their own.

    Attributes:
        grouped: rows = groups, columns = nodes; an entry for each edge.
        confidence: (n_edges,) of each entry of `grouped`.
        joined: rows = heads, columns = groups; an entry for each group.
        share: (n_groups,) 1 / (sum of the confidences of the head's edges).
        factor: (n_groups,) int64 row of [relations | mixed intents of each user] that multiplies the group.
    """

    grouped: Csr
    confidence: Tensor
    joined: Csr
    share: Tensor
    factor: Tensor


def _paths(graph: TrainingGraph) -> _Paths:
    facts, n_kinds = graph.facts, 2 * graph.n_relations
    kept = facts.relation != graph.n_relations  # the inverse of `interacts`
    head, tail, confidence = facts.csr.row[kept], facts.csr.col[kept].long(), facts.confidence[kept]
    kinds, group = torch.unique_consecutive(head * n_kinds + facts.relation[kept], return_inverse=True)
    grouped, order = csr_from_edges(group, tail, len(kinds), graph.n_nodes)
    head_of, relation = kinds // n_kinds, kinds % n_kinds
    joined, _ = csr_from_edges(head_of, torch.arange(len(kinds), device=graph.device), graph.n_nodes, len(kinds))
    total = torch.zeros(graph.n_nodes, device=graph.device).index_add_(0, head, confidence)
    row = relation - 1 - (relation > graph.n_relations).long()
    factor = torch.where(relation == 0, n_kinds - 2 + head_of, row)
    return _Paths(grouped, confidence[order], joined, total[head_of].reciprocal(), factor)


def _xavier(graph: TrainingGraph, n: int, width: int) -> torch.nn.Parameter:
    return torch.nn.Parameter(torch.nn.init.xavier_uniform_(torch.empty(n, width)).to(graph.device))

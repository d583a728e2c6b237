"""KGAT: attentive propagation over the collaborative knowledge graph."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import pairwise
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional

from gnn.data import TrainingGraph
from gnn.losses import bpr, half_squared_norm
from gnn.recommender import Objective, Recommender, Step, Vectors
from gnn.relations import EdgesByRelation, edge_logits
from gnn.sampling import Batch, FactBatch, InteractionBatch
from gnn.sparse import attend, edge_softmax, route_of, spmm
from kg.errors import ConfigError

if TYPE_CHECKING:
    from gnn.kernels.cpu_kgat_layers import Adjacency, Plan, Workspace

_SLOPE = 0.2


class KGAT(Recommender, name="kgat"):
    """Pass messages along facts, each weighted by how near head and tail are in the space of the relation.

    v(h, r, t) = (W_r e_t) . tanh(W_r e_h + e_r);  a = softmax of v + ln(confidence) over all facts of h  (4, 5)
    e_N(h) = sum over the facts of h of a(h, r, t) e_t  (3)
    e^(l) = LeakyReLU(W1 (e + e_N)) + LeakyReLU(W2 (e * e_N))  (8)
    score = e*_u . e*_i with e* = e^(0) || e^(1)/|e^(1)| || ... || e^(L)/|e^(L)|  (11, 12)
    trained in turns on BPR of the scores and on TransR: softplus(g(h, r, t) - g(h, r, t')) with
    g = |W_r e_h + e_r - W_r e_t|^2  (1, 2, 13)

    Edges are interactions and facts, both directions, parallel edges kept. The attention is one weight an edge, shared
    by the layers, constant within an epoch and without gradient; it is computed anew after each epoch. Before the
    first it is the random walk within each relation, 1 / (number of facts of h with r).

    With `attention = "differentiable"` every step computes it, and the ranking loss reaches W_r and e_r through it.

    Source:
        Wang et al., KDD 2019, equations 1 to 13; xiangwang1223/knowledge_graph_attention_network c03737b for what the
        paper leaves open: regularisers, order of updates, LeakyReLU slope 0.2, attention as the authors state it in
        issue 43 (in the released TensorFlow graph it very probably never takes effect, issue 30).

    Deviations:
        Confidence enters the softmax (the paper has no confidence). Normal initial embeddings instead of vectors
        trained beforehand by BPR-MF. Heads of a TransR batch are drawn with replacement.
    """

    objectives: ClassVar[tuple[Objective, ...]] = ("interactions", "facts")

    @dataclass(frozen=True)
    class Config:
        """Parameters of KGAT.

        Attributes:
            dim: width of the layer-0 embedding.
            relation_dim: width of the relations' spaces.
            layers: width of each layer's output.
            dropout: share of a layer's output that is dropped in training.
            l2: weight of the regulariser on the final embeddings of a batch.
            l2_facts: weight of the regulariser on the projected embeddings of a TransR batch.
            init_std: standard deviation of the initial embeddings.
            attention: fixed within an epoch as in the paper, or differentiable, part of every step.
        """

        dim: int = 64
        relation_dim: int = 64
        layers: tuple[int, ...] = (64, 32, 16)
        dropout: float = 0.1
        l2: float = 1e-5
        l2_facts: float = 1e-5
        init_std: float = 0.1
        attention: Literal["fixed", "differentiable"] = "fixed"

        def __post_init__(self) -> None:
            """Check the ranges."""
            lows = (("dim", 1), ("relation_dim", 1), ("dropout", 0), ("l2", 0), ("l2_facts", 0), ("init_std", 0))
            for name, low in lows:
                if not getattr(self, name) >= low:
                    msg = f"kgat: `{name}` is {getattr(self, name)}; expected at least {low}"
                    raise ConfigError(msg)
            if not self.layers or min(self.layers) < 1 or self.dropout >= 1:
                msg = f"kgat: `layers` is {self.layers}, `dropout` is {self.dropout}; expected widths >= 1 and [0, 1)"
                raise ConfigError(msg)

    def __init__(self, config: Config, graph: TrainingGraph) -> None:
        """Draw the parameters; the attention begins as a random walk."""
        super().__init__(config, graph)
        device, n_kinds = graph.device, 2 * graph.n_relations
        widths = (config.dim, *config.layers)
        steps = list(pairwise(widths))
        self.embedding = torch.nn.Parameter((torch.randn(graph.n_nodes, config.dim) * config.init_std).to(device))
        self.relation = torch.nn.Parameter(_xavier(n_kinds, config.relation_dim).to(device))
        self.projection = torch.nn.Parameter(_xavier(n_kinds, config.dim, config.relation_dim).to(device))
        self.add = torch.nn.ModuleList(torch.nn.Linear(a, b, device=device) for a, b in steps)
        self.multiply = torch.nn.ModuleList(torch.nn.Linear(a, b, device=device) for a, b in steps)
        self.attention: Tensor
        if config.attention == "fixed":
            self.register_buffer("attention", _random_walk(graph))
        self._adjacency: Adjacency | None = None
        self._workspaces: list[Workspace] = []

    def embeddings(self, graph: TrainingGraph) -> Vectors:
        """Propagate and concatenate the layers; see `Recommender.embeddings`."""
        nodes = torch.arange(graph.n_users + graph.n_items, device=graph.device)
        x = self._propagated(graph, nodes)
        return x[: graph.n_users], x[graph.n_users :]

    def loss(self, batch: Batch) -> Tensor:
        """BPR or TransR, whichever the batch is for, with its regulariser; see `Recommender.loss`."""
        if isinstance(batch, FactBatch):
            nodes = torch.stack([batch.heads, batch.tails, batch.negatives], dim=1)
            return self.fact_loss(batch.relations, functional.embedding(nodes, self.embedding))
        return self.ranking_loss(self._propagated(self.graph, self.nodes_of(batch)))

    def ranking_loss(self, vectors: Tensor) -> Tensor:
        """BPR with the regulariser, of the final vectors of users, positives and negatives, (3, n, d)."""
        user, positive, negative = vectors
        ranking = bpr((user * positive).sum(-1), (user * negative).sum(-1))
        total: Tensor = ranking + self.config.l2 * half_squared_norm(user, positive, negative)
        return total

    def fact_loss(self, relations: Tensor, vectors: Tensor) -> Tensor:
        """TransR with the regulariser, of the layer-0 vectors of heads, tails and negatives, (n, 3, d).

        Args:
            relations: (n,) int64, sorted.
            vectors: of the ends of each fact.
        """
        n_each = torch.bincount(relations, minlength=len(self.relation)).tolist()
        groups = zip(torch.split(vectors, n_each), torch.unbind(self.projection), strict=True)
        head, tail, negative = torch.cat([group @ w for group, w in groups if len(group)]).unbind(1)
        relation = functional.embedding(relations, self.relation)
        near = (head + relation - tail).square().sum(1)
        far = (head + relation - negative).square().sum(1)
        total: Tensor = bpr(-near, -far) + self.config.l2_facts * half_squared_norm(head, relation, tail, negative)
        return total

    def fused_step(self, objective: Objective, optimiser: torch.optim.Adam) -> Step | None:
        """Step without a fresh gradient of the embedding, on the CPU; see `Recommender.fused_step`."""
        if not self._is_by_hand():
            return None
        from gnn.fused_kgat import KGATStep

        return KGATStep(self, optimiser)

    def after_epoch(self) -> None:
        """Compute the attention anew, where it is fixed."""
        if self.config.attention == "fixed":
            self.attention = self.attend(self.graph)

    @torch.no_grad()
    def attend(self, graph: TrainingGraph) -> Tensor:
        """Compute the attention of each edge, (n_edges,), in the order of `graph.facts`; equations 4 and 5.

        Each node is projected once for each relation it has facts of, not once for each fact.
        """
        return edge_softmax(graph.facts.csr, self._logits(graph))

    def _logits(self, graph: TrainingGraph) -> Tensor:
        """Return v + ln(confidence) of each edge."""
        edges = self._edges if graph is self.graph else EdgesByRelation.from_facts(graph.facts)
        v = edge_logits(edges, self.embedding, self.projection, self.relation)
        return graph.facts.confidence.log() + v

    def nodes_of(self, batch: InteractionBatch) -> Tensor:
        """Return users, positives and negatives of a batch as nodes, (3, n)."""
        shift = self.graph.n_users
        return torch.stack([batch.users, batch.positives + shift, batch.negatives + shift])

    def plan(self, graph: TrainingGraph, nodes: Tensor) -> "tuple[Plan, Tensor]":
        """Return what the compiled route needs for some nodes, dropout drawn, and the place of each among them."""
        from gnn.kernels.cpu_kgat import Activation
        from gnn.kernels.cpu_kgat_layers import Plan

        distinct, place = torch.unique(nodes, return_inverse=True)
        dropout = self.config.dropout if self.training else 0.0
        seed = int(torch.randint(1 << 62, ())) if dropout else 0
        return Plan(self._adjacency_of(graph), distinct, Activation(_SLOPE, dropout, seed), self._workspaces), place

    def layer_weights(self) -> list[torch.nn.Parameter]:
        """Return W1, b1, W2, b2 of each layer in turn."""
        both = [layer for pair in zip(self.add, self.multiply, strict=True) for layer in pair]
        return [parameter for layer in both for parameter in layer.parameters()]

    def _is_by_hand(self) -> bool:
        return self.config.attention == "fixed" and route_of(self.embedding) == "compiled"

    def _propagated(self, graph: TrainingGraph, nodes: Tensor) -> Tensor:
        """Return the final vectors of some nodes, nodes.shape + (sum of widths,)."""
        if self._is_by_hand():
            from gnn.kernels.cpu_kgat_layers import layers_of_nodes

            plan, place = self.plan(graph, nodes)
            return functional.embedding(place, join_layers(layers_of_nodes(plan, self.embedding, self.layer_weights())))
        gather = self._gather(graph)
        x: Tensor = self.embedding
        layers = [functional.embedding(nodes, x)]
        for add, multiply in zip(self.add, self.multiply, strict=True):
            near = gather(x)
            x = functional.leaky_relu(add(x + near), _SLOPE) + functional.leaky_relu(multiply(x * near), _SLOPE)
            x = functional.dropout(x, self.config.dropout, self.training)
            layers.append(functional.embedding(nodes, x))
        return join_layers(layers)

    def _gather(self, graph: TrainingGraph) -> Callable[[Tensor], Tensor]:
        """Return the function that sums the vectors of neighbours by attention; equation 3."""
        csr = graph.facts.csr
        if self.config.attention == "differentiable":
            return partial(attend, csr, self._logits(graph))
        return partial(spmm, csr, self.attention if graph is self.graph else self.attend(graph))

    def _adjacency_of(self, graph: TrainingGraph) -> "Adjacency":
        from gnn.kernels.cpu_kgat_layers import Adjacency

        if graph is not self.graph:
            return Adjacency(graph.facts.csr, self.attend(graph))
        if self._adjacency is None or not self._adjacency.holds(self.attention):
            self._adjacency = Adjacency(graph.facts.csr, self.attention)
        return self._adjacency

    @cached_property
    def _edges(self) -> EdgesByRelation:
        return EdgesByRelation.from_facts(self.graph.facts)


def join_layers(layers: Sequence[Tensor]) -> Tensor:
    """Concatenate layers, all but the first normalised; equation 11."""
    return torch.cat([layers[0], *(functional.normalize(x, dim=-1) for x in layers[1:])], dim=-1)


def _xavier(*shape: int) -> Tensor:
    """Draw uniform values within Glorot's bound of the last two dimensions."""
    bound = (6.0 / (shape[-2] + shape[-1])) ** 0.5
    return torch.empty(shape).uniform_(-bound, bound)


def _random_walk(graph: TrainingGraph) -> Tensor:
    facts = graph.facts
    kind = facts.csr.row * (2 * graph.n_relations) + facts.relation
    _, group = torch.unique(kind, return_inverse=True)
    total = torch.zeros(int(group.max()) + 1, device=graph.device).index_add_(0, group, facts.confidence)
    return facts.confidence / total[group]

"""KGAT in the form that is usually written with PyTorch's own operators: what `kgat-*` tasks are compared with."""

import copy

import torch
from torch import Tensor
from torch.nn import functional

from gnn.data import TrainingGraph
from gnn.models.kgat import KGAT
from gnn.sampling import Batch, FactBatch, InteractionBatch


class PeerKGAT(torch.nn.Module):
    """The equations of `KGAT`, each written the direct way, and nothing slowed down.

    - Propagation: a COO matrix times a dense one, over the whole graph in each layer; PyTorch differentiates all of it.
      All nodes are normalised and concatenated; then the rows of the batch are taken.
    - TransR: each fact gathers the projection of its relation, (n, dim, relation_dim), and `bmm` multiplies.
    - Attention: relation by relation both ends of each edge are projected; then `torch.sparse.softmax` of the matrix.

    A COO matrix has one value for each pair of nodes: the logits of parallel edges are added before the softmax, where
    `KGAT` has an edge for each. On a graph without parallel edges and with confidences of 1, both are one model.

    Args:
        model: parameters and attention are copied from it.

    Source:
        Wang et al., KDD 2019; the form (COO matrix, gathered projections, dense Adam) follows the description of
        LunaBlack/KGAT-pytorch in words; no line is taken from there.

    Deviations:
        The regularisers are those of `KGAT`, so that the losses are equal.
    """

    def __init__(self, model: KGAT) -> None:
        super().__init__()
        graph, self.config = model.graph, model.config
        self.n_users, self.n_nodes = graph.n_users, graph.n_nodes
        self.embedding = torch.nn.Parameter(model.embedding.detach().clone())
        self.relation = torch.nn.Parameter(model.relation.detach().clone())
        self.projection = torch.nn.Parameter(model.projection.detach().clone())
        self.add = copy.deepcopy(model.add)
        self.multiply = copy.deepcopy(model.multiply)
        self.dropout = torch.nn.Dropout(self.config.dropout)
        self.ends_of_relation = _ends_of_relation(graph)
        self.attention = self._matrix(torch.cat([model.attention[e] for e in graph.facts.edges_of_relation]))

    def loss(self, batch: Batch) -> Tensor:
        """Return the loss of a batch of either kind."""
        return self._fact_loss(batch) if isinstance(batch, FactBatch) else self._ranking_loss(batch)

    @torch.no_grad()
    def after_epoch(self) -> None:
        """Compute the attention anew."""
        logits = []
        for relation, (heads, tails) in enumerate(self.ends_of_relation):
            projection = self.projection[relation]
            head, tail = self.embedding[heads] @ projection, self.embedding[tails] @ projection
            logits.append((tail * torch.tanh(head + self.relation[relation])).sum(dim=1))
        self.attention = torch.sparse.softmax(self._matrix(torch.cat(logits)), dim=1)

    def propagated(self) -> Tensor:
        """Return the final vectors of all nodes, (n_nodes, sum of widths)."""
        x: Tensor = self.embedding
        parts = [x]
        for add, multiply in zip(self.add, self.multiply, strict=True):
            near = torch.sparse.mm(self.attention, x)
            x = functional.leaky_relu(add(x + near), 0.2) + functional.leaky_relu(multiply(x * near), 0.2)
            x = self.dropout(x)
            parts.append(functional.normalize(x, dim=1))
        return torch.cat(parts, dim=1)

    def _ranking_loss(self, batch: InteractionBatch) -> Tensor:
        final = self.propagated()
        user = final[batch.users]
        positive, negative = final[batch.positives + self.n_users], final[batch.negatives + self.n_users]
        difference = (user * positive).sum(dim=1) - (user * negative).sum(dim=1)
        loss: Tensor = -functional.logsigmoid(difference).mean() + self.config.l2 * _half_norm(user, positive, negative)
        return loss

    def _fact_loss(self, batch: FactBatch) -> Tensor:
        projections = self.projection[batch.relations]
        nodes = (batch.heads, batch.tails, batch.negatives)
        head, tail, negative = (
            torch.bmm(functional.embedding(n, self.embedding).unsqueeze(1), projections).squeeze(1) for n in nodes
        )
        relation = functional.embedding(batch.relations, self.relation)
        near = (head + relation - tail).pow(2).sum(dim=1)
        far = (head + relation - negative).pow(2).sum(dim=1)
        norm = _half_norm(head, relation, tail, negative)
        loss: Tensor = -functional.logsigmoid(far - near).mean() + self.config.l2_facts * norm
        return loss

    def _matrix(self, values: Tensor) -> Tensor:
        index = torch.cat([torch.stack(ends) for ends in self.ends_of_relation], dim=1)
        return torch.sparse_coo_tensor(index, values, (self.n_nodes, self.n_nodes), check_invariants=False).coalesce()


def _ends_of_relation(graph: TrainingGraph) -> list[tuple[Tensor, Tensor]]:
    facts = graph.facts
    return [(facts.csr.row[edges], facts.csr.col[edges].long()) for edges in facts.edges_of_relation]


def _half_norm(*tables: Tensor) -> Tensor:
    return torch.stack([table.pow(2).sum(dim=1).mean() / 2 for table in tables]).sum()

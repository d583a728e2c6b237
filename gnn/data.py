"""A collaborative knowledge graph as tensors: what models are built on and trained from."""

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import scipy.sparse
import torch
from torch import Tensor

from gnn.errors import IndexRangeError, InputError
from gnn.sparse import Csr, NormalisedGraph, csr_from_edges, expand_ranges, normalise
from kg.ckg import CollaborativeKG
from kg.ids import IdMap
from kg.terms import HEAD, RELATION, TAIL, TRAIN, VALID


@dataclass(frozen=True, eq=False)
class Facts:
    """Every edge of the graph, both directions, by head: parallel edges stay separate.

    Attributes:
        csr: rows = heads, columns = tails, over all nodes.
        relation: (n_edges,) int64 below 2 * n_relations; r + n_relations is the inverse of r.
        confidence: (n_edges,) float32 in (0, 1]; 1 for interactions.
    """

    csr: Csr
    relation: Tensor
    confidence: Tensor

    @cached_property
    def edges_of_relation(self) -> list[Tensor]:
        """Places of the edges of each relation, inverses included, in order."""
        counts = torch.bincount(self.relation).tolist()
        order = torch.argsort(self.relation, stable=True)
        ends = np.cumsum(counts).tolist()
        return [order[end - count : end] for count, end in zip(counts, ends, strict=True)]


@dataclass(frozen=True, eq=False)
class TrainingGraph:
    """Train interactions and facts as tensors on one device.

    Node layout as in `CollaborativeKG`: users, items, others. Facts of confidence 0 are no edges.

    Attributes:
        n_users: number of users.
        n_items: number of items.
        n_nodes: number of all nodes.
        n_relations: `interacts` and the relations of facts, inverses not counted.
        users: (n_train,) int64 user of each train interaction, sorted by user, then item.
        items: (n_train,) int64 item of each, counted from 0.
        triples: (n_facts, 3) int64 head, relation and tail of each fact, as nodes; relation >= 1.
        fact_confidence: (n_facts,) float32 in (0, 1].
    """

    n_users: int
    n_items: int
    n_nodes: int
    n_relations: int
    users: Tensor
    items: Tensor
    triples: Tensor
    fact_confidence: Tensor

    @classmethod
    def from_ckg(cls, ckg: CollaborativeKG, device: str | torch.device = "cpu") -> "TrainingGraph":
        """Turn a CKG into tensors; takes train interactions and facts, never valid or test.

        Raises:
            InputError: if there is no train interaction, or a confidence is not in [0, 1].
            IndexRangeError: if an index is outside the graph.
        """
        _check(ckg)
        confidence = ckg.confidence.astype(np.float32)
        kept = confidence > 0
        tensors = (*ckg.user_items(TRAIN), ckg.triples[kept], confidence[kept])
        moved = [torch.from_numpy(np.ascontiguousarray(t)).to(device) for t in tensors]
        return cls(ckg.n_users, ckg.n_items, ckg.n_nodes, ckg.n_relations, *moved)

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
        return self.users.device

    @cached_property
    def edge_index(self) -> Tensor:
        """Head and tail of every edge, (2, n_edges) int64: interactions, facts, then the inverses of both."""
        head = torch.cat([self.users, self.triples[:, HEAD]])
        tail = torch.cat([self.items + self.n_users, self.triples[:, TAIL]])
        return torch.stack([torch.cat([head, tail]), torch.cat([tail, head])])

    @cached_property
    def edge_type(self) -> Tensor:
        """Relation of every edge of `edge_index`, (n_edges,) int64 below 2 * n_relations."""
        kind = torch.cat([torch.zeros_like(self.users), self.triples[:, RELATION]])
        return torch.cat([kind, kind + self.n_relations])

    @cached_property
    def confidence(self) -> Tensor:
        """Confidence of every edge of `edge_index`, (n_edges,) float32 in (0, 1]; 1 for interactions."""
        weight = torch.cat([torch.ones(len(self.users), device=self.device), self.fact_confidence])
        return torch.cat([weight, weight])

    @cached_property
    def keys(self) -> Tensor:
        """Train interactions as user * n_items + item, (n_train,) int64, sorted."""
        return self.users * self.n_items + self.items

    def history(self, users: Tensor) -> Tensor:
        """Return the train rows of some users, (n, n_items) float32 of 0 and 1."""
        low, high = (torch.searchsorted(self.keys, key * self.n_items) for key in (users, users + 1))
        row, entry = expand_ranges(low, high)
        rows = torch.zeros(len(users), self.n_items, device=self.device)
        rows[row, self.items[entry]] = 1.0
        return rows

    def interactions(self) -> scipy.sparse.csr_array:
        """Return train interactions as a scipy matrix of ones, (n_users, n_items) float64, for closed-form models."""
        users, items = self.users.cpu().numpy(), self.items.cpu().numpy()
        return scipy.sparse.csr_array((np.ones(len(users)), (users, items)), shape=(self.n_users, self.n_items))

    @cached_property
    def facts(self) -> Facts:
        """Every edge by head; within a head by relation, then tail."""
        head, tail = self.edge_index
        first = torch.argsort(self.edge_type * self.n_nodes + tail, stable=True)
        csr, order = csr_from_edges(head[first], tail[first], self.n_nodes, self.n_nodes)
        place = first[order]
        return Facts(csr, self.edge_type[place], self.confidence[place])

    @cached_property
    def fact_keys(self) -> Tensor:
        """Every edge as (head * 2 * n_relations + relation) * n_nodes + tail, (n_edges,) int64, sorted."""
        facts = self.facts
        kind = facts.csr.row * (2 * self.n_relations) + facts.relation
        return kind * self.n_nodes + facts.csr.col.long()

    def normalised(self, fact_weight: float = 1.0) -> NormalisedGraph:
        """Return the graph without relation types, normalised.

        Args:
            fact_weight: the weight of a pair of nodes is the sum of the confidences of its edges, those of facts
                times this.
        """
        # scipy transposes by counting and adds by merging: no edge is sorted or held as int64, and zeros are dropped
        weight, head, tail = self.entries(fact_weight)
        forward = scipy.sparse.coo_array((weight, (head, tail)), shape=(self.n_nodes, self.n_nodes)).tocsr()
        both = forward + forward.T.tocsr()
        places = (torch.from_numpy(a.astype(np.int32, copy=False)) for a in (both.indptr, both.indices))
        rowptr, col = (place.to(self.device) for place in places)
        return normalise(Csr(rowptr, col, self.n_nodes), torch.from_numpy(both.data).to(self.device))

    def entries(self, fact_weight: float = 1.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return weight, head and tail of every interaction and fact, one direction; float32, int32, int32."""
        weight = torch.cat([torch.ones(len(self.users), device=self.device), self.fact_confidence * fact_weight])
        head = torch.cat([self.users, self.triples[:, HEAD]]).to(torch.int32)
        tail = torch.cat([self.items + self.n_users, self.triples[:, TAIL]]).to(torch.int32)
        return weight.cpu().numpy(), head.cpu().numpy(), tail.cpu().numpy()


def prune_entities(ckg: CollaborativeKG, min_degree: int) -> CollaborativeKG:
    """Drop entities that fewer than `min_degree` facts name, with those facts; users and items stay, in their order.

    An entity of degree 1 joins nothing to anything: it costs a parameter vector and lends no path between items.

    Args:
        ckg: the graph.
        min_degree: 1 keeps every entity that a fact names.

    Returns:
        A smaller graph (entities that no fact names are dropped, too), or `ckg` itself if nothing goes.
    """
    n_fixed = ckg.n_users + ckg.n_items
    ends = ckg.triples[:, [HEAD, TAIL]]
    keep = np.bincount(ends.ravel(), minlength=ckg.n_nodes) >= min_degree
    keep[:n_fixed] = True
    if keep.all():
        return ckg
    new_index = np.cumsum(keep) - 1
    kept_facts = keep[ends].all(axis=1)
    triples = ckg.triples[kept_facts].copy()
    triples[:, HEAD], triples[:, TAIL] = new_index[triples[:, HEAD]], new_index[triples[:, TAIL]]
    nodes = IdMap(tuple(ckg.nodes.to_ids(np.flatnonzero(keep))))
    confidence = ckg.confidence[kept_facts]
    return CollaborativeKG(nodes, ckg.n_users, ckg.n_items, ckg.relations, ckg.interactions, triples, confidence)


def fingerprint(ckg: CollaborativeKG) -> str:
    """Return a sha256 over node ids, relations, train and valid interactions and facts: what training depends on."""
    digest = hashlib.sha256(f"{ckg.n_users},{ckg.n_items}\n".encode())
    for names in (ckg.nodes.ids, ckg.relations):
        digest.update("\0".join(names).encode())
    arrays: tuple[npt.NDArray[np.generic], ...] = (
        ckg.interactions[TRAIN],
        ckg.interactions[VALID],
        ckg.triples,
        ckg.confidence,
    )
    for array in arrays:
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def _check(ckg: CollaborativeKG) -> None:
    train = ckg.interactions[TRAIN]
    if not len(train):
        msg = "the graph has no train interaction, so there is nothing to learn from; split the data set again"
        raise InputError(msg)
    bad = ~((ckg.confidence >= 0) & (ckg.confidence <= 1))  # a NaN compares false, so it is bad
    if bad.any():
        place = int(np.flatnonzero(bad)[0])
        msg = f"the confidence of triple {place} is {ckg.confidence[place]}; expected a number in [0, 1]"
        raise InputError(msg)
    parts = (
        ("a user", train[:, 0], 0, ckg.n_users),
        ("an item", train[:, 1], ckg.n_users, ckg.n_users + ckg.n_items),
        ("a head or tail", ckg.triples[:, [HEAD, TAIL]], 0, ckg.n_nodes),
    )
    for what, index, low, high in parts:
        outside = index[(index < low) | (index >= high)]
        if outside.size:
            msg = f"{what} has the index {int(outside.flat[0])}; expected {low} to {high - 1}"
            raise IndexRangeError(msg)

"""Whole-epoch sampling: every batch of an epoch is drawn at once, vectorised, from an explicit generator."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from gnn.data import TrainingGraph
from gnn.errors import InputError


@dataclass(frozen=True, eq=False)
class InteractionBatch:
    """Triplets of user, item of the user, item the user has no train interaction with; each (n,) int64 from 0."""

    users: Tensor
    positives: Tensor
    negatives: Tensor


@dataclass(frozen=True, eq=False)
class FactBatch:
    """Edges with a tail that makes no known fact; each (n,) int64, heads and tails are nodes; sorted by relation."""

    heads: Tensor
    relations: Tensor
    tails: Tensor
    negatives: Tensor


Batch = InteractionBatch | FactBatch
Sampler = Literal["interaction", "user"]


def interaction_batches(
    graph: TrainingGraph, batch_size: int, generator: torch.Generator, sampler: Sampler = "interaction"
) -> Iterator[InteractionBatch]:
    """Draw an epoch of triplets in random order, each with one uniform negative item.

    `interaction` takes each train interaction once. `user` takes as many triplets of each user as an average user has
    interactions, floor(n_train / n_users), each with a uniform item of the user: active users count less.
    Users who have every item are left out: they have no negative.

    Args:
        graph: train interactions.
        batch_size: number of triplets a batch; the last batch is smaller.
        generator: source of randomness; the epoch is drawn on its device.
        sampler: which triplets.

    Raises:
        InputError: if every user has every item.

    Source:
        He et al., SIGIR 2020 (LightGCN), section 4.1.2: BPR with one uniform negative. `user`: the C++ sampler of
        gusye1234/LightGCN-PyTorch 947ca2b, which the published numbers of that code were made with.

    Deviations:
        `user` takes at least one triplet of each user.
    """
    n_liked = torch.bincount(graph.users, minlength=graph.n_users)
    usable = (n_liked > 0) & (n_liked < graph.n_items)
    if not bool(usable.any()):
        msg = f"every user has all {graph.n_items} items in train, so there is no negative to draw; add items"
        raise InputError(msg)
    if sampler == "user":
        n_each = max(1, len(graph.users) // graph.n_users)
        users = torch.nonzero(usable).squeeze(1).repeat_interleave(n_each)
        first = n_liked.cumsum(0) - n_liked
        positives = graph.items[first[users] + _integers(n_liked[users], generator)]
    else:
        kept = usable[graph.users]
        all_kept = bool(kept.all())
        users, positives = (t if all_kept else t[kept] for t in (graph.users, graph.items))
    # negatives are drawn in the order of the users, where neighbours in the list are neighbours in memory
    negatives = _draw_unknown(users * graph.n_items, graph.n_items, graph.keys, generator)
    order = torch.randperm(len(users), generator=generator, device=generator.device).to(graph.device)
    triplets = torch.stack([users, positives, negatives], dim=1)[order]
    for start in range(0, len(order), batch_size):
        yield InteractionBatch(*triplets[start : start + batch_size].T.contiguous())


def fact_batches(graph: TrainingGraph, n_batches: int, generator: torch.Generator) -> Iterator[FactBatch]:
    """Draw an epoch of facts: as many as there are edges, heads uniform, an edge of the head uniform.

    Args:
        graph: edges, inverses included.
        n_batches: into how many batches of about equal size.
        generator: source of randomness; the epoch is drawn on its device.

    Source:
        xiangwang1223/knowledge_graph_attention_network c03737b, `loader_kgat.py`: head-uniform triples, one uniform
        corrupted tail over all nodes, as many batches as the interactions have.

    Deviations:
        Heads are drawn with replacement; the released code draws a batch's heads without.
    """
    facts = graph.facts
    rowptr = facts.csr.rowptr.long()
    degree = rowptr[1:] - rowptr[:-1]
    with_facts = torch.nonzero(degree).squeeze(1)
    n_edges = len(facts.relation)
    heads = with_facts[_integers(torch.tensor(len(with_facts)).expand(n_edges), generator).to(graph.device)]
    edges = rowptr[heads] + _integers(degree[heads], generator)
    relations, tails = facts.relation[edges], facts.csr.col.long()[edges]
    base = (heads * (2 * graph.n_relations) + relations) * graph.n_nodes
    negatives = _draw_unknown(base, graph.n_nodes, graph.fact_keys, generator)
    size = -(-n_edges // n_batches)
    for start in range(0, n_edges, size):
        part = start + torch.argsort(relations[start : start + size], stable=True)
        yield FactBatch(heads[part], relations[part], tails[part], negatives[part])


def _draw_unknown(base: Tensor, n: int, known: Tensor, generator: torch.Generator) -> Tensor:
    """Draw x in 0 .. n - 1 for each base so that base + x is not in `known` (sorted); redraw what is."""
    drawn = _uniform(len(base), n, generator).to(base.device)
    left = torch.arange(len(base), device=base.device)
    while True:
        keys = base[left] + drawn[left]
        place = torch.searchsorted(known, keys).clamp_max_(len(known) - 1)
        left = left[known[place] == keys]
        if not len(left):
            return drawn
        drawn[left] = _uniform(len(left), n, generator).to(base.device)


def _uniform(size: int, n: int, generator: torch.Generator) -> Tensor:
    return torch.randint(n, (size,), generator=generator, device=generator.device)


def _integers(bounds: Tensor, generator: torch.Generator) -> Tensor:
    """Draw one integer below each bound."""
    share = torch.rand(len(bounds), generator=generator, dtype=torch.float64, device=generator.device)
    return (share.to(bounds.device) * bounds).long()

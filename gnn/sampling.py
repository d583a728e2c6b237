"""Whole-epoch sampling: every batch of an epoch is drawn at once, vectorised, from an explicit generator."""

from collections.abc import Iterator
from dataclasses import dataclass

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


def interaction_batches(
    graph: TrainingGraph, batch_size: int, generator: torch.Generator
) -> Iterator[InteractionBatch]:
    """Draw an epoch: each train interaction once, in random order, with one uniform negative item.

    Users who have every item are left out: they have no negative.

    Args:
        graph: train interactions.
        batch_size: number of interactions a batch; the last batch is smaller.
        generator: source of randomness, on the CPU whatever the graph's device.

    Raises:
        InputError: if every user has every item.

    Source:
        He et al., SIGIR 2020 (LightGCN), section 4.1.2: BPR with one uniform negative.

    Deviations:
        Interaction-uniform, as the equation says; the released PyTorch code draws users uniformly.
    """
    n_liked = torch.bincount(graph.users, minlength=graph.n_users)
    usable = torch.nonzero(n_liked[graph.users] < graph.n_items).squeeze(1)
    if not len(usable):
        msg = f"every user has all {graph.n_items} items in train, so there is no negative to draw; add items"
        raise InputError(msg)
    order = usable[torch.randperm(len(usable), generator=generator).to(graph.device)]
    users, positives = graph.users[order], graph.items[order]
    base = users * graph.n_items
    negatives = _draw_unknown(base, graph.n_items, graph.keys, generator)
    for start in range(0, len(order), batch_size):
        part = slice(start, start + batch_size)
        yield InteractionBatch(users[part], positives[part], negatives[part])


def fact_batches(graph: TrainingGraph, n_batches: int, generator: torch.Generator) -> Iterator[FactBatch]:
    """Draw an epoch of facts: as many as there are edges, heads uniform, an edge of the head uniform.

    Args:
        graph: edges, inverses included.
        n_batches: into how many batches of about equal size.
        generator: source of randomness, on the CPU whatever the graph's device.

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
    return torch.randint(n, (size,), generator=generator)


def _integers(bounds: Tensor, generator: torch.Generator) -> Tensor:
    """Draw one integer below each bound."""
    share = torch.rand(len(bounds), generator=generator, dtype=torch.float64).to(bounds.device)
    return (share * bounds).long()

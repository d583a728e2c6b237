"""An epoch holds each interaction once, and no negative is a positive."""

import dataclasses

import numpy as np
import pytest
import torch

from gnn.data import TrainingGraph
from gnn.errors import InputError
from gnn.sampling import InteractionBatch, fact_batches, interaction_batches
from kg.ckg import CollaborativeKG
from tests.gnn import oracles
from tests.gnn.graphs import random_ckg


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def joined(batches: list[InteractionBatch]) -> np.ndarray:
    return np.concatenate([np.stack([b.users, b.positives, b.negatives], axis=1) for b in batches])


@pytest.mark.parametrize("seed", range(5))
def test_an_epoch_holds_each_train_interaction_once_and_negatives_are_unknown(seed: int) -> None:
    ckg = random_ckg(seed)
    graph = TrainingGraph.from_ckg(ckg)
    batches = list(interaction_batches(graph, 4, generator(seed)))
    assert {len(b.users) for b in batches[:-1]} == {4}
    drawn = joined(batches)
    known = {(u, i - ckg.n_users) for u, i in ckg.interactions["train"].tolist()}
    assert sorted(map(tuple, drawn[:, :2].tolist())) == sorted(known)
    assert not known & set(map(tuple, drawn[:, [0, 2]].tolist()))


def test_negatives_are_uniform_over_what_is_unknown() -> None:
    ckg = random_ckg(1)
    graph = TrainingGraph.from_ckg(ckg)
    drawn = np.concatenate([joined(list(interaction_batches(graph, 64, generator(s)))) for s in range(300)])
    user = drawn[0, 0]
    counts = np.bincount(drawn[drawn[:, 0] == user, 2], minlength=ckg.n_items)
    unknown = counts[counts > 0]
    assert len(unknown) == ckg.n_items - int((graph.users == user).sum())
    assert unknown.min() > 0.7 * unknown.mean()


def test_the_same_seed_draws_the_same_epoch_and_another_another() -> None:
    graph = TrainingGraph.from_ckg(random_ckg())
    one, same, other = (joined(list(interaction_batches(graph, 8, generator(s)))) for s in (1, 1, 2))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


def test_the_user_sampler_takes_every_user_equally_often_with_items_of_the_user() -> None:
    ckg = random_ckg(2)
    graph = TrainingGraph.from_ckg(ckg)
    drawn = joined(list(interaction_batches(graph, 16, generator(0), "user")))
    known = {(u, i - ckg.n_users) for u, i in ckg.interactions["train"].tolist()}
    n_each = len(graph.users) // ckg.n_users
    assert np.bincount(drawn[:, 0]).tolist() == [n_each] * ckg.n_users
    assert set(map(tuple, drawn[:, :2].tolist())) <= known
    assert not known & set(map(tuple, drawn[:, [0, 2]].tolist()))
    assert len({tuple(row) for row in drawn[:, :2].tolist()}) > ckg.n_users


def full(n_full: int) -> CollaborativeKG:
    """The first `n_full` of 7 users have all 9 items."""
    ckg = random_ckg()
    extra = np.array([(u, 7 + i) for u in range(n_full) for i in range(9)])
    train = np.unique(np.concatenate([ckg.interactions["train"], extra]), axis=0)
    return dataclasses.replace(ckg, interactions={**ckg.interactions, "train": train})


def test_a_user_who_has_everything_is_left_out() -> None:
    batches = list(interaction_batches(TrainingGraph.from_ckg(full(2)), 64, generator(0)))
    assert set(joined(batches)[:, 0].tolist()) == {2, 3, 4, 5, 6}
    with pytest.raises(InputError, match="every user has all 9 items in train"):
        list(interaction_batches(TrainingGraph.from_ckg(full(7)), 64, generator(0)))


@pytest.mark.parametrize("seed", range(3))
def test_facts_are_edges_and_their_negatives_are_not(seed: int) -> None:
    ckg = random_ckg(seed)
    graph = TrainingGraph.from_ckg(ckg)
    known = {(h, r, t) for h, r, t, _ in oracles.edges(ckg)}
    batches = list(fact_batches(graph, 3, generator(seed)))
    assert len(batches) == 3
    assert sum(len(b.heads) for b in batches) == len(known)
    for batch in batches:
        columns = [c.tolist() for c in (batch.heads, batch.relations, batch.tails, batch.negatives)]
        assert columns[1] == sorted(columns[1])
        assert set(zip(*columns[:3], strict=True)) <= known
        assert not set(zip(*columns[:2], columns[3], strict=True)) & known

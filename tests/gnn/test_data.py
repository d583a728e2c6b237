"""A CKG becomes the tensors that the equations ask for, and a broken one is refused."""

import dataclasses

import numpy as np
import pytest
import torch

from gnn.data import TrainingGraph, fingerprint, prune_entities
from gnn.errors import IndexRangeError, InputError
from gnn.pyg import to_edge_index, to_hetero_data
from kg.ckg import CollaborativeKG
from tests.gnn import oracles
from tests.gnn.graphs import random_ckg
from tests.toy import toy_graph


def broken(**parts: np.ndarray) -> CollaborativeKG:
    return dataclasses.replace(random_ckg(), **parts)


@pytest.mark.parametrize("seed", range(3))
def test_normalised_graph_is_the_definition(seed: int) -> None:
    ckg = random_ckg(seed)
    for each in (ckg, ckg.without_triples()):
        dense = TrainingGraph.from_ckg(each).normalised().matrix.to_dense()
        np.testing.assert_allclose(dense, oracles.normalised(each), atol=1e-6)


def test_columns_of_the_adjacency_are_sorted_and_each_pair_is_there_once() -> None:
    for ckg in (random_ckg(1), random_ckg(1).without_triples()):
        csr = TrainingGraph.from_ckg(ckg).normalised().csr
        keys = csr.row * csr.n_cols + csr.col
        assert (keys.diff() > 0).all()
        assert (csr.rowptr.dtype, csr.col.dtype) == (torch.int32, torch.int32)
    assert TrainingGraph.from_ckg(ckg).normalised().weight is None


def test_every_edge_is_derived_in_both_directions_from_interactions_and_facts() -> None:
    ckg = random_ckg(3)
    ckg.confidence[2] = 0.0
    graph = TrainingGraph.from_ckg(ckg)
    got = zip(*graph.edge_index.tolist(), graph.edge_type.tolist(), graph.confidence.tolist(), strict=True)
    expected = [(h, t, r, pytest.approx(c)) for h, r, t, c in oracles.edges(ckg) if c > 0]
    assert list(got) == expected


def test_facts_of_weight_zero_are_the_graph_without_facts() -> None:
    ckg = random_ckg()
    dense = TrainingGraph.from_ckg(ckg).normalised(0.0).matrix.to_dense()
    n = ckg.n_users + ckg.n_items
    np.testing.assert_allclose(dense[:n, :n], oracles.normalised(ckg.without_triples()), atol=1e-6)
    assert not dense[n:].any()
    assert TrainingGraph.from_ckg(ckg).normalised(0.0).weight is None


def test_facts_keep_parallel_edges_and_drop_confidence_zero() -> None:
    ckg = CollaborativeKG.from_graph(toy_graph())
    facts = TrainingGraph.from_ckg(ckg).facts
    got = zip(facts.csr.row.tolist(), facts.relation.tolist(), facts.csr.col.tolist(), strict=True)
    assert sorted(got) == sorted((h, r, t) for h, r, t, _ in oracles.edges(ckg))
    zero = dataclasses.replace(ckg, confidence=np.where(np.arange(len(ckg.confidence)) == 3, 0.0, ckg.confidence))
    assert len(TrainingGraph.from_ckg(zero).facts.relation) == len(facts.relation) - 2
    assert sum(len(edges) for edges in facts.edges_of_relation) == len(facts.relation)


def test_history_holds_train_only() -> None:
    ckg = random_ckg(2)
    graph = TrainingGraph.from_ckg(ckg)
    expected = np.zeros((ckg.n_users, ckg.n_items))
    users, items = ckg.user_items("train")
    expected[users, items] = 1
    order = [3, 0, 3]
    np.testing.assert_array_equal(graph.history(torch.tensor(order)), expected[order])
    np.testing.assert_array_equal(graph.interactions().toarray(), expected)


def test_pruning_drops_rare_entities_and_keeps_the_indices_of_users_and_items() -> None:
    ckg = CollaborativeKG.from_graph(toy_graph())
    pruned = prune_entities(ckg, 3)
    n = ckg.n_users + ckg.n_items
    assert pruned.nodes.ids[:n] == ckg.nodes.ids[:n]
    named = [i for h, _, t in ckg.triples for i in (ckg.nodes[h], ckg.nodes[t])]
    assert set(pruned.nodes.ids[n:]) == {i for i in ckg.nodes.ids[n:] if named.count(i) >= 3}
    back = {(pruned.nodes[h], pruned.relations[r], pruned.nodes[t]) for h, r, t in pruned.triples}
    all_facts = {(ckg.nodes[h], ckg.relations[r], ckg.nodes[t]) for h, r, t in ckg.triples}
    assert back == {f for f in all_facts if f[0] in pruned.nodes and f[2] in pruned.nodes}
    assert prune_entities(pruned, 1) is pruned


def test_fingerprint_sees_train_and_facts_and_not_the_test_set() -> None:
    ckg = random_ckg()
    splits = ckg.interactions
    assert fingerprint(ckg) == fingerprint(random_ckg())
    assert fingerprint(broken(interactions={**splits, "test": splits["test"][:1]})) == fingerprint(ckg)
    others = (
        broken(interactions={**splits, "train": splits["train"][1:]}),
        broken(confidence=ckg.confidence / 2),
        broken(triples=ckg.triples[::-1]),
    )
    assert len({fingerprint(c) for c in (ckg, *others)}) == 4


def test_a_graph_that_cannot_be_trained_on_is_refused() -> None:
    ckg = random_ckg()
    none = {**ckg.interactions, "train": np.empty((0, 2), np.int64)}
    with pytest.raises(InputError, match="no train interaction"):
        TrainingGraph.from_ckg(broken(interactions=none))
    nan = np.where(np.arange(len(ckg.confidence)) == 2, np.nan, ckg.confidence)
    with pytest.raises(InputError, match="confidence of triple 2 is nan"):
        TrainingGraph.from_ckg(broken(confidence=nan))
    with pytest.raises(InputError, match=r"confidence of triple 0 is 1\.5"):
        TrainingGraph.from_ckg(broken(confidence=np.full(len(ckg.confidence), 1.5)))


@pytest.mark.parametrize(
    ("where", "value", "said"),
    [
        (("train", 0, 0), 7, "a user has the index 7; expected 0 to 6"),
        (("train", 0, 1), 3, "an item has the index 3; expected 7 to 15"),
        (("triples", 1, 2), 21, "a head or tail has the index 21; expected 0 to 20"),
    ],
)
def test_an_index_out_of_range_is_named(where: tuple[str, int, int], value: int, said: str) -> None:
    ckg = random_ckg()
    array = ckg.triples if where[0] == "triples" else ckg.interactions["train"]
    array[where[1:]] = value
    with pytest.raises(IndexRangeError, match=said):
        TrainingGraph.from_ckg(ckg)


def test_pyg_forms_hold_train_and_facts_and_nothing_else() -> None:
    ckg = CollaborativeKG.from_graph(toy_graph())
    data = to_hetero_data(ckg)
    data.validate()
    train = data["user", "interacts", "item"].edge_index.T.tolist()
    assert train == [[u, i - ckg.n_users] for u, i in ckg.interactions["train"].tolist()]
    assert sum(store.edge_index.shape[1] for store in data.edge_stores) == len(train) + len(ckg.triples)
    mood = data["item", "has_mood", "entity"]
    assert mood.edge_attr.squeeze(1).tolist() == pytest.approx([0.6, 0.9])
    index = to_edge_index(TrainingGraph.from_ckg(ckg)).validate()
    assert index.is_sorted_by_row
    assert sorted(index.T.tolist()) == sorted([h, t] for h, _, t, _ in oracles.edges(ckg))

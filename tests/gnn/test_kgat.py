"""KGAT equals a dense oracle of its equations, on graphs with parallel edges."""

import numpy as np
import pytest
import torch

from gnn.data import TrainingGraph
from gnn.models.kgat import KGAT
from gnn.sampling import FactBatch, InteractionBatch
from kg.ckg import CollaborativeKG
from tests.gnn import oracles
from tests.gnn.graphs import random_ckg
from tests.toy import toy_graph

CONFIG = KGAT.Config(dim=5, relation_dim=4, layers=(6, 3))


def graphs() -> list[CollaborativeKG]:
    return [CollaborativeKG.from_graph(toy_graph()), random_ckg(0), random_ckg(3)]


def built(ckg: CollaborativeKG) -> tuple[KGAT, dict[str, np.ndarray]]:
    torch.manual_seed(0)
    model = KGAT(CONFIG, TrainingGraph.from_ckg(ckg))
    return model, {name: value.detach().double().numpy() for name, value in model.state_dict().items()}


def by_edge(model: KGAT, values: torch.Tensor) -> dict[tuple[int, int, int], float]:
    facts = model.graph.facts
    keys = zip(facts.csr.row.tolist(), facts.relation.tolist(), facts.csr.col.tolist(), strict=True)
    return dict(zip(keys, values.tolist(), strict=True))


@pytest.mark.parametrize("ckg", graphs())
def test_attention_is_a_softmax_over_all_facts_of_a_head(ckg: CollaborativeKG) -> None:
    model, parameters = built(ckg)
    assert by_edge(model, model.attention) == pytest.approx(oracles.kgat_walk(ckg), abs=1e-6)
    model.after_epoch()
    assert by_edge(model, model.attention) == pytest.approx(oracles.kgat_attention(ckg, parameters), abs=1e-6)


@pytest.mark.parametrize("ckg", graphs())
def test_vectors_follow_the_equations(ckg: CollaborativeKG) -> None:
    model, parameters = built(ckg)
    model.after_epoch()
    expected = oracles.kgat_forward(ckg, parameters, oracles.kgat_attention(ckg, parameters), len(CONFIG.layers))
    users, items = model.vectors() or ()
    np.testing.assert_allclose(torch.cat([users, items]), expected[: ckg.n_users + ckg.n_items], atol=2e-6)


def test_losses_follow_the_equations() -> None:
    ckg = random_ckg(1)
    model, p = built(ckg)
    model.eval()
    vectors = oracles.kgat_forward(ckg, p, oracles.kgat_walk(ckg), 2)
    batch = InteractionBatch(torch.tensor([0, 2]), torch.tensor([1, 1]), torch.tensor([3, 0]))
    triples = [(vectors[u], vectors[7 + i], vectors[7 + j]) for u, i, j in ((0, 1, 3), (2, 1, 0))]
    ranking = np.mean([np.log1p(np.exp(u @ j - u @ i)) for u, i, j in triples])
    norms = sum(float(v @ v) for triple in triples for v in triple) / 4
    assert model.loss(batch).item() == pytest.approx(ranking + CONFIG.l2 * norms, rel=1e-5)

    facts = [(8, 0, 1, 3), (9, 2, 17, 4), (17, 2, 9, 5)]
    columns = [torch.tensor(column) for column in zip(*facts, strict=True)]
    gaps, norms = [], 0.0
    for h, r, t, n in facts:
        head, tail, negative = (p["embedding"][node] @ p["projection"][r] for node in (h, t, n))
        moved = head + p["relation"][r]
        gaps.append(((moved - tail) ** 2).sum() - ((moved - negative) ** 2).sum())
        norms += sum(float(v @ v) for v in (head, tail, negative, p["relation"][r])) / 6
    expected = np.mean(np.log1p(np.exp(gaps))) + CONFIG.l2_facts * norms
    assert model.loss(FactBatch(*columns)).item() == pytest.approx(expected, rel=1e-5)


def test_attention_is_fixed_within_an_epoch_and_has_no_gradient() -> None:
    model, _ = built(random_ckg(0))
    before = model.attention.clone()
    model.loss(InteractionBatch(torch.tensor([0]), torch.tensor([1]), torch.tensor([3]))).backward()
    assert torch.equal(model.attention, before)
    assert not model.attention.requires_grad
    model.after_epoch()
    assert not torch.equal(model.attention, before)

"""The trained models equal dense oracles of their equations, values and gradients."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from gnn.data import TrainingGraph
from gnn.models.bprmf import BPRMF
from gnn.models.kgin import KGIN
from gnn.models.lightgcnpp import LightGCNpp
from gnn.models.xsimgcl import XSimGCL
from gnn.recommender import Recommender
from gnn.sampling import InteractionBatch
from kg.ckg import CollaborativeKG
from kg.errors import ConfigError
from tests.gnn import oracles
from tests.gnn.graphs import random_ckg
from tests.toy import toy_graph

TRIPLETS = ((0, 1, 3), (2, 1, 0), (0, 4, 2))
BATCH = InteractionBatch(*torch.tensor(TRIPLETS).T)
Parameters = dict[str, np.ndarray]


def with_facts_of_users(ckg: CollaborativeKG) -> CollaborativeKG:
    facts = np.array([(0, 1, ckg.n_nodes - 1), (0, 3, ckg.n_nodes - 1), (ckg.n_nodes - 2, 2, 2)])
    confidence = np.concatenate([ckg.confidence, [0.5, 1.0, 0.25]])
    return dataclasses.replace(ckg, triples=np.concatenate([ckg.triples, facts]), confidence=confidence)


def graphs() -> list[CollaborativeKG]:
    return [CollaborativeKG.from_graph(toy_graph()), random_ckg(0), with_facts_of_users(random_ckg(3))]


def built(member: type[Recommender], ckg: CollaborativeKG, **values: Any) -> tuple[Recommender, Parameters]:
    torch.manual_seed(0)
    model = member(member.Config(dim=5, **values), TrainingGraph.from_ckg(ckg))
    return model.eval(), {name: value.double().numpy() for name, value in model.state_dict().items()}


def assert_vectors(model: Recommender, ckg: CollaborativeKG, expected: np.ndarray) -> None:
    """On the graph that the model was built on, and on an equal one that it was not built on."""
    for graph in (model.graph, TrainingGraph.from_ckg(ckg)):
        with torch.no_grad():
            vectors = torch.cat(model.embeddings(graph))
        np.testing.assert_allclose(vectors, expected[: ckg.n_users + ckg.n_items], atol=2e-6)


def assert_loss(
    model: Recommender, loss: Callable[[], torch.Tensor], oracle: Callable[[Parameters], float], parameters: Parameters
) -> None:
    """The loss is the oracle's, and its slope along a random direction is the oracle's numerical one."""
    value = loss()
    assert value.item() == pytest.approx(oracle(parameters), rel=1e-5)
    value.backward()
    rng, step, slope = np.random.default_rng(0), 1e-5, 0.0
    direction = {name: rng.normal(size=table.shape) for name, table in parameters.items()}
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        slope += float((parameter.grad.double().numpy() * direction[name]).sum())
    ends = [oracle({k: v + sign * step * direction[k] for k, v in parameters.items()}) for sign in (1, -1)]
    assert slope == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=1e-3, abs=1e-6)


def ranking(ckg: CollaborativeKG, vectors: np.ndarray, first: np.ndarray, l2: float) -> float:
    """BPR and the regulariser of the batch, a triplet at a time."""
    nodes = [(u, ckg.n_users + i, ckg.n_users + j) for u, i, j in TRIPLETS]
    gaps = [vectors[u] @ vectors[i] - vectors[u] @ vectors[j] for u, i, j in nodes]
    norms = sum(float(first[n] @ first[n]) for triplet in nodes for n in triplet) / (2 * len(nodes))
    return float(np.mean(np.log1p(np.exp(-np.array(gaps))))) + l2 * norms


def test_bprmf_is_its_vectors() -> None:
    ckg = random_ckg(1)
    model, parameters = built(BPRMF, ckg, l2=0.1)
    assert_vectors(model, ckg, parameters["embedding"])
    assert_loss(
        model,
        lambda: model.loss(BATCH),
        lambda p: ranking(ckg, p["embedding"], p["embedding"], 0.1),
        parameters,
    )
    assert model.embedding.grad is not None
    assert not model.embedding.grad[ckg.n_users + ckg.n_items :].any()


@pytest.mark.parametrize("ckg", graphs())
@pytest.mark.parametrize("powers", [(0.6, -0.1, 0.2), (0.5, 0.5, 0.0)])
def test_lightgcnpp_follows_its_equations(ckg: CollaborativeKG, powers: tuple[float, float, float]) -> None:
    settings = dict(zip(("alpha", "beta", "gamma"), powers, strict=True))
    model, parameters = built(LightGCNpp, ckg, l2=0.1, **settings)
    assert_vectors(model, ckg, oracles.lightgcnpp(ckg, parameters["embedding"], powers, 2))

    def oracle(p: Parameters) -> float:
        return ranking(ckg, oracles.lightgcnpp(ckg, p["embedding"], powers, 2), p["embedding"], 0.1)

    assert_loss(model, lambda: model.loss(BATCH), oracle, parameters)


@pytest.mark.parametrize("member", [LightGCNpp, XSimGCL])
def test_facts_of_weight_0_are_no_facts(member: type[Recommender]) -> None:
    ckg = random_ckg(0)
    model, parameters = built(member, ckg, fact_weight=0)
    without, _ = built(member, ckg.without_triples())
    with torch.no_grad():
        without.embedding.copy_(torch.from_numpy(parameters["embedding"][: ckg.n_users + ckg.n_items]))
    for one, other in zip(model.vectors() or (), without.vectors() or (), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("ckg", graphs())
def test_xsimgcl_ranks_by_the_mean_of_its_layers_without_noise(ckg: CollaborativeKG) -> None:
    model, parameters = built(XSimGCL, ckg)
    layers = oracles.xsimgcl(oracles.normalised(ckg), parameters["embedding"], [np.zeros(1)] * 3)
    assert_vectors(model.train(), ckg, np.mean(layers, axis=0))


@pytest.mark.parametrize("contrast_layer", [1, 3])
def test_xsimgcl_contrasts_the_mean_with_a_layer_of_the_same_noise(contrast_layer: int) -> None:
    ckg = random_ckg(2)
    model, parameters = built(XSimGCL, ckg, l2=0.1, contrast_layer=contrast_layer)
    torch.manual_seed(7)
    drawn = [torch.rand(ckg.n_nodes, 5).double().numpy() for _ in range(3)]
    noise = [0.2 * n / np.linalg.norm(n, axis=1, keepdims=True) for n in drawn]
    sides = [[0, 2], [ckg.n_users + 1, ckg.n_users + 4]]  # of the batch, each once

    def oracle(p: Parameters) -> float:
        layers = oracles.xsimgcl(oracles.normalised(ckg), p["embedding"], noise)
        mean, layer = np.mean(layers, axis=0), layers[contrast_layer - 1]
        contrast = sum(oracles.info_nce(mean[side], layer[side], 0.15) for side in sides)
        return ranking(ckg, mean, p["embedding"], 0.1) + 0.2 * contrast

    def loss() -> torch.Tensor:
        torch.manual_seed(7)
        return model.loss(BATCH)

    assert_loss(model, loss, oracle, parameters)
    assert model.loss(BATCH).item() != loss().item()


@pytest.mark.parametrize("ckg", graphs())
def test_kgin_follows_its_equations(ckg: CollaborativeKG) -> None:
    model, parameters = built(KGIN, ckg, l2=0.1, independence=0.5, n_intents=3)
    parameters = louder(model, parameters)
    assert_vectors(model, ckg, oracles.kgin(ckg, parameters, 3))

    def oracle(p: Parameters) -> float:
        intents, vectors = oracles.kgin_intents(p), oracles.kgin(ckg, p, 3)
        pairs = [(intents[a], intents[b]) for a, b in ((0, 1), (0, 2), (1, 2))]
        dependence = sum(oracles.distance_correlation(a, b) for a, b in pairs)
        return ranking(ckg, vectors, vectors, 0.1) + 0.5 * dependence

    assert_loss(model, lambda: model.loss(BATCH), oracle, parameters)


def louder(model: Recommender, parameters: Parameters) -> Parameters:
    """Three times the parameters, so that products of three of them do not vanish beside layer 0."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)
    return {name: 3 * value for name, value in parameters.items()}


def test_kgin_sums_parallel_edges_by_relation() -> None:
    ckg = random_ckg(0)
    paths = KGIN(KGIN.Config(), TrainingGraph.from_ckg(ckg)).paths
    kept = [(h, r, t) for h, r, t, _ in oracles.edges(ckg) if r != ckg.n_relations]
    assert len({(h, t) for h, _, t in kept}) < len(kept) == len(paths.confidence)
    assert paths.grouped.n_rows == len({(h, r) for h, r, _ in kept})


def test_kgin_without_facts_is_matrix_factorisation() -> None:
    ckg = random_ckg(0).without_triples()
    model, parameters = built(KGIN, ckg)
    assert_vectors(model, ckg, parameters["embedding"])


def test_kgin_drops_edges_and_messages_in_training_only() -> None:
    for values in ({"edge_dropout": 0.5, "dropout": 0.0}, {"edge_dropout": 0.0, "dropout": 0.5}):
        model, _ = built(KGIN, random_ckg(0), **values)
        still = model.loss(BATCH).item()
        assert model.loss(BATCH).item() == still
        model.train()
        torch.manual_seed(1)
        drawn = model.loss(BATCH).item()
        assert drawn not in (still, model.loss(BATCH).item())
        torch.manual_seed(1)
        assert model.loss(BATCH).item() == drawn


@pytest.mark.parametrize(
    ("member", "values", "message"),
    [
        (BPRMF, {"dim": 0}, "bprmf: `dim` is 0; expected at least 1"),
        (LightGCNpp, {"n_layers": 0}, "lightgcnpp: `n_layers` is 0; expected at least 1"),
        (LightGCNpp, {"beta": 1.5}, "lightgcnpp: `beta` is 1.5; expected a number above -1 and at most 1"),
        (LightGCNpp, {"alpha": float("nan")}, "lightgcnpp: `alpha` is nan; expected a number above -1"),
        (LightGCNpp, {"gamma": 1.1}, r"lightgcnpp: `gamma` is 1.1; expected a number in \[0, 1\]"),
        (XSimGCL, {"eps": -0.1}, "xsimgcl: `eps` is -0.1; expected at least 0"),
        (XSimGCL, {"contrast_layer": 4}, "xsimgcl: `contrast_layer` is 4; expected 1 to `n_layers` = 3"),
        (XSimGCL, {"temperature": 0}, "xsimgcl: `temperature` is 0; expected a number above 0"),
        (KGIN, {"n_intents": 0}, "kgin: `n_intents` is 0; expected at least 1"),
        (KGIN, {"edge_dropout": 1.0}, r"kgin: `edge_dropout` is 1.0; expected a number in \[0, 1\)"),
    ],
)
def test_parameters_out_of_range_are_refused(member: type[Recommender], values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        member.Config(**values)

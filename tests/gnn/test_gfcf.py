"""GF-CF equals a dense oracle, and the published numbers on the published data."""

import dataclasses

import numpy as np
import pytest
import torch

from gnn.build import TrainConfig
from gnn.data import TrainingGraph
from gnn.errors import MemoryNeedError
from gnn.evaluate import evaluate
from gnn.models.gfcf import GFCF
from gnn.train import train
from kg.ckg import CollaborativeKG
from kg.errors import ConfigError
from kg.sources.lightgcn import LightGCN
from tests.gnn import oracles
from tests.gnn.graphs import random_ckg
from tests.shared_data import shared


def dense(ckg: CollaborativeKG) -> np.ndarray:
    x = np.zeros((ckg.n_users, ckg.n_items))
    x[ckg.user_items("train")] = 1
    return x


def without_some(ckg: CollaborativeKG) -> CollaborativeKG:
    """User 3 and item 5 have no train interaction."""
    train = ckg.interactions["train"]
    kept = train[(train[:, 0] != 3) & (train[:, 1] != ckg.n_users + 5)]
    return dataclasses.replace(ckg, interactions={**ckg.interactions, "train": kept})


@pytest.mark.parametrize("ckg", [random_ckg(0), random_ckg(1, n_users=12, n_items=8), without_some(random_ckg(2))])
@pytest.mark.parametrize("n_vectors", [1, 3, 256])
def test_scores_follow_the_equation(ckg: CollaborativeKG, n_vectors: int) -> None:
    model = GFCF(GFCF.Config(n_vectors=n_vectors, alpha=0.7), TrainingGraph.from_ckg(ckg))
    model.fit()
    expected = oracles.gfcf(dense(ckg), n_vectors, 0.7)
    np.testing.assert_allclose(model.scores(torch.arange(ckg.n_users)), expected, atol=2e-6)


def test_many_users_are_scored_like_each_alone() -> None:
    model = GFCF(GFCF.Config(n_vectors=2), TrainingGraph.from_ckg(random_ckg(0)))
    model.fit()
    users = torch.arange(7).repeat(40)
    torch.testing.assert_close(model.scores(users), model.scores(torch.arange(7)).repeat(40, 1))


def test_what_it_cannot_do_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="gfcf: `n_vectors` is 0; expected at least 1"):
        GFCF.Config(n_vectors=0)
    monkeypatch.setattr("gnn.memory.available_memory", lambda: 100)
    with pytest.raises(MemoryNeedError, match="gfcf with 7 vectors of 7 users and 9 items needs"):
        GFCF(GFCF.Config(), TrainingGraph.from_ckg(random_ckg(0)))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_gowalla_as_published() -> None:
    """LightGCN's split and protocol, where BARS lists .1849 and .1518."""
    graph, _ = LightGCN().read_with_report(shared("gowalla-lightgcn"))
    ckg = CollaborativeKG.from_graph(graph)
    evaluation = evaluate(train("gfcf", ckg, {}, TrainConfig(device="cpu")).model, ckg, ks=(20,))
    assert evaluation.n_users == 29_858
    assert evaluation.metrics["recall@20"] == pytest.approx(0.1849, abs=3e-4)
    assert evaluation.metrics["ndcg@20"] == pytest.approx(0.1518, abs=3e-4)

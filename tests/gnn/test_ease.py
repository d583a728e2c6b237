"""EASE is its closed form."""

import numpy as np
import pytest
import torch

from gnn.data import TrainingGraph
from gnn.errors import InputError, MemoryNeedError
from gnn.models.ease import EASE
from kg.errors import ConfigError
from tests.gnn.graphs import random_ckg

GRAPH = TrainingGraph.from_ckg(random_ckg(0, n_users=60, n_items=45))


@pytest.mark.parametrize(("precision", "tolerance"), [("float64", 1e-7), ("float32", 1e-6)])
@pytest.mark.parametrize("block", [7, 1024])
def test_scores_are_those_of_the_closed_form(
    precision: str, tolerance: float, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gnn.models.ease._BLOCK", block)
    history = GRAPH.interactions().toarray()
    inverse = np.linalg.inv(history.T @ history + 3.0 * np.eye(45))
    weights = inverse / -np.diag(inverse)
    np.fill_diagonal(weights, 0.0)
    model = EASE(EASE.Config(l2=3.0, precision=precision), GRAPH)
    model.fit()
    users = torch.tensor([5, 0, 59, 5])
    np.testing.assert_allclose(model.scores(users), history[users] @ weights, atol=tolerance)


def test_what_does_not_fit_says_what_would(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gnn.memory.available_memory", lambda: 45 * 45 * 4)
    EASE(EASE.Config(precision="float32"), GRAPH)
    with pytest.raises(MemoryNeedError, match=r"ease on 45 items needs .* use precision = float32, a model with"):
        EASE(EASE.Config(), GRAPH)


def test_parameters_out_of_range_are_refused() -> None:
    with pytest.raises(ConfigError, match="ease: `l2` is 0; expected a number above 0"):
        EASE.Config(l2=0)
    with pytest.raises(ConfigError, match="ease: `precision` is `float16`; expected float64 or float32"):
        EASE.Config(precision="float16")


def test_an_l2_that_rounding_swallows_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gnn.models.ease._gram", lambda interactions, out: out.fill(1.0))
    with pytest.raises(InputError, match="cannot be inverted in float32; take a larger `l2` or precision = float64"):
        EASE(EASE.Config(l2=1e-12, precision="float32"), GRAPH).fit()

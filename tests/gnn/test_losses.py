"""Each loss equals its definition, with gradients."""

import numpy as np
import pytest
import torch

from gnn.losses import bpr, distance_correlation, half_squared_norm, info_nce, regularised_bpr
from tests.gnn import oracles


def doubles(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator, requires_grad=True)


def test_bpr_and_its_regulariser_are_means_over_the_batch() -> None:
    final, first = doubles(3, 5, 4), doubles(3, 5, 2, seed=1)
    (u, i, j), rows = final.detach().numpy(), first.detach().numpy()
    ranking = [np.log1p(np.exp(u[n] @ j[n] - u[n] @ i[n])) for n in range(5)]
    norms = sum(float(row @ row) for table in rows for row in table) / 10
    assert regularised_bpr(final, first, 0.3).item() == pytest.approx(np.mean(ranking) + 0.3 * norms)
    assert half_squared_norm(*first).item() == pytest.approx(norms)
    assert bpr(torch.zeros(3), torch.zeros(3)).item() == pytest.approx(np.log(2))
    assert torch.autograd.gradcheck(lambda a, b: regularised_bpr(a, b, 0.3), (final, first))


@pytest.mark.parametrize("temperature", [0.15, 1.0])
def test_info_nce_is_the_softmax_of_cosines(temperature: float) -> None:
    view, other = doubles(6, 4), doubles(6, 4, seed=1)
    expected = oracles.info_nce(view.detach().numpy(), other.detach().numpy(), temperature)
    assert info_nce(view, other, temperature).item() == pytest.approx(expected)
    assert info_nce(view * 7, other, temperature).item() == pytest.approx(expected)
    assert torch.autograd.gradcheck(lambda a, b: info_nce(a, b, temperature), (view, other))


def test_info_nce_of_one_node_is_nothing_and_of_equal_views_is_ln_n() -> None:
    assert info_nce(doubles(1, 4), doubles(1, 4, seed=1), 0.2).item() == 0
    same = torch.ones(5, 4)
    assert info_nce(same, same, 0.2).item() == pytest.approx(np.log(5))


def test_distance_correlation_is_the_sum_over_pairs() -> None:
    vectors = doubles(3, 6)
    rows = vectors.detach().numpy()
    expected = sum(oracles.distance_correlation(rows[p], rows[q]) for p, q in ((0, 1), (0, 2), (1, 2)))
    assert distance_correlation(vectors).item() == pytest.approx(expected, abs=1e-6)
    assert torch.autograd.gradcheck(distance_correlation, (vectors,))


def test_distance_correlation_knows_dependence_that_correlation_does_not() -> None:
    x = torch.linspace(-1, 1, 9, dtype=torch.float64)
    assert distance_correlation(torch.stack([x, 3 - 2 * x])).item() == pytest.approx(1, abs=1e-6)
    assert distance_correlation(torch.stack([x, x.abs()])).item() > 0.3
    grid = torch.cartesian_prod(x, x).T
    assert distance_correlation(grid).item() < 1e-2


def test_distance_correlation_of_constant_vectors_has_a_finite_gradient() -> None:
    vectors = torch.zeros(2, 5, requires_grad=True)
    distance_correlation(vectors).backward()
    assert torch.isfinite(vectors.grad if vectors.grad is not None else torch.tensor(torch.nan)).all()

"""Each operation equals a dense float64 oracle, and its gradient the numerical one, on every route of the CPU."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gnn import sparse
from gnn.errors import IndexRangeError, InputError
from tests.gnn import oracles
from tests.gnn.graphs import random_ckg

ROW = torch.tensor([2, 0, 2, 2, 0, 4])
COL = torch.tensor([1, 3, 1, 0, 2, 3])


@pytest.fixture(autouse=True, params=["torch", "compiled"], scope="module")
def _route(request: pytest.FixtureRequest) -> Iterator[None]:
    with sparse.use_route(request.param):
        yield


def pattern() -> sparse.Csr:
    """5 rows, 4 columns; row 2 has a parallel edge, rows 1 and 3 have none."""
    return sparse.csr_from_edges(ROW, COL, 5, 4)[0]


def normalised(seed: int) -> tuple[sparse.NormalisedGraph, np.ndarray]:
    ckg = random_ckg(seed)
    edges = torch.tensor(oracles.edges(ckg), dtype=torch.float64)
    csr, order = sparse.csr_from_edges(edges[:, 0].long(), edges[:, 2].long(), ckg.n_nodes, ckg.n_nodes)
    return sparse.normalise(csr, edges[order, 3]), oracles.normalised(ckg)


def doubles(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1), requires_grad=True)


@pytest.mark.parametrize("n_layers", [0, 1, 3])
@pytest.mark.parametrize("has_mkl", [True, False])
def test_propagation_is_the_mean_of_the_layers(n_layers: int, has_mkl: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch._C, "has_mkl", has_mkl and torch._C.has_mkl)
    graph, dense = normalised(n_layers)
    x = doubles(len(dense), 3)
    expected = oracles.layer_mean(dense, x.detach().numpy(), n_layers)
    np.testing.assert_allclose(sparse.propagate(graph, x, n_layers).detach().numpy(), expected, atol=1e-12)
    assert torch.autograd.gradcheck(lambda t: sparse.propagate(graph, t, n_layers), (x,))


def test_a_node_without_an_edge_keeps_a_share_of_its_own_vector() -> None:
    csr, _ = sparse.csr_from_edges(torch.tensor([0, 1]), torch.tensor([1, 0]), 3, 3)
    graph = sparse.normalise(csr, torch.ones(2))
    assert sparse.propagate(graph, torch.ones(3, 1), 3).tolist() == [[1.0], [1.0], [0.25]]


def test_spmm_sums_parallel_edges_and_differentiates_both_sides() -> None:
    csr, values, x = pattern(), doubles(6), doubles(4, 3)
    dense = np.zeros((5, 4))
    place = sparse.csr_from_edges(ROW, COL, 5, 4)[1]
    for entry, edge in enumerate(place.tolist()):
        dense[ROW[edge], COL[edge]] += values[entry].item()
    product = sparse.spmm(csr, values, x)
    np.testing.assert_allclose(product.detach().numpy(), dense @ x.detach().numpy(), atol=1e-12)
    assert torch.autograd.gradcheck(lambda v, t: sparse.spmm(csr, v, t), (values, x))


def test_spmm_gradient_of_the_values_is_the_same_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gnn.sparse.torch_route._EDGE_CHUNK", 4)
    csr = pattern()
    assert torch.autograd.gradcheck(lambda v, t: sparse.spmm(csr, v, t), (doubles(6), doubles(4, 2)))


def test_edge_softmax_sums_to_one_over_each_row_that_has_edges() -> None:
    csr, logits = pattern(), doubles(6)
    weights = sparse.edge_softmax(csr, logits)
    lifted = np.exp(logits.detach().numpy())
    for row in (0, 2, 4):
        entries = np.flatnonzero(csr.row.numpy() == row)
        expected = lifted[entries] / lifted[entries].sum()
        np.testing.assert_allclose(weights.detach().numpy()[entries], expected, atol=1e-12)
    assert torch.autograd.gradcheck(lambda v: sparse.edge_softmax(csr, v), (logits,))


def test_attending_is_a_softmax_and_a_product_and_differentiates_both_sides() -> None:
    csr, logits, x = pattern(), doubles(6), doubles(4, 3)
    together = sparse.attend(csr, logits, x)
    apart = sparse.spmm(csr, sparse.edge_softmax(csr, logits), x)
    torch.testing.assert_close(together, apart)
    assert together[[1, 3]].eq(0).all()
    assert torch.autograd.gradcheck(lambda v, t: sparse.attend(csr, v, t), (logits, x))


def test_edge_softmax_survives_large_logits() -> None:
    weights = sparse.edge_softmax(pattern(), torch.tensor([1e4, -1e4, 0.0, 0.0, 1e4, -1e30]))
    assert weights.tolist() == [1.0, 0.0, 0.0, 0.0, 1.0, 1.0]


@given(st.lists(st.lists(st.sampled_from([-1.0, 0.0, 0.5, 2.0]), min_size=6, max_size=6), min_size=1, max_size=5))
def test_topk_breaks_ties_by_lower_column(rows: list[list[float]]) -> None:
    masked = {(r, c) for r in range(len(rows)) for c in range(6) if (r + c) % 3 == 0}
    index = torch.tensor(sorted(masked), dtype=torch.int64).T
    values, columns = sparse.masked_topk(torch.tensor(rows), (index[0], index[1]), 4)
    for r, row in enumerate(rows):
        expected = oracles.ranking(row, {c for q, c in masked if q == r})[:4]
        assert columns[r].tolist() == expected
        assert values[r].tolist() == [row[c] for c in expected]


def test_topk_of_wide_rows_looks_into_blocks_and_breaks_ties_alike() -> None:
    generator = torch.Generator().manual_seed(0)
    scores = torch.randint(-3, 4, (20, 333), generator=generator).float()
    scores[0], scores[1, 5:] = 1.0, -torch.inf
    index = torch.tensor([(r, c) for r in range(2, 20) for c in range(333) if (r + c) % 5 == 0]).T
    expected = [
        oracles.ranking(row, {c for q, c in index.T.tolist() if q == r})[:4] for r, row in enumerate(scores.tolist())
    ]
    values, columns = sparse.masked_topk(scores.clone(), (index[0], index[1]), 4)
    assert columns.tolist() == expected
    assert values.tolist() == [[row[c] for c in best] for row, best in zip(scores.tolist(), expected, strict=True)]


def test_topk_marks_places_for_which_nothing_is_left() -> None:
    values, _ = sparse.masked_topk(torch.zeros(1, 3), (torch.tensor([0, 0]), torch.tensor([0, 1])), 5)
    assert values.tolist() == [[0.0, -torch.inf, -torch.inf]]


def test_an_index_outside_the_matrix_is_named() -> None:
    with pytest.raises(IndexRangeError, match=r"column indices run from 0 to 3; expected 0 to 2"):
        sparse.csr_from_edges(ROW, COL, 5, 3)
    with pytest.raises(IndexRangeError, match=r"row indices run from -1 to 4"):
        sparse.csr_from_edges(torch.tensor([-1, 4]), torch.tensor([0, 0]), 5, 3)


def test_transposing_twice_gives_the_pattern_back() -> None:
    csr = pattern()
    transposed, place = csr.transposed
    assert torch.equal(transposed.row, csr.col.long()[place])
    assert torch.equal(transposed.col.long(), csr.row[place])


def test_a_route_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        pytest.raises(InputError, match=r"no route is called `tpu`; expected torch, compiled, cuda"),
        sparse.use_route("tpu"),
    ):
        pass
    monkeypatch.setattr("gnn.sparse.route._is_there", lambda name: name == "torch")
    with pytest.raises(InputError, match="route `compiled` needs `numba`"), sparse.use_route("compiled"):
        pass


@given(st.integers(0, 1 << 16), st.integers(1, 40), st.integers(1, 12))
def test_ranking_by_vectors_is_the_ranking_of_their_products(seed: int, n_items: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    users, items = (torch.from_numpy(rng.integers(-2, 3, (n, 3)).astype(np.float32)) for n in (5, n_items))
    masked = np.argwhere(rng.random((5, n_items)) < 0.3)
    mask, _ = sparse.csr_from_edges(*torch.from_numpy(masked).T, 5, n_items)
    values, columns = sparse.rank(users, items, mask, k)
    scores = (users @ items.T).tolist()
    for row in range(5):
        gone = {int(c) for r, c in masked if r == row}
        expected = oracles.ranking(scores[row], gone)[:k]
        assert columns[row, : len(expected)].tolist() == expected
        assert values[row].tolist() == [scores[row][c] for c in expected] + [-np.inf] * (
            min(k, n_items) - len(expected)
        )

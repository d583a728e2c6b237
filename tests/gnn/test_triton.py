"""The Triton kernels equal dense float64 oracles: interpreted on the CPU where there is no GPU, else on it."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from gnn import sparse
from gnn.errors import InputError
from gnn.kernels import triton_plan
from gnn.kernels.triton_spmm import adam_rates, combine_rows
from gnn.sparse import cuda_route, torch_route, use_route
from tests.gnn import oracles
from tests.gnn.graphs import random_ckg

HAS_GPU = torch.cuda.is_available()
DEVICE = torch.device("cuda" if HAS_GPU else "cpu")
# NumPy, as the interpreter, also divides in lanes of a tile that are not stored
pytestmark = pytest.mark.filterwarnings("ignore:invalid value encountered in divide:RuntimeWarning")
needs_gpu = pytest.mark.skipif(not HAS_GPU, reason="needs a CUDA device; the interpreter has neither warps nor graphs")

ROW = torch.tensor([2, 0, 2, 2, 0, 4, 2, 2, 2])
COL = torch.tensor([1, 3, 1, 0, 2, 3, 0, 1, 2])


@pytest.fixture(params=[2, 256], ids=["long rows", "short rows"])
def pattern(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> sparse.Csr:
    """5 rows, 4 columns; row 2 has parallel edges and, where rows are cut at 2, three parts; rows 1 and 3 are empty."""
    monkeypatch.setattr(triton_plan, "SPLIT", request.param)
    return sparse.csr_from_edges(ROW.to(DEVICE), COL.to(DEVICE), 5, 4)[0]


def normals(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 1) -> torch.Tensor:
    drawn = torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return drawn.to(DEVICE, dtype).requires_grad_()


def dense(csr: sparse.Csr, values: torch.Tensor) -> torch.Tensor:
    matrix = torch.zeros(csr.n_rows, csr.n_cols, dtype=torch.float64, device=DEVICE)
    return matrix.index_put_((csr.row, csr.col.long()), values.detach().double(), accumulate=True)


def hub(n_entries: int = 600) -> sparse.Csr:
    """Three rows: one long enough to be cut as it is when nothing is patched, one short, one empty."""
    row = torch.cat([torch.zeros(n_entries), torch.full((3,), 1.0)]).long()
    col = torch.randint(0, 7, (len(row),), generator=torch.Generator().manual_seed(0))
    return sparse.csr_from_edges(row.to(DEVICE), col.to(DEVICE), 3, 7)[0]


def normalised(seed: int) -> tuple[sparse.NormalisedGraph, np.ndarray]:
    ckg = random_ckg(seed, n_users=4, n_items=5, n_entities=3)
    edges = torch.tensor(oracles.edges(ckg), dtype=torch.float64)
    csr, order = sparse.csr_from_edges(edges[:, 0].long(), edges[:, 2].long(), ckg.n_nodes, ckg.n_nodes)
    csr = sparse.Csr(csr.rowptr.to(DEVICE), csr.col.to(DEVICE), csr.n_cols)
    return sparse.normalise(csr, edges[order, 3].to(DEVICE)), oracles.normalised(ckg)


@pytest.mark.parametrize(("n_layers", "dim"), [(0, 3), (1, 4), (3, 3)])
def test_propagation_is_the_mean_of_the_layers(n_layers: int, dim: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton_plan, "SPLIT", 4)
    graph, matrix = normalised(n_layers)
    x = normals(len(matrix), dim)
    expected = oracles.layer_mean(matrix, x.detach().cpu().numpy(), n_layers)
    with use_route("cuda"):
        found = sparse.propagate(graph, x, n_layers)
        (grad,) = torch.autograd.grad(found, x, torch.ones_like(x))
    np.testing.assert_allclose(found.detach().cpu().numpy(), expected, atol=1e-12)
    np.testing.assert_allclose(grad.cpu().numpy(), oracles.layer_mean(matrix, np.ones(x.shape), n_layers), atol=1e-12)


def test_tables_of_bfloat16_keep_sums_in_float32() -> None:
    graph, matrix = normalised(1)
    single = sparse.NormalisedGraph(graph.csr, graph.scale.float(), graph.weight.float())  # type: ignore[union-attr]
    x = normals(len(matrix), 8, dtype=torch.float32).detach()
    found = cuda_route.layer_mean(single, x, 3, torch.bfloat16)
    expected = oracles.layer_mean(matrix, x.cpu().double().numpy(), 3)
    error = np.abs(found.cpu().numpy() - expected).max()
    assert found.dtype == torch.float32
    assert 1e-6 < error < 2**-8 * np.abs(expected).max(), "rounded between layers, and no more than that"


@pytest.mark.parametrize(
    ("dim", "dtype"), [(1, torch.float64), (5, torch.float32), (64, torch.float32), (64, torch.bfloat16)]
)
def test_products_of_any_width_and_type_are_dense_products(pattern: sparse.Csr, dim: int, dtype: torch.dtype) -> None:
    values, x = normals(9, dtype=dtype).detach(), normals(4, dim, dtype=dtype, seed=2).detach()
    for given in (values, None):
        expected = dense(pattern, torch.ones_like(values) if given is None else given) @ x.double()
        found = cuda_route.multiply(pattern, given, x)
        assert found.dtype == dtype
        torch.testing.assert_close(found, expected.to(dtype))


def test_a_row_of_hundreds_of_entries_is_summed_in_parts() -> None:
    csr, x = hub(), normals(7, 20).detach()
    assert triton_plan.parts_of(csr).row.tolist() == [0, 0, 0]
    assert triton_plan.parts_of(csr).end.tolist() == [256, 512, 600]
    logits = normals(603).detach()
    torch.testing.assert_close(cuda_route.multiply(csr, logits, x), dense(csr, logits) @ x)
    torch.testing.assert_close(cuda_route.attend(csr, logits, x), torch_route.attend(csr, logits, x))
    torch.testing.assert_close(cuda_route.edge_softmax(csr, logits), torch_route.edge_softmax(csr, logits))


def test_rows_wider_than_a_tile_take_more_warps() -> None:
    csr, x = (
        sparse.csr_from_edges(torch.tensor([1, 1]).to(DEVICE), torch.tensor([0, 1]).to(DEVICE), 2, 2)[0],
        normals(2, 1500),
    )
    assert triton_plan.tile(1500, x)["num_warps"] == 2
    torch.testing.assert_close(cuda_route.multiply(csr, None, x.detach())[1], x.detach().sum(0))


def test_a_pattern_without_an_entry_gives_zeros_and_nothing() -> None:
    none = torch.zeros(0, dtype=torch.int64, device=DEVICE)
    csr, x, logits = sparse.csr_from_edges(none, none, 3, 2)[0], normals(2, 4).detach(), normals(0).detach()
    assert cuda_route.multiply(csr, None, x).tolist() == [[0.0] * 4] * 3
    assert cuda_route.attend(csr, logits, x)[0].tolist() == [[0.0] * 4] * 3
    assert (
        cuda_route.edge_softmax(csr, logits).shape == cuda_route.edge_dot(csr, normals(3, 4).detach(), x).shape == (0,)
    )


def test_spmm_differentiates_both_sides(pattern: sparse.Csr) -> None:
    values, x = normals(9), normals(4, 3, seed=2)
    with use_route("cuda"):
        assert torch.autograd.gradcheck(lambda v, t: sparse.spmm(pattern, v, t), (values, x), fast_mode=True)


def test_edge_softmax_sums_to_one_over_each_row_that_has_edges(pattern: sparse.Csr) -> None:
    logits = normals(9)
    weights = cuda_route.edge_softmax(pattern, logits.detach())
    sums = torch.zeros(5, dtype=torch.float64, device=DEVICE).index_add_(0, pattern.row, weights)
    torch.testing.assert_close(sums, torch.tensor([1.0, 0, 1, 0, 1], dtype=torch.float64, device=DEVICE))
    lifted = logits.detach().exp()
    row_sums = torch.zeros_like(sums).index_add_(0, pattern.row, lifted)
    torch.testing.assert_close(weights, lifted / row_sums[pattern.row])
    with use_route("cuda"):
        assert torch.autograd.gradcheck(lambda v: sparse.edge_softmax(pattern, v), (logits,), fast_mode=True)


def test_attending_is_a_softmax_and_a_product_and_differentiates_both_sides(pattern: sparse.Csr) -> None:
    logits, x = normals(9), normals(4, 3, seed=2)
    y, high, total = cuda_route.attend(pattern, logits.detach(), x.detach())
    weights = torch_route.edge_softmax(pattern, logits.detach())
    torch.testing.assert_close(y, dense(pattern, weights) @ x.detach())
    assert y[[1, 3]].eq(0).all()
    assert high[[1, 3]].tolist() == [-torch.inf, -torch.inf]
    assert total[[1, 3]].tolist() == [0, 0]
    with use_route("cuda"):
        assert torch.autograd.gradcheck(lambda v, t: sparse.attend(pattern, v, t), (logits, x), fast_mode=True)


def test_attention_of_bfloat16_keeps_its_sums_in_float32(pattern: sparse.Csr) -> None:
    logits, x = normals(9, dtype=torch.float32).detach(), normals(4, 64, dtype=torch.bfloat16, seed=2).detach()
    y, high, total = cuda_route.attend(pattern, logits, x)
    expected = torch_route.attend(pattern, logits.double(), x.double())
    torch.testing.assert_close(y, expected[0].bfloat16())
    torch.testing.assert_close(total, expected[2].float(), rtol=1e-6, atol=1e-6)
    grad = normals(5, 64, dtype=torch.bfloat16, seed=3).detach()
    found = cuda_route.attend_backward(pattern, logits, high, total, x, y, grad)[0]
    wanted = torch_route.attend_backward(
        pattern, logits.double(), *expected[1:], x.double(), y.double(), grad.double()
    )[0]
    torch.testing.assert_close(found, wanted.float(), rtol=1e-5, atol=1e-5)


def test_softmax_survives_large_logits_and_gives_minus_infinity_no_weight(pattern: sparse.Csr) -> None:
    logits = torch.tensor([1e4, -1e4, -torch.inf, -torch.inf, -torch.inf, 0.0, 0.0, -torch.inf, -1e30], device=DEVICE)
    expected = torch.tensor([1.0, 0, 0, 0, 0, 0.5, 0.5, 0, 1], device=DEVICE)
    torch.testing.assert_close(cuda_route.edge_softmax(pattern, logits), expected)
    x = normals(4, 3, dtype=torch.float32).detach()
    torch.testing.assert_close(
        cuda_route.attend(pattern, logits, x)[0], (dense(pattern, expected) @ x.double()).float()
    )


def test_ranking_is_that_of_the_oracle() -> None:
    rows = [[0.5, 2.0, 0.5, 2.0, -1.0], [0.0, 0.0, 0.0, 0.0, 0.0]]
    values, columns = cuda_route.topk(torch.tensor(rows, device=DEVICE), 3)
    assert columns.tolist() == [oracles.ranking(row, set())[:3] for row in rows]
    assert values.tolist() == [[2.0, 2.0, 0.5], [0.0, 0.0, 0.0]]


def test_a_tensor_that_a_compiled_kernel_cannot_reach_is_refused() -> None:
    kernel = triton_plan.triton.JITFunction(combine_rows.fn)
    with pytest.raises(InputError, match=r"got a tensor on `cpu`; expected one on a CUDA device"):
        triton_plan.check_device(kernel, torch.zeros(1))


def test_a_tensor_on_another_gpu_than_the_current_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    elsewhere = SimpleNamespace(is_cuda=True, device=torch.device("cuda:1"))
    with pytest.raises(InputError, match=r"got a tensor on `cuda:1`, and the current device is `cuda:0`"):
        triton_plan.check_device(combine_rows, elsewhere)


def test_the_rates_of_adam_keep_the_digits_of_float64() -> None:
    constants = torch.tensor([1e-3, 0.9, 0.999, 1e-8], dtype=torch.float64)
    for t in (1, 7, 100_000):
        expected = [1e-3 / (1 - 0.9**t), (1 - 0.999**t) ** -0.5, 0.9, 0.999, 1 - 0.9, 1 - 0.999, 1e-8]
        found = adam_rates(constants, torch.tensor(float(t)))
        np.testing.assert_allclose(found.numpy(), np.array(expected, np.float32), rtol=2e-7)


@needs_gpu
def test_a_large_graph_gives_the_oracles_numbers_and_the_same_bits_twice() -> None:
    generator = torch.Generator().manual_seed(0)
    row = torch.cat([torch.randint(0, 20_000, (400_000,), generator=generator), torch.full((100_000,), 5)])
    col = torch.randint(0, 30_000, (500_000,), generator=generator)
    csr, _ = sparse.csr_from_edges(row.to(DEVICE), col.to(DEVICE), 20_000, 30_000)
    x, logits = (normals(*shape, dtype=torch.float32).detach() for shape in ((30_000, 64), (500_000,)))
    y, high, total = first = cuda_route.attend(csr, logits, x)
    torch.testing.assert_close(first, torch_route.attend(csr, logits, x), atol=1e-4, rtol=1e-4)
    back = (csr, logits, high, total, x, y, torch.ones_like(y))
    torch.testing.assert_close(
        cuda_route.attend_backward(*back), torch_route.attend_backward(*back), atol=1e-4, rtol=1e-4
    )
    product = cuda_route.multiply(csr, logits, x)
    torch.testing.assert_close(
        product.double(), torch_route.multiply(csr, logits.double(), x.double()), rtol=1e-4, atol=1e-3
    )
    assert torch.equal(product, cuda_route.multiply(csr, logits, x))
    assert all(torch.equal(a, b) for a, b in zip(first, cuda_route.attend(csr, logits, x), strict=True))

"""The compiled route is the pure one in other words: in float32 and bfloat16, for all widths, and in tiles."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gnn import sparse
from gnn.kernels import cpu_panel, cpu_rank, cpu_topk
from gnn.kernels.cpu_panel import add_product, put_product
from gnn.kernels.pages import on_large_pages
from gnn.kernels.threads import kernel, share_out, split_evenly
from gnn.sparse import compiled_route, torch_route

MAPS = Path("/proc/self/smaps_rollup")


def random_csr(n_rows: int = 37, n_cols: int = 29, n_edges: int = 300) -> sparse.Csr:
    """Some rows have no entry, one has a third of all, and entries repeat."""
    rng = np.random.default_rng(5)
    rows = np.where(rng.random(n_edges) < 0.3, 4, rng.integers(0, n_rows - 3, n_edges))
    columns = rng.integers(0, n_cols, n_edges)
    return sparse.csr_from_edges(torch.from_numpy(rows), torch.from_numpy(columns), n_rows, n_cols)[0]


@pytest.mark.parametrize("width", [1, 5, 64, 85])
def test_products_of_any_width_equal_the_pure_route(width: int) -> None:
    csr, generator = random_csr(), torch.Generator().manual_seed(0)
    x = torch.randn(csr.n_cols, width, generator=generator)
    values = torch.randn(len(csr.col), generator=generator)
    left = torch.randn(csr.n_rows, width, generator=generator)
    for weights in (None, values):
        torch.testing.assert_close(compiled_route.multiply(csr, weights, x), torch_route.multiply(csr, weights, x))
    torch.testing.assert_close(compiled_route.edge_dot(csr, left, x), torch_route.edge_dot(csr, left, x))
    for one, other in zip(compiled_route.attend(csr, values, x), torch_route.attend(csr, values, x), strict=True):
        torch.testing.assert_close(one, other)


def test_tables_in_bfloat16_lose_what_rounding_loses() -> None:
    pairs = torch.tensor([(u, 20 + i) for u in range(20) for i in range(15) if (u * i) % 3 == 0]).T
    csr, _ = sparse.csr_from_edges(torch.cat([pairs[0], pairs[1]]), torch.cat([pairs[1], pairs[0]]), 35, 35)
    graph = sparse.normalise(csr, torch.ones(len(csr.col)))
    x = torch.randn(35, 16, generator=torch.Generator().manual_seed(0))
    exact = torch_route.layer_mean(graph, x, 3, torch.float32)
    for route in (torch_route, compiled_route):
        rounded = route.layer_mean(graph, x, 3, torch.bfloat16)
        torch.testing.assert_close(rounded, exact, rtol=0, atol=2e-2)
        assert not torch.equal(rounded, exact)


def test_the_number_of_threads_changes_no_bit() -> None:
    csr = random_csr()
    x = torch.randn(csr.n_cols, 16, generator=torch.Generator().manual_seed(0))
    alone = compiled_route.multiply(csr, None, x)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        together = compiled_route.multiply(csr, None, x)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(alone, together)


def test_an_error_in_a_thread_is_the_callers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    with pytest.raises(ZeroDivisionError):
        share_out(lambda start, end: 1 // 0, split_evenly(np.arange(40)))


def test_tiles_that_come_one_by_one_are_ranked_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    users, items = (torch.randint(-2, 3, (n, 4), generator=generator).float() for n in (30, 100))
    mask = random_csr(30, 100, 200)
    whole = compiled_route.rank(users, items, mask, 10)
    monkeypatch.setattr(cpu_rank, "_TILE_BYTES", 300)
    for one, other in zip(whole, compiled_route.rank(users, items, mask, 10), strict=True):
        assert torch.equal(one, other)


def test_a_score_that_is_not_a_number_is_never_kept() -> None:
    values, columns = torch.full((1, 2), -torch.inf), torch.zeros(1, 2, dtype=torch.int64)
    scores = torch.tensor([[torch.nan] * 16 + [1.0, torch.nan]])
    cpu_topk.topk(scores, values, columns)
    assert values.tolist() == [[1.0, -torch.inf]]
    assert columns[0, 0] == 16


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("n_columns", [1, 7, 16, 70])
def test_a_projection_is_a_product_of_chosen_rows(dtype: torch.dtype, n_columns: int) -> None:
    generator = torch.Generator().manual_seed(n_columns)
    table, weight, shift = (
        torch.randn(shape, generator=generator, dtype=dtype) for shape in ((30, 9), (9, n_columns), (n_columns,))
    )
    nodes = torch.randint(30, (20,), generator=generator)
    expected = table[nodes].double() @ weight.double()
    out = torch.empty(20, n_columns, dtype=dtype)
    cpu_panel.project(table, nodes, weight, None, out)
    torch.testing.assert_close(out, expected.to(dtype))
    cpu_panel.project(table, nodes, weight, shift, out)
    torch.testing.assert_close(out, torch.tanh(expected + shift.double()).to(dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_tanh_is_right_to_three_units_in_the_last_place(dtype: torch.dtype) -> None:
    size = torch.cat([torch.logspace(-30, 1.5, 20_000, dtype=dtype), torch.tensor([0.0, torch.inf], dtype=dtype)])
    x = torch.cat([size, -size])[:, None]
    out, one = torch.empty_like(x), torch.ones(1, 1, dtype=dtype)
    cpu_panel.project(x, torch.arange(len(x)), one, torch.zeros(1, dtype=dtype), out)
    torch.testing.assert_close(out, torch.tanh(x), rtol=3 * torch.finfo(dtype).eps, atol=0)


@kernel
def _both_products(a: Any, b: Any, out: Any) -> None:
    put_product(a, b, out)
    add_product(a, b, out)


@pytest.mark.parametrize("like", [np.float32(0), np.float64(0)])
@pytest.mark.parametrize("shape", [(1, 1, 1), (7, 5, 23), (13, 64, 32)])
@pytest.mark.parametrize("is_transposed", [False, True])
def test_a_product_within_a_kernel_writes_its_rows_and_no_others(
    like: Any, shape: tuple[int, int, int], is_transposed: bool
) -> None:
    n, d, m = shape
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((n, d)).astype(like.dtype), rng.standard_normal((d, m)).astype(like.dtype)
    out = np.full((n + 1, m), 5, like.dtype)
    _both_products(a.T.copy().T if is_transposed else a, b, out)
    np.testing.assert_allclose(out[:n], 2 * (a.astype(float) @ b), atol=1e-4 if like.itemsize == 4 else 1e-12)
    assert (out[n] == 5).all()


@pytest.mark.skipif(not MAPS.exists(), reason="only Linux says what pages a process has")
def test_large_pages_hold_what_was_in_small_ones() -> None:
    table, small = torch.arange(6 << 20, dtype=torch.float32), torch.arange(10)
    before = large_page_bytes()
    on_large_pages(table, small)
    assert torch.equal(table, torch.arange(6 << 20, dtype=torch.float32))
    if "[never]" not in Path("/sys/kernel/mm/transparent_hugepage/enabled").read_text():
        assert large_page_bytes() - before >= 16 << 20


def large_page_bytes() -> int:
    lines = MAPS.read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("AnonHugePages")).split()[1])

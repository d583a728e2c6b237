"""Products over edges, relation by relation, with their gradients."""

from collections.abc import Iterator

import pytest
import torch

from gnn import sparse
from gnn.data import TrainingGraph
from gnn.relations import EdgesByRelation, edge_dot, edge_logits
from tests.gnn.graphs import random_ckg


@pytest.fixture(params=["torch", "compiled"])
def route(request: pytest.FixtureRequest) -> Iterator[str]:
    with sparse.use_route(request.param):
        yield request.param


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_numbers_of_both_types_go_through_kernels_of_their_own(dtype: torch.dtype) -> None:
    csr, _ = sparse.csr_from_edges(torch.tensor([0, 1, 1]), torch.tensor([1, 0, 1]), 2, 2)
    x = torch.tensor([[1.0, 2.0], [3.0, 4.0]], dtype=dtype)
    assert sparse.spmm(csr, x.new_ones(3), x).tolist() == [[3.0, 4.0], [4.0, 6.0]]
    assert sparse.attend(csr, x.new_zeros(3), x).tolist() == [[3.0, 4.0], [2.0, 3.0]]


def doubles(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1), requires_grad=True)


@pytest.mark.usefixtures("route")
def test_products_of_both_ends_differentiate_both_sides() -> None:
    row, col = torch.tensor([0, 1, 1, 2]), torch.tensor([1, 0, 0, 1])  # a parallel edge; row 3 has none
    csr, _ = sparse.csr_from_edges(row, col, 4, 2)
    left, right = doubles(4, 5), doubles(2, 5)
    torch.testing.assert_close(edge_dot(csr, left, right), (left[row] * right[col]).sum(1))
    assert torch.autograd.gradcheck(lambda a, b: edge_dot(csr, a, b), (left, right))


@pytest.mark.usefixtures("route")
@pytest.mark.parametrize("seed", [0, 3])
def test_logits_follow_the_equation_in_the_order_of_the_facts(seed: int) -> None:
    graph = TrainingGraph.from_ckg(random_ckg(seed))
    facts, n_kinds = graph.facts, 2 * graph.n_relations
    e, w, r = doubles(graph.n_nodes, 4), doubles(n_kinds, 4, 3), doubles(n_kinds, 3)
    edges = zip(facts.csr.row.tolist(), facts.relation.tolist(), facts.csr.col.tolist(), strict=True)
    expected = torch.stack([(e[t] @ w[k]) @ torch.tanh(e[h] @ w[k] + r[k]) for h, k, t in edges])
    grouped = EdgesByRelation.from_facts(facts)
    found = edge_logits(grouped, e, w, r)
    torch.testing.assert_close(found, expected)
    with torch.no_grad():
        torch.testing.assert_close(edge_logits(grouped, e, w, r), expected)
    weights = torch.linspace(-1, 1, len(found), dtype=torch.float64)
    for one, other in zip(*(torch.autograd.grad(v @ weights, [e, w, r]) for v in (found, expected)), strict=True):
        torch.testing.assert_close(one, other)

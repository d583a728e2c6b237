"""Another order of nodes is the same graph."""

import itertools

import pytest
import torch

from gnn.data import TrainingGraph
from gnn.sparse.order import local_order, reordered
from tests.gnn.graphs import random_ckg


@pytest.mark.parametrize("fact_weight", [0.0, 0.5])
def test_a_reordered_graph_has_the_rows_and_columns_of_the_old_one_elsewhere(fact_weight: float) -> None:
    graph = TrainingGraph.from_ckg(random_ckg(4))
    old = graph.normalised(fact_weight)
    order = local_order(old.csr, graph.n_users)
    assert sorted(order.tolist()) == list(range(graph.n_nodes))
    assert sorted(order[: graph.n_users].tolist()) == list(range(graph.n_users))
    new = reordered(old, order)
    torch.testing.assert_close(new.matrix.to_dense(), old.matrix.to_dense()[order][:, order])
    assert (new.weight is None) == (fact_weight == 0.0)


def test_users_with_the_same_items_come_one_after_the_other() -> None:
    from gnn.sparse import csr_from_edges

    pairs = torch.tensor([(u, 20 + 3 * (u % 4) + i) for u in range(20) for i in range(3)]).T
    csr, _ = csr_from_edges(torch.cat([pairs[0], pairs[1]]), torch.cat([pairs[1], pairs[0]]), 32, 32)
    kinds = (local_order(csr, 20)[:20] % 4).tolist()
    assert sum(one != other for one, other in itertools.pairwise(kinds)) == 3

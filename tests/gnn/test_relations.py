"""Products over edges, relation by relation, with their gradients."""

import pytest
import torch

from gnn import sparse


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_numbers_of_both_types_go_through_kernels_of_their_own(dtype: torch.dtype) -> None:
    csr, _ = sparse.csr_from_edges(torch.tensor([0, 1, 1]), torch.tensor([1, 0, 1]), 2, 2)
    x = torch.tensor([[1.0, 2.0], [3.0, 4.0]], dtype=dtype)
    assert sparse.spmm(csr, x.new_ones(3), x).tolist() == [[3.0, 4.0], [4.0, 6.0]]
    assert sparse.attend(csr, x.new_zeros(3), x).tolist() == [[3.0, 4.0], [2.0, 3.0]]

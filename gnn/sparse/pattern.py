"""Sparse matrices as the hot path wants them: CSR with int32 indices, rows in order, parallel edges kept.

MKL and cuSPARSE take int32 as it is, and it halves the traffic of int64. Where PyTorch comes without MKL the same
matrices are COO, which every build multiplies.
"""

import warnings
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from gnn.errors import IndexRangeError, InputError


@dataclass(frozen=True, eq=False)
class Csr:
    """The pattern of a sparse matrix, rows in order; parallel edges (equal row and column) stay separate entries.

    Attributes:
        rowptr: (n_rows + 1,) int32; entries of row i are rowptr[i] .. rowptr[i + 1].
        col: (nnz,) int32 column of each entry.
        n_cols: number of columns.
    """

    rowptr: Tensor
    col: Tensor
    n_cols: int

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return len(self.rowptr) - 1

    @cached_property
    def row(self) -> Tensor:
        """Row of each entry, (nnz,) int64."""
        counts = (self.rowptr[1:] - self.rowptr[:-1]).long()
        return torch.repeat_interleave(torch.arange(self.n_rows, device=self.col.device), counts)

    @cached_property
    def transposed(self) -> tuple["Csr", Tensor]:
        """The transposed pattern, and for each of its entries the place of that entry here, (nnz,) int64."""
        return csr_from_edges(self.col.long(), self.row, self.n_cols, self.n_rows)

    def matrix(self, values: Tensor) -> Tensor:
        """Return the torch sparse matrix with these values, (n_rows, n_cols)."""
        size = (self.n_rows, self.n_cols)
        if not (self.col.is_cuda or torch._C.has_mkl):
            return torch.sparse_coo_tensor(
                torch.stack([self.row, self.col.long()]), values, size, check_invariants=False
            )
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
            return torch.sparse_csr_tensor(self.rowptr, self.col, values, size, check_invariants=False)


def csr_from_edges(row: Tensor, col: Tensor, n_rows: int, n_cols: int) -> tuple[Csr, Tensor]:
    """Sort edges by row, keeping the given order within a row.

    Args:
        row: (nnz,) int64.
        col: (nnz,) int64.
        n_rows: number of rows.
        n_cols: number of columns.

    Returns:
        The pattern, and for each of its entries the place of that edge in the arguments, (nnz,) int64.

    Raises:
        IndexRangeError: if an index is outside the matrix.
        InputError: if there are 2^31 edges or more.
    """
    for name, index, size in (("row", row, n_rows), ("column", col, n_cols)):
        if len(index) and not (int(index.min()) >= 0 and int(index.max()) < size):
            msg = f"{name} indices run from {int(index.min())} to {int(index.max())}; expected 0 to {size - 1}"
            raise IndexRangeError(msg)
    if len(row) >= 1 << 31:
        msg = f"{len(row)} edges do not fit int32 offsets (at most {(1 << 31) - 1}); split the graph"
        raise InputError(msg)
    order = torch.argsort(row, stable=True)
    rowptr = torch.zeros(n_rows + 1, dtype=torch.int32, device=row.device)
    rowptr[1:] = torch.bincount(row, minlength=n_rows).cumsum(0)
    return Csr(rowptr, col[order].to(torch.int32), n_cols), order


def expand_ranges(low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """List the integers of n half-open ranges.

    Args:
        low: (n,) int64.
        high: (n,) int64, not below `low`.

    Returns:
        For each listed integer the range that it is from, and the integer, both (total,) int64.

    Example:
        >>> expand_ranges(torch.tensor([4, 9]), torch.tensor([6, 10]))
        (tensor([0, 0, 1]), tensor([4, 5, 9]))
    """
    count = high - low
    origin = torch.repeat_interleave(torch.arange(len(low), device=low.device), count)
    first = (low - (count.cumsum(0) - count))[origin]
    return origin, first + torch.arange(len(origin), device=low.device)


@dataclass(frozen=True, eq=False)
class NormalisedGraph:
    """A symmetric weighted graph, normalised: S = D^-1/2 A D^-1/2 with D the diagonal of row sums of A.

    Attributes:
        csr: pattern of A; an entry (i, j) has its mirror (j, i) of equal weight.
        scale: (n,) D^-1/2; 0 for a node without an edge.
        weight: (nnz,) entries of A; None where all are 1, so that no route has to read them.
    """

    csr: Csr
    scale: Tensor
    weight: Tensor | None

    @cached_property
    def values(self) -> Tensor:
        """Entries of S, (nnz,)."""
        both = self.scale[self.csr.row] * self.scale[self.csr.col.long()]
        return both if self.weight is None else both * self.weight

    @cached_property
    def matrix(self) -> Tensor:
        """S as a torch sparse matrix, (n, n)."""
        return self.csr.matrix(self.values)


def normalise(csr: Csr, weight: Tensor) -> NormalisedGraph:
    """Normalise a symmetric weighted graph.

    Args:
        csr: its pattern, square.
        weight: (nnz,) non-negative weights of its entries.
    """
    degree = (csr.matrix(weight) @ weight.new_ones(csr.n_cols, 1)).squeeze(1)
    scale = torch.where(degree > 0, degree.clamp_min(torch.finfo(weight.dtype).tiny).rsqrt(), 0.0)
    return NormalisedGraph(csr, scale, None if bool((weight == 1).all()) else weight)

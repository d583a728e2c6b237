"""The hot path: propagation, weighted products, edge softmax and masked top-k, in plain PyTorch.

Matrices are CSR with int32 indices (MKL and cuSPARSE take them as they are, and they halve the traffic of int64).
Where PyTorch comes without MKL the same matrices are COO, which every build multiplies.
"""

import warnings
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from gnn.errors import IndexRangeError, InputError

_EDGE_CHUNK = 1 << 18


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
        values: (nnz,) entries of S.
    """

    csr: Csr
    scale: Tensor
    values: Tensor

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
    degree = torch.zeros(csr.n_rows, dtype=weight.dtype, device=weight.device).index_add_(0, csr.row, weight)
    scale = torch.where(degree > 0, degree.clamp_min(torch.finfo(weight.dtype).tiny).rsqrt(), 0.0)
    return NormalisedGraph(csr, scale, weight * scale[csr.row] * scale[csr.col.long()])


def propagate(graph: NormalisedGraph, x: Tensor, n_layers: int) -> Tensor:
    """Average a node's vector over the layers of a linear propagation.

    Y = 1/(L+1) * sum over l = 0..L of S^l X, evaluated by Horner's rule as H <- X + S H. S is symmetric, so the
    gradient is the same function of the incoming gradient: nothing is stored and no transpose is made.

    Args:
        graph: S.
        x: (n, d).
        n_layers: L; 0 returns a copy of `x`.

    Returns:
        (n, d), differentiable once with respect to `x`.

    Source:
        He et al., SIGIR 2020 (LightGCN), equations 3 and 4 with alpha = 1/(L+1).
    """
    result: Tensor = _Propagate.apply(x, graph.matrix, n_layers)
    return result


def spmm(csr: Csr, values: Tensor, x: Tensor) -> Tensor:
    """Multiply a sparse matrix by a dense one, with gradients to both.

    Args:
        csr: pattern (n, m).
        values: (nnz,); the gradient is a dot product per entry, computed only where it is asked for.
        x: (m, d).

    Returns:
        (n, d), differentiable once.
    """
    result: Tensor = _Spmm.apply(csr, values, x)
    return result


def edge_softmax(csr: Csr, logits: Tensor) -> Tensor:
    """Normalise edge logits to sum to one over the edges of each row, across parallel edges.

    Args:
        csr: pattern (n, m).
        logits: (nnz,); -inf gives weight 0 unless the whole row is -inf.

    Returns:
        (nnz,), differentiable once.
    """
    result: Tensor = _EdgeSoftmax.apply(csr, logits)
    return result


def masked_topk(scores: Tensor, mask: tuple[Tensor, Tensor], k: int) -> tuple[Tensor, Tensor]:
    """Rank the columns of each row, best first, ties by lower column.

    Args:
        scores: (n, m) raw scores; masked entries are OVERWRITTEN with -inf.
        mask: (rows, columns), each (n_masked,) int64: entries that may not be ranked.
        k: how many to keep, at most m.

    Returns:
        (values, columns), each (n, k); a value of -inf marks a place for which no candidate was left.
    """
    scores[mask] = -torch.inf
    k = min(k, scores.shape[1])
    values, columns = torch.topk(scores, k, dim=1)
    cut_tie = (scores >= values[:, -1:]).sum(dim=1) > k
    if bool(cut_tie.any()):
        ranked = torch.sort(scores[cut_tie], dim=1, descending=True, stable=True)
        values[cut_tie], columns[cut_tie] = ranked.values[:, :k], ranked.indices[:, :k]
    columns, order = torch.sort(columns, dim=1)
    values, order = torch.sort(values.gather(1, order), dim=1, descending=True, stable=True)
    return values, columns.gather(1, order)


class _Propagate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, matrix: Tensor, n_layers: int) -> Tensor:
        ctx.matrix, ctx.n_layers = matrix, n_layers
        return _horner(matrix, x, n_layers)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return _horner(ctx.matrix, grad.contiguous(), ctx.n_layers), None, None


class _Spmm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, csr: Csr, values: Tensor, x: Tensor) -> Tensor:
        ctx.csr = csr
        ctx.save_for_backward(values, x)
        product: Tensor = csr.matrix(values) @ x
        return product

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor | None, Tensor | None]:
        values, x = ctx.saved_tensors
        grad = grad.contiguous()
        to_values = _edge_dot(ctx.csr, grad, x) if ctx.needs_input_grad[1] else None
        to_x = None
        if ctx.needs_input_grad[2]:
            transposed, place = ctx.csr.transposed
            to_x = transposed.matrix(values[place]) @ grad
        return None, to_values, to_x


class _EdgeSoftmax(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, csr: Csr, logits: Tensor) -> Tensor:
        ctx.csr = csr
        highest = _reduce_rows(csr, logits, "max")
        lifted = torch.exp(logits - highest[csr.row])
        weights = lifted / _reduce_rows(csr, lifted, "sum")[csr.row]
        ctx.save_for_backward(weights)
        return weights

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor]:
        (weights,) = ctx.saved_tensors
        flow = weights * grad
        return None, flow - weights * _reduce_rows(ctx.csr, flow, "sum")[ctx.csr.row]


def _horner(matrix: Tensor, x: Tensor, n_layers: int) -> Tensor:
    if n_layers == 0:
        return x.clone()
    h = x
    for _ in range(n_layers):
        h = torch.addmm(x, matrix, h)
    return h.div_(n_layers + 1)


def _edge_dot(csr: Csr, left: Tensor, right: Tensor) -> Tensor:
    """Dot left[row] with right[col] per entry, in chunks: the (nnz, d) product is never held."""
    chunks = [slice(start, start + _EDGE_CHUNK) for start in range(0, len(csr.col), _EDGE_CHUNK)]
    dots = [torch.einsum("ed,ed->e", left[csr.row[c]], right[csr.col[c].long()]) for c in chunks]
    return torch.cat([left.new_empty(0), *dots])


def _reduce_rows(csr: Csr, values: Tensor, how: str) -> Tensor:
    return torch.segment_reduce(values, how, offsets=csr.rowptr.long(), axis=0)

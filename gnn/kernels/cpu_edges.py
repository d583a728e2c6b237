"""Softmax over the entries of each row, and the aggregation that it weighs, on the CPU."""

import math
from functools import cache
from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor

from gnn.kernels.cpu_spmm import chunks, panels
from gnn.kernels.vector import add_scaled, load, scale, store, zeros
from gnn.sparse.pattern import Csr


def softmax(csr: Csr, logits: Tensor) -> Tensor:
    """Return exp(logit) over the row's sum of it, (nnz,)."""
    out = torch.empty_like(logits)
    _softmax(csr.rowptr.numpy(), chunks(csr), logits.numpy(), out.numpy())
    return out


def softmax_backward(csr: Csr, weights: Tensor, grad: Tensor) -> Tensor:
    """Return w (g - sum over the row of w g), (nnz,)."""
    out = torch.empty_like(weights)
    _softmax_backward(csr.rowptr.numpy(), chunks(csr), weights.numpy(), grad.numpy(), out.numpy())
    return out


def attend(csr: Csr, logits: Tensor, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the weighted sums, (n_rows, d), and each row's highest logit and sum of exp(logit - highest)."""
    n, d = csr.n_rows, x.shape[1]
    out = torch.empty(n, d, dtype=x.dtype)
    row_max, row_sum = torch.empty(n, dtype=x.dtype), torch.empty(n, dtype=x.dtype)
    like, cuts = x.numpy().dtype.type(0), chunks(csr)
    rows = (csr.rowptr.numpy(), csr.col.numpy(), cuts, logits.numpy())
    for start, width in panels(d):
        places = [t.data_ptr() + start * t.element_size() for t in (x, out)]
        _attend(width, like)(*rows, d, *places, row_max.numpy(), row_sum.numpy())
    return out, row_max, row_sum


def weigh(csr: Csr, logits: Tensor, row_max: Tensor, row_sum: Tensor, dots: Tensor, row_dot: Tensor) -> Tensor:
    """Return the softmax weights w, (nnz,), and OVERWRITE `dots` with w (dots - row_dot of the row)."""
    out = torch.empty_like(logits)
    arrays = [t.numpy() for t in (logits, row_max, row_sum, dots, row_dot, out)]
    _weigh(csr.rowptr.numpy(), chunks(csr), *arrays)
    return out


@numba.njit(parallel=True, cache=True, error_model="numpy")  # type: ignore[untyped-decorator]
def _softmax(rowptr: Any, cuts: Any, logits: Any, out: Any) -> None:
    for chunk in numba.prange(len(cuts) - 1):
        for i in range(cuts[chunk], cuts[chunk + 1]):
            highest, total = -np.inf, logits.dtype.type(0)
            for e in range(rowptr[i], rowptr[i + 1]):
                highest = max(highest, logits[e])
            for e in range(rowptr[i], rowptr[i + 1]):
                out[e] = math.exp(logits[e] - highest)
                total += out[e]
            for e in range(rowptr[i], rowptr[i + 1]):
                out[e] /= total


@numba.njit(parallel=True, cache=True, error_model="numpy")  # type: ignore[untyped-decorator]
def _softmax_backward(rowptr: Any, cuts: Any, weights: Any, grad: Any, out: Any) -> None:
    for chunk in numba.prange(len(cuts) - 1):
        for i in range(cuts[chunk], cuts[chunk + 1]):
            total = weights.dtype.type(0)
            for e in range(rowptr[i], rowptr[i + 1]):
                total += weights[e] * grad[e]
            for e in range(rowptr[i], rowptr[i + 1]):
                out[e] = weights[e] * (grad[e] - total)


@numba.njit(parallel=True, cache=True, error_model="numpy")  # type: ignore[untyped-decorator]
def _weigh(rowptr: Any, cuts: Any, logits: Any, row_max: Any, row_sum: Any, dots: Any, row_dot: Any, out: Any) -> None:
    for chunk in numba.prange(len(cuts) - 1):
        for i in range(cuts[chunk], cuts[chunk + 1]):
            for e in range(rowptr[i], rowptr[i + 1]):
                out[e] = math.exp(logits[e] - row_max[i]) / row_sum[i]
                dots[e] = out[e] * (dots[e] - row_dot[i])


@cache
def _attend(width: int, like: Any) -> Any:
    size = like.dtype.itemsize

    @numba.njit(parallel=True, cache=True, error_model="numpy")  # type: ignore[untyped-decorator]
    def kernel(
        rowptr: Any, col: Any, cuts: Any, logits: Any, d: int, x: int, out: int, row_max: Any, row_sum: Any
    ) -> None:
        for chunk in numba.prange(len(cuts) - 1):
            for i in range(cuts[chunk], cuts[chunk + 1]):
                highest, sum_of_row, total = -np.inf, like, zeros(width, like)
                for e in range(rowptr[i], rowptr[i + 1]):
                    highest = max(highest, logits[e])
                for e in range(rowptr[i], rowptr[i + 1]):
                    lifted = like + math.exp(logits[e] - highest)
                    sum_of_row += lifted
                    total = add_scaled(total, load(x + col[e] * (d * size), width, like), lifted)
                if sum_of_row > 0:
                    total = scale(total, like + 1 / sum_of_row)
                store(out + i * (d * size), total)
                row_max[i], row_sum[i] = highest, sum_of_row

    return kernel

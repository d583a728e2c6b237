"""Softmax over the entries of each row, and the aggregation that it weighs, on the CPU."""

import math
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gnn.kernels.cpu_spmm import panels
from gnn.kernels.threads import kernel, share_out, split_evenly
from gnn.kernels.vector import add_scaled, load, scale, store, zeros
from gnn.sparse.pattern import Csr


def softmax(csr: Csr, logits: Tensor) -> Tensor:
    """Return exp(logit) over the row's sum of it, (nnz,)."""
    out = torch.empty_like(logits)
    rowptr = csr.rowptr.numpy()
    share_out(_softmax, split_evenly(rowptr), rowptr, logits.numpy(), out.numpy())
    return out


def softmax_backward(csr: Csr, weights: Tensor, grad: Tensor) -> Tensor:
    """Return w (g - sum over the row of w g), (nnz,)."""
    out = torch.empty_like(weights)
    rowptr = csr.rowptr.numpy()
    share_out(_softmax_backward, split_evenly(rowptr), rowptr, weights.numpy(), grad.numpy(), out.numpy())
    return out


def attend(csr: Csr, logits: Tensor, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the weighted sums, (n_rows, d), and each row's highest logit and sum of exp(logit - highest)."""
    n, d = csr.n_rows, x.shape[1]
    out = torch.empty(n, d, dtype=x.dtype)
    row_max, row_sum = torch.empty(n, dtype=x.dtype), torch.empty(n, dtype=x.dtype)
    like, rowptr = x.numpy().dtype.type(0), csr.rowptr.numpy()
    rows = (split_evenly(rowptr), rowptr, csr.col.numpy(), logits.numpy())
    for start, width in panels(d):
        places = [t.data_ptr() + start * t.element_size() for t in (x, out)]
        share_out(_attend(width, like), *rows, d, *places, row_max.numpy(), row_sum.numpy())
    return out, row_max, row_sum


def weigh(csr: Csr, logits: Tensor, row_max: Tensor, row_sum: Tensor, dots: Tensor, row_dot: Tensor) -> Tensor:
    """Return the softmax weights w, (nnz,), and OVERWRITE `dots` with w (dots - row_dot of the row)."""
    out = torch.empty_like(logits)
    arrays = [t.numpy() for t in (logits, row_max, row_sum, dots, row_dot, out)]
    rowptr = csr.rowptr.numpy()
    share_out(_weigh, split_evenly(rowptr), rowptr, *arrays)
    return out


@kernel
def _softmax(start: int, end: int, rowptr: Any, logits: Any, out: Any) -> None:
    for i in range(start, end):
        highest, total = -np.inf, logits.dtype.type(0)
        for e in range(rowptr[i], rowptr[i + 1]):
            highest = max(highest, logits[e])
        for e in range(rowptr[i], rowptr[i + 1]):
            out[e] = math.exp(logits[e] - highest)
            total += out[e]
        for e in range(rowptr[i], rowptr[i + 1]):
            out[e] /= total


@kernel
def _softmax_backward(start: int, end: int, rowptr: Any, weights: Any, grad: Any, out: Any) -> None:
    for i in range(start, end):
        total = weights.dtype.type(0)
        for e in range(rowptr[i], rowptr[i + 1]):
            total += weights[e] * grad[e]
        for e in range(rowptr[i], rowptr[i + 1]):
            out[e] = weights[e] * (grad[e] - total)


@kernel
def _weigh(
    start: int, end: int, rowptr: Any, logits: Any, row_max: Any, row_sum: Any, dots: Any, row_dot: Any, out: Any
) -> None:
    for i in range(start, end):
        for e in range(rowptr[i], rowptr[i + 1]):
            out[e] = math.exp(logits[e] - row_max[i]) / row_sum[i]
            dots[e] = out[e] * (dots[e] - row_dot[i])


@lru_cache(maxsize=None, typed=True)  # np.float32(0) == np.float64(0)
def _attend(width: int, like: Any) -> Any:
    size = like.dtype.itemsize

    @kernel
    def aggregate(
        start: int, end: int, rowptr: Any, col: Any, logits: Any, d: int, x: int, out: int, row_max: Any, row_sum: Any
    ) -> None:
        for i in range(start, end):
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

    return aggregate

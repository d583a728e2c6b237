"""Products of a CSR pattern with a dense table on the CPU.

A table of any width is worked on in panels of a few widths, one compiled function for each width and form. Each row is
summed by one thread in the order of its entries, so the result is the same for every number of threads.
"""

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import numba
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gnn.kernels.threads import kernel, share_out, split_evenly
from gnn.kernels.vector import (
    BF16_BYTES,
    add,
    add_scaled,
    dot,
    load,
    load_bf16,
    prefetch,
    scale,
    store,
    store_bf16,
    zeros,
)
from gnn.sparse.pattern import Csr

_WIDTHS = (64, 32, 16, 4, 1)
AHEAD = 16
_ALL = np.empty(0, np.int64)
_NONE = {np.dtype(kind): np.empty(0, kind) for kind in (np.float32, np.float64)}


def like_of(table: Tensor) -> Any:
    """Return the zero that stands for a table's type: float64 for float64, float32 for others."""
    return np.float64(0) if table.dtype == torch.float64 else np.float32(0)


def panels(n_columns: int, widest: int = _WIDTHS[0]) -> Iterator[tuple[int, int]]:
    """Yield (first column, width) of the panels of a table; few widths, as each is compiled."""
    start = 0
    while start < n_columns:
        width = next(w for w in _WIDTHS if w <= min(widest, n_columns - start))
        yield start, width
        start += width


def running_entries(rowptr: npt.NDArray[Any], rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the running count of the entries of some rows, (n + 1,)."""
    count = np.zeros(len(rows) + 1, np.int64)
    np.cumsum(rowptr[rows + 1] - rowptr[rows], out=count[1:])
    return count


def multiply_add(
    csr: Csr,
    x: Tensor,
    out: Tensor,
    *,
    values: Tensor | None = None,
    row_scale: Tensor | None = None,
    base: Tensor | None = None,
    base_scale: Tensor | None = None,
    rows: Tensor | None = None,
) -> Tensor:
    """Compute out_i = base_scale_i base_i + row_scale_i * sum over entries (i, j) of v_ij x_j.

    Args:
        csr: pattern (n, m).
        x: (m, d) float32, float64 or bfloat16.
        out: (n, d) to write, of the type of `x` or, beside bfloat16, float32.
        values: (nnz,) or None for ones.
        row_scale: (n,) or None for ones.
        base: (n, d) of the type of the sums or of `x`, or None for zeros; may be `out`.
        base_scale: (n,), needed with `base`.
        rows: (k,) int64: compute only these rows, into k rows of `out`; everything else is still by row. None for all.

    Returns:
        `out`.
    """
    full = torch.float64 if x.dtype == torch.float64 else torch.float32
    like = np.float64(0) if full == torch.float64 else np.float32(0)
    none, chosen = _NONE[np.dtype(like.dtype)], _ALL if rows is None else rows.numpy()
    cuts = split_evenly(csr.rowptr.numpy() if rows is None else running_entries(csr.rowptr.numpy(), chosen))
    weights, scales, bases = (none if t is None else t.numpy() for t in (values, row_scale, base_scale))
    form = (values is not None, row_scale is not None, base is not None, rows is not None)
    halves = (x.dtype == torch.bfloat16, out.dtype == torch.bfloat16, base is not None and base.dtype == torch.bfloat16)
    d = x.shape[1]
    for start, width in panels(d):
        places = [t.data_ptr() + start * t.element_size() for t in (x, out, out if base is None else base)]
        arrays = (csr.rowptr.numpy(), csr.col.numpy(), chosen, weights, scales, bases)
        share_out(_multiply_add(width, like, form, halves), cuts, *arrays, d, *places)
    return out


def edge_dot(csr: Csr, left: Tensor, right: Tensor) -> Tensor:
    """Return left_i . right_j for each entry (i, j), (nnz,); tables are float32 or float64."""
    like = np.float64(0) if left.dtype == torch.float64 else np.float32(0)
    out = np.zeros(len(csr.col), like.dtype)
    cuts, d = split_evenly(csr.rowptr.numpy()), left.shape[1]
    for start, width in panels(d):
        places = [t.data_ptr() + start * t.element_size() for t in (left, right)]
        share_out(_edge_dot(width, like), cuts, csr.rowptr.numpy(), csr.col.numpy(), d, *places, out)
    return torch.from_numpy(out)


@numba.njit(inline="always")  # type: ignore[untyped-decorator]
def gather(
    rowptr: Any, col: Any, i: int, values: Any, has_values: bool, x: int, d: int, size: int, width: int, like: Any
) -> Any:
    """Return the sum over entries (i, j) of v_ij x_j, a vector.

    Args:
        rowptr: of the pattern.
        col: of the pattern.
        i: the row.
        values: v; read only if `has_values`.
        has_values: constant where this is called, as are `size`, `width` and `like`.
        x: address of the panel in row 0 of a table.
        d: columns of that table.
        size: bytes of one of its numbers; 2 stands for bfloat16.
        width: of the panel.
        like: type of the sum.
    """
    total = zeros(width, like)
    first, end = rowptr[i], rowptr[i + 1]
    near_end = min(max(first, len(col) - AHEAD), end)
    for e in range(first, end):
        if e < near_end:
            soon = x + col[e + AHEAD] * (d * size)
            for line in range(0, width * size, 64):
                prefetch(soon + line)
        place = x + col[e] * (d * size)
        row = load_bf16(place, width, like) if size == BF16_BYTES else load(place, width, like)
        total = add_scaled(total, row, values[e]) if has_values else add(total, row)
    return total


@lru_cache(maxsize=None, typed=True)  # np.float32(0) == np.float64(0)
def _multiply_add(width: int, like: Any, form: tuple[bool, bool, bool, bool], halves: tuple[bool, bool, bool]) -> Any:
    has_values, has_scale, has_base, has_rows = form
    from_half, to_half, base_half = halves
    size = like.dtype.itemsize
    in_size = BF16_BYTES if from_half else size
    out_size = BF16_BYTES if to_half else size
    base_size = BF16_BYTES if base_half else size

    @kernel
    def product(
        start: int,
        end: int,
        rowptr: Any,
        col: Any,
        rows: Any,
        values: Any,
        scales: Any,
        bases: Any,
        d: int,
        x: int,
        out: int,
        base: int,
    ) -> None:
        out_stride = d * out_size
        for k in range(start, end):
            i = rows[k] if has_rows else k
            total = gather(rowptr, col, i, values, has_values, x, d, in_size, width, like)
            if has_scale:
                total = scale(total, scales[i])
            if has_base:
                place = base + i * (d * base_size)
                own = load_bf16(place, width, like) if base_half else load(place, width, like)
                total = add_scaled(total, own, bases[i])
            if to_half:
                store_bf16(out + k * out_stride, total)
            else:
                store(out + k * out_stride, total)

    return product


@lru_cache(maxsize=None, typed=True)  # np.float32(0) == np.float64(0)
def _edge_dot(width: int, like: Any) -> Any:
    size = like.dtype.itemsize

    @kernel
    def dots(start: int, end: int, rowptr: Any, col: Any, d: int, left: int, right: int, out: Any) -> None:
        last = len(col) - 1
        for i in range(start, end):
            own = load(left + i * (d * size), width, like)
            for e in range(rowptr[i], rowptr[i + 1]):
                soon = right + col[min(e + AHEAD, last)] * (d * size)
                for line in range(0, width * size, 64):
                    prefetch(soon + line)
                out[e] += dot(own, load(right + col[e] * (d * size), width, like))

    return dots

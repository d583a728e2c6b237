"""Products of a CSR pattern with a dense table on the CPU.

A table of any width is worked on in panels of a few widths, one compiled function for each width and form. Rows are
shared out in chunks of equal numbers of entries, each row is summed by one thread in the order of its entries, so the
result is the same for every number of threads.
"""

from collections.abc import Iterator
from functools import cache
from typing import Any

import numba
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

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
_LINE_BYTES = 64
_AHEAD = 16
_CHUNKS_PER_THREAD = 8
_NONE = {np.dtype(kind): np.empty(0, kind) for kind in (np.float32, np.float64)}
Ints = npt.NDArray[np.int32]


def panels(n_columns: int) -> Iterator[tuple[int, int]]:
    """Yield (first column, width) of the panels of a table; few widths, as each is compiled."""
    start = 0
    while start < n_columns:
        width = next(w for w in _WIDTHS if w <= n_columns - start)
        yield start, width
        start += width


def chunks(csr: Csr) -> npt.NDArray[np.int64]:
    """Return the first row of each chunk of about equal numbers of entries, and the number of rows behind them."""
    return split_evenly(csr.rowptr.numpy())


def split_evenly(rowptr: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Cut rows, given the running count of their entries (n_rows + 1,), into chunks for all threads."""
    n_chunks = _CHUNKS_PER_THREAD * use_torch_threads()
    goals = np.linspace(0, int(rowptr[-1]), n_chunks + 1)
    cuts = np.searchsorted(rowptr, goals).astype(np.int64)
    cuts[0], cuts[-1] = 0, len(rowptr) - 1
    return cuts


def use_torch_threads() -> int:
    """Let numba use as many threads as torch does, as far as it has them; return how many."""
    n_threads: int = min(torch.get_num_threads(), numba.config.NUMBA_NUM_THREADS)
    numba.set_num_threads(n_threads)
    return n_threads


def multiply_add(
    csr: Csr,
    x: Tensor,
    out: Tensor,
    *,
    values: Tensor | None = None,
    row_scale: Tensor | None = None,
    base: Tensor | None = None,
    base_scale: Tensor | None = None,
) -> Tensor:
    """Compute out_i = base_scale_i base_i + row_scale_i * sum over entries (i, j) of v_ij x_j.

    Args:
        csr: pattern (n, m).
        x: (m, d) float32, float64 or bfloat16.
        out: (n, d) to write, of the type of `x` or, beside bfloat16, float32.
        values: (nnz,) or None for ones.
        row_scale: (n,) or None for ones.
        base: (n, d) float32 or float64, or None for zeros; may be `out`.
        base_scale: (n,), needed with `base`.

    Returns:
        `out`.
    """
    full = torch.float64 if x.dtype == torch.float64 else torch.float32
    like = np.float64(0) if full == torch.float64 else np.float32(0)
    none, cuts = _NONE[np.dtype(like.dtype)], chunks(csr)
    weights, rows, bases = (none if t is None else t.numpy() for t in (values, row_scale, base_scale))
    form = (values is not None, row_scale is not None, base is not None)
    halves = (x.dtype == torch.bfloat16, out.dtype == torch.bfloat16)
    d = x.shape[1]
    for start, width in panels(d):
        kernel = _multiply_add(width, like, form, halves)
        places = [t.data_ptr() + start * t.element_size() for t in (x, out, out if base is None else base)]
        kernel(csr.rowptr.numpy(), csr.col.numpy(), cuts, weights, rows, bases, d, *places)
    return out


def edge_dot(csr: Csr, left: Tensor, right: Tensor) -> Tensor:
    """Return left_i . right_j for each entry (i, j), (nnz,); tables are float32 or float64."""
    like = np.float64(0) if left.dtype == torch.float64 else np.float32(0)
    out = np.zeros(len(csr.col), like.dtype)
    cuts, d = chunks(csr), left.shape[1]
    for start, width in panels(d):
        places = [t.data_ptr() + start * t.element_size() for t in (left, right)]
        _edge_dot(width, like)(csr.rowptr.numpy(), csr.col.numpy(), cuts, d, *places, out)
    return torch.from_numpy(out)


@cache
def _multiply_add(width: int, like: Any, form: tuple[bool, bool, bool], halves: tuple[bool, bool]) -> Any:
    has_values, has_rows, has_base = form
    from_half, to_half = halves
    size, ahead = like.dtype.itemsize, _AHEAD
    in_size = BF16_BYTES if from_half else size
    out_size = BF16_BYTES if to_half else size
    lines = -(-width * in_size // _LINE_BYTES)

    @numba.njit(parallel=True, cache=True, error_model="numpy")  # type: ignore[untyped-decorator]
    def kernel(
        rowptr: Any, col: Any, cuts: Any, values: Any, rows: Any, bases: Any, d: int, x: int, out: int, base: int
    ) -> None:
        in_stride, stride, out_stride = d * in_size, d * size, d * out_size
        far = max(0, len(col) - ahead)
        for chunk in numba.prange(len(cuts) - 1):
            for i in range(cuts[chunk], cuts[chunk + 1]):
                total = zeros(width, like)
                first, end = rowptr[i], rowptr[i + 1]
                near_end = min(max(first, far), end)
                for e in range(first, near_end):
                    soon = x + col[e + ahead] * in_stride
                    for line in range(lines):
                        prefetch(soon + line * 64)
                    place = x + col[e] * in_stride
                    row = load_bf16(place, width) if from_half else load(place, width, like)
                    total = add_scaled(total, row, values[e]) if has_values else add(total, row)
                for e in range(near_end, end):
                    place = x + col[e] * in_stride
                    row = load_bf16(place, width) if from_half else load(place, width, like)
                    total = add_scaled(total, row, values[e]) if has_values else add(total, row)
                if has_rows:
                    total = scale(total, rows[i])
                if has_base:
                    total = add_scaled(total, load(base + i * stride, width, like), bases[i])
                if to_half:
                    store_bf16(out + i * out_stride, total)
                else:
                    store(out + i * out_stride, total)

    return kernel


@cache
def _edge_dot(width: int, like: Any) -> Any:
    size, ahead = like.dtype.itemsize, _AHEAD
    lines = -(-width * size // _LINE_BYTES)

    @numba.njit(parallel=True, cache=True, error_model="numpy")  # type: ignore[untyped-decorator]
    def kernel(rowptr: Any, col: Any, cuts: Any, d: int, left: int, right: int, out: Any) -> None:
        last = len(col) - 1
        for chunk in numba.prange(len(cuts) - 1):
            for i in range(cuts[chunk], cuts[chunk + 1]):
                own = load(left + i * d * size, width, like)
                for e in range(rowptr[i], rowptr[i + 1]):
                    soon = right + np.int64(col[min(e + ahead, last)]) * d * size
                    for line in range(lines):
                        prefetch(soon + line * 64)
                    out[e] += dot(own, load(right + np.int64(col[e]) * d * size, width, like))

    return kernel

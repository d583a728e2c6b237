"""The inner loop of dense products on the CPU: six rows times a panel of columns, summed in registers."""

from functools import lru_cache
from typing import Any

import numba
import numpy as np
import torch
from numba.core import types
from numba.extending import overload
from torch import Tensor

from gnn.kernels.threads import kernel
from gnn.kernels.vector import add, add_scaled, load, store, tanh, zeros

PANEL_BYTES = 64
N_ROWS = 6


@numba.njit(inline="always")  # type: ignore[untyped-decorator]
def multiply_panel(a: Any, k: Any, panel: int, stride: int, width: int, like: Any) -> Any:
    """Multiply six rows by a panel of `width` columns, PANEL_BYTES at most: more registers there are not.

    Each sum is in the order of the rows' columns.

    Args:
        a: (n, d), in any layout.
        k: the numbers of six rows.
        panel: address of d rows of `width` numbers.
        stride: bytes from one of them to the next.
        width: constant where this is called, as is `like`.
        like: type of the numbers.

    Returns:
        Six vectors.
    """
    s0 = s1 = s2 = s3 = s4 = s5 = zeros(width, like)
    for j in range(a.shape[1]):
        row = load(panel + j * stride, width, like)
        s0, s1, s2 = add_scaled(s0, row, a[k[0], j]), add_scaled(s1, row, a[k[1], j]), add_scaled(s2, row, a[k[2], j])
        s3, s4, s5 = add_scaled(s3, row, a[k[3], j]), add_scaled(s4, row, a[k[4], j]), add_scaled(s5, row, a[k[5], j])
    return s0, s1, s2, s3, s4, s5


def put_product(a: Any, b: Any, out: Any) -> None:
    """Write out = A B, of matrices that are in a core's cache; to be called in kernels.

    Args:
        a: (k, d), in any layout.
        b: (d, m), contiguous.
        out: (k, m) at least, contiguous.
    """
    raise NotImplementedError


def add_product(a: Any, b: Any, out: Any) -> None:
    """Add A B to out, as `put_product` writes it."""
    raise NotImplementedError


@overload(put_product)  # type: ignore[untyped-decorator]
def _put_product(a: Any, b: Any, out: Any) -> Any:
    return _product(a, is_sum=False)


@overload(add_product)  # type: ignore[untyped-decorator]
def _add_product(a: Any, b: Any, out: Any) -> Any:
    return _product(a, is_sum=True)


def _product(a: Any, is_sum: bool) -> Any:
    like = (np.float64 if a.dtype == types.float64 else np.float32)(0)
    n_wide, n_narrow = PANEL_BYTES // like.dtype.itemsize, 4
    wide, narrow, single = (_strip(width, like, is_sum) for width in (n_wide, n_narrow, 1))

    def product(a: Any, b: Any, out: Any) -> None:
        to_wide, to_narrow = b.shape[1] - b.shape[1] % n_wide, b.shape[1] - b.shape[1] % n_narrow
        wide(0, to_wide, a, b, out)
        narrow(to_wide, to_narrow, a, b, out)
        single(to_narrow, b.shape[1], a, b, out)

    return product


def _strip(width: int, like: Any, is_sum: bool) -> Any:
    size = like.dtype.itemsize

    @numba.njit(error_model="numpy")  # type: ignore[untyped-decorator]
    def strip(start: int, end: int, a: Any, b: Any, out: Any) -> None:
        stride, last = b.shape[1] * size, len(a) - 1
        for column in range(start, end, width):
            panel, target = b.ctypes.data + column * size, out.ctypes.data + column * size
            for k0 in range(0, len(a), N_ROWS):  # beyond the last row the last one stands in
                k1, k2, k3 = min(k0 + 1, last), min(k0 + 2, last), min(k0 + 3, last)
                k4, k5 = min(k0 + 4, last), min(k0 + 5, last)
                six = (k0, k1, k2, k3, k4, k5)
                s0, s1, s2, s3, s4, s5 = multiply_panel(a, six, panel, stride, width, like)
                for k, s in enumerate((s0, s1, s2, s3, s4, s5)):
                    if k0 + k <= last:
                        at = target + (k0 + k) * stride
                        store(at, add(load(at, width, like), s) if is_sum else s)

    return strip


def project(table: Tensor, nodes: Tensor, weight: Tensor, shift: Tensor | None, out: Tensor) -> None:
    """Compute out_k = x_nodes(k) W, or tanh(x_nodes(k) W + r), on the thread that calls; rows are read where they are.

    Args:
        table: (n, d) x, float32 or float64, contiguous.
        nodes: (k,) int64.
        weight: (d, m) W, contiguous.
        shift: (m,) r, or None for the product alone.
        out: (k, m) to write, contiguous.
    """
    like = np.float64(0) if table.dtype == torch.float64 else np.float32(0)
    size, n_columns, start = table.element_size(), weight.shape[1], 0
    has_shift = shift is not None
    for width in (PANEL_BYTES // size, 4, 1):
        end = n_columns - (n_columns - start) % width
        places = (t.data_ptr() + start * size for t in (weight, weight if shift is None else shift, out))
        if end > start and len(nodes):
            _project(width, like, has_shift)(table.numpy(), nodes.numpy(), n_columns, end - start, *places)
        start = end


@lru_cache(maxsize=None, typed=True)  # np.float32(0) == np.float64(0)
def _project(width: int, like: Any, has_shift: bool) -> Any:
    size = like.dtype.itemsize

    @kernel
    def projected(table: Any, nodes: Any, n_columns: int, n_here: int, weight: int, shift: int, out: int) -> None:
        stride, last = n_columns * size, len(nodes) - 1
        for k0 in range(0, len(nodes), N_ROWS):  # beyond the last row the last one stands in
            k1, k2, k3 = min(k0 + 1, last), min(k0 + 2, last), min(k0 + 3, last)
            k4, k5 = min(k0 + 4, last), min(k0 + 5, last)
            six = (nodes[k0], nodes[k1], nodes[k2], nodes[k3], nodes[k4], nodes[k5])
            for column in range(0, n_here, width):
                here = out + column * size
                s0, s1, s2, s3, s4, s5 = multiply_panel(table, six, weight + column * size, stride, width, like)
                for k, s in ((k0, s0), (k1, s1), (k2, s2), (k3, s3), (k4, s4), (k5, s5)):
                    if has_shift:
                        store(here + k * stride, tanh(add(s, load(shift + column * size, width, like))))
                    else:
                        store(here + k * stride, s)

    return projected

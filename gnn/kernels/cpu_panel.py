"""The inner loop of dense products on the CPU: six rows times a panel of columns, summed in registers."""

from functools import lru_cache
from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor

from gnn.kernels.threads import kernel
from gnn.kernels.vector import add, add_scaled, load, store, tanh, zeros

PANEL_BYTES = 64
N_ROWS = 6


def multiply_panel(width: int, like: Any) -> Any:
    """Make what multiplies six rows by a panel of `width` columns, PANEL_BYTES at most: more registers there are not.

    Each sum is in the order of the rows' columns.

    Returns:
        A function of six 1-d arrays of one length, the address of the panel, and the bytes from one of its rows to the
        next; it returns six vectors.
    """

    @numba.njit(inline="always")  # type: ignore[untyped-decorator]
    def multiply(u: Any, panel: int, stride: int) -> Any:
        s0 = s1 = s2 = s3 = s4 = s5 = zeros(width, like)
        for j in range(len(u[0])):
            row = load(panel + j * stride, width, like)
            s0, s1, s2 = add_scaled(s0, row, u[0][j]), add_scaled(s1, row, u[1][j]), add_scaled(s2, row, u[2][j])
            s3, s4, s5 = add_scaled(s3, row, u[3][j]), add_scaled(s4, row, u[4][j]), add_scaled(s5, row, u[5][j])
        return s0, s1, s2, s3, s4, s5

    return multiply


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
    multiply = multiply_panel(width, like)

    @kernel
    def projected(table: Any, nodes: Any, n_columns: int, n_here: int, weight: int, shift: int, out: int) -> None:
        stride, last = n_columns * size, len(nodes) - 1
        for k0 in range(0, len(nodes), N_ROWS):  # beyond the last row the last one stands in
            k1, k2, k3 = min(k0 + 1, last), min(k0 + 2, last), min(k0 + 3, last)
            k4, k5 = min(k0 + 4, last), min(k0 + 5, last)
            six = (
                table[nodes[k0]],
                table[nodes[k1]],
                table[nodes[k2]],
                table[nodes[k3]],
                table[nodes[k4]],
                table[nodes[k5]],
            )
            for column in range(0, n_here, width):
                here = out + column * size
                s0, s1, s2, s3, s4, s5 = multiply(six, weight + column * size, stride)
                for k, s in ((k0, s0), (k1, s1), (k2, s2), (k3, s3), (k4, s4), (k5, s5)):
                    if has_shift:
                        store(here + k * stride, tanh(add(s, load(shift + column * size, width, like))))
                    else:
                        store(here + k * stride, s)

    return projected

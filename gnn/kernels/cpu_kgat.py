"""What KGAT's layers do beside matrix products, on the CPU, in as few passes over the tables as there can be.

Tables of a layer are compact: row k is of node rows[k], so that a layer is computed for no node that nobody asks for.
Only a layer's input and output have a row for each node, because neighbours are found by their index there.

Dropout keeps nothing: whether an element is dropped is a hash of (seed, node, column), made again in the backward pass.

What is here works on one block of rows, in the thread that calls it; `cpu_kgat_layers` shares blocks out.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numba
import numpy as np
import numpy.typing as npt
import torch
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic
from torch import Tensor

from gnn.kernels.cpu_spmm import AHEAD, gather, panels
from gnn.kernels.vector import add, add_scaled, load, multiply, prefetch, store, zeros
from gnn.sparse.pattern import Csr

Ints = npt.NDArray[np.int64]
_compiled = numba.njit(nogil=True, cache=True, error_model="numpy")


@dataclass(frozen=True)
class Activation:
    """LeakyReLU of both branches, then dropout of their sum.

    Attributes:
        slope: of LeakyReLU below 0.
        dropout: share of a table that is dropped, in [0, 1).
        seed: of what is dropped, 64 bits; another one for each table and step.
    """

    slope: float
    dropout: float
    seed: int

    @property
    def arguments(self) -> tuple[float, float, np.uint32, np.uint64]:
        """Slope, the factor on what is kept, the lowest hash that is kept, and the seed."""
        return self.slope, 1.0 / (1.0 - self.dropout), np.uint32(int(self.dropout * (1 << 32))), np.uint64(self.seed)


def has_most_entries(csr: Csr, rows: Ints) -> bool:
    """Tell whether some rows have more than half of a pattern's entries."""
    rowptr = csr.rowptr.numpy()
    return 2 * int((rowptr[rows + 1] - rowptr[rows]).sum()) > len(csr.col)


def with_neighbours(csr: Csr, rows: Ints) -> Ints:
    """Return the sorted union of some nodes with the columns of their rows; all nodes where they have most entries."""
    if has_most_entries(csr, rows):
        return np.arange(csr.n_rows)
    return np.flatnonzero(_mark(csr.rowptr.numpy(), csr.col.numpy(), rows))


def mix(csr: Csr, values: Tensor, x: Tensor, rows: Ints, out: tuple[Tensor, Tensor]) -> None:
    """Gather n_i = sum over entries (i, j) of v_ij x_j, and write x_i + n_i and x_i * n_i.

    Args:
        csr: pattern (n, n).
        values: (nnz,).
        x: (n, d).
        rows: (k,) nodes i.
        out: two (k, d) to write.
    """
    d = x.shape[1]
    for start, width in panels(d):
        places = [t.data_ptr() + start * t.element_size() for t in (x, *out)]
        _mix(width, _like(x))(csr.rowptr.numpy(), csr.col.numpy(), values.numpy(), rows, d, *places)


def mix_backward(x: Tensor, rows: Ints, summed: Tensor, grads: tuple[Tensor, Tensor], to_near: Tensor) -> None:
    """Differentiate `mix` up to the gather.

    Args:
        x: (n, d) as in `mix`.
        rows: (k,) as in `mix`.
        summed: (k, d) first output of `mix`; OVERWRITTEN with the gradient of x_i itself, g + h * n_i.
        grads: g and h (k, d), gradients of the two outputs.
        to_near: to write the gradient of n_i to, g + h * x_i: (k, d), may be g itself; or (n, d) to write at `rows`.
    """
    d, is_spread = x.shape[1], len(to_near) > len(rows)
    for start, width in panels(d):
        places = [t.data_ptr() + start * t.element_size() for t in (x, summed, *grads, to_near)]
        _mix_backward(width, _like(x))(rows, is_spread, d, *places)


def pull(
    transposed: Csr, values: Tensor, to_near: Tensor, own: tuple[npt.NDArray[np.int32], Tensor], rows: Ints, out: Tensor
) -> None:
    """Gather gradients against the edges: out_j = own_j + sum over entries (j, i) of v_ji g_i.

    Args:
        transposed: pattern (n, n), transposed.
        values: (nnz,) in its order.
        to_near: g, (n, d), or (k, d) with the rows that `own` has; others are 0.
        own: place (n,) of each node in the table that follows, negative for a node that is not there and counts as 0;
            and the table (k, d).
        rows: (m,) nodes j.
        out: (m, d) to write.
    """
    place, table = own
    d = out.shape[1]
    pattern = (transposed.rowptr.numpy(), transposed.col.numpy(), values.numpy(), rows, place)
    for start, width in panels(d):
        places = [t.data_ptr() + start * t.element_size() for t in (to_near, table, out)]
        _pull(width, _like(out), len(to_near) < len(place))(*pattern, d, *places)


def activate(
    branches: tuple[Tensor, Tensor], biases: tuple[Tensor, Tensor], rows: Ints, activation: Activation, out: Tensor
) -> None:
    """Write dropout(LeakyReLU(a + b) + LeakyReLU(c + d)) into the rows of a table of all nodes.

    Args:
        branches: a and c, each (k, width).
        biases: b and d, each (width,).
        rows: (k,) node of each row.
        activation: what is dropped is chosen by node and column.
        out: (n, width) to write at `rows`.
    """
    _activate(*[t.numpy() for t in (*branches, *biases, out)], rows, *activation.arguments)


def activate_backward(
    branches: tuple[Tensor, Tensor], biases: tuple[Tensor, Tensor], rows: Ints, activation: Activation, grad: Tensor
) -> tuple[Tensor, Tensor]:
    """Differentiate `activate`: OVERWRITE a and c with their gradients.

    Args:
        branches: as in `activate`.
        biases: as in `activate`.
        rows: as in `activate`.
        activation: as in `activate`.
        grad: (k, width), gradient of the written rows.

    Returns:
        The gradients of the two biases.
    """
    sums = torch.zeros(2, grad.shape[1], dtype=grad.dtype)
    _activate_backward(*[t.numpy() for t in (sums, *branches, *biases, grad)], rows, *activation.arguments)
    return sums[0], sums[1]


def _like(x: Tensor) -> Any:
    return np.float64(0) if x.dtype == torch.float64 else np.float32(0)


@_compiled  # type: ignore[untyped-decorator]
def _mark(rowptr: Any, col: Any, rows: Any) -> Any:
    marks = np.zeros(len(rowptr) - 1, np.bool_)
    for i in rows:
        marks[i] = True
        for e in range(rowptr[i], rowptr[i + 1]):
            marks[col[e]] = True
    return marks


@lru_cache(maxsize=None, typed=True)  # np.float32(0) == np.float64(0)
def _mix(width: int, like: Any) -> Any:
    size = like.dtype.itemsize

    @_compiled  # type: ignore[untyped-decorator]
    def mixed(rowptr: Any, col: Any, values: Any, rows: Any, d: int, x: int, summed: int, product: int) -> None:
        stride = d * size
        for k in range(len(rows)):
            i = rows[k]
            total = gather(rowptr, col, i, values, True, x, d, size, width, like)
            own = load(x + i * stride, width, like)
            store(summed + k * stride, add(own, total))
            store(product + k * stride, multiply(own, total))

    return mixed


@lru_cache(maxsize=None, typed=True)
def _pull(width: int, like: Any, is_compact: bool) -> Any:
    size = like.dtype.itemsize

    @_compiled  # type: ignore[untyped-decorator]
    def pulled(
        rowptr: Any,
        col: Any,
        values: Any,
        rows: Any,
        place: Any,
        d: int,
        near: int,
        own: int,
        out: int,
    ) -> None:
        stride, last = d * size, len(col) - 1
        for k in range(len(rows)):
            j = rows[k]
            if is_compact:
                total = zeros(width, like)
                for e in range(rowptr[j], rowptr[j + 1]):
                    soon = place[col[min(e + AHEAD, last)]]
                    if soon >= 0:
                        for line in range(0, width * size, 64):
                            prefetch(near + soon * stride + line)
                    here = place[col[e]]
                    if here >= 0:
                        total = add_scaled(total, load(near + here * stride, width, like), values[e])
            else:
                total = gather(rowptr, col, j, values, True, near, d, size, width, like)
            if place[j] >= 0:
                total = add(total, load(own + place[j] * stride, width, like))
            store(out + k * stride, total)

    return pulled


@lru_cache(maxsize=None, typed=True)
def _mix_backward(width: int, like: Any) -> Any:
    size, minus = like.dtype.itemsize, like - 1

    @_compiled  # type: ignore[untyped-decorator]
    def differentiated(
        rows: Any, is_spread: bool, d: int, x: int, summed: int, to_summed: int, to_product: int, to_near: int
    ) -> None:
        stride = d * size
        for k in range(len(rows)):
            own = load(x + rows[k] * stride, width, like)
            near = add_scaled(load(summed + k * stride, width, like), own, minus)
            g, h = load(to_summed + k * stride, width, like), load(to_product + k * stride, width, like)
            store(summed + k * stride, add(g, multiply(h, near)))
            store(to_near + (rows[k] if is_spread else k) * stride, add(g, multiply(h, own)))

    return differentiated


@numba.njit(inline="always")  # type: ignore[untyped-decorator]
def _row_key(seed: Any, node: Any) -> Any:
    """Mix seed and node into 32 bits (the finaliser of splitmix64)."""
    z = seed + np.uint64(node + 1) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.uint32(z >> np.uint64(32))


@intrinsic  # type: ignore[untyped-decorator]
def _is_kept(typingctx: Any, key: Any, column: Any, lowest: Any) -> Any:
    """Tell whether the hash of a row's key and a column (a 32-bit finaliser of two multiplications) is high enough.

    numba's own arithmetic would widen 32 bits to 64, of which a processor multiplies half as many at once.
    """

    def build(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        def constant(number: int) -> ir.Constant:
            return ir.Constant(ir.IntType(32), number)

        spread = builder.mul(builder.trunc(args[1], ir.IntType(32)), constant(0x9E3779B9))
        h = builder.add(args[0], spread)
        for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
            h = builder.mul(builder.xor(h, builder.lshr(h, constant(shift))), constant(factor))
        h = builder.xor(h, builder.lshr(h, constant(16)))
        return builder.icmp_unsigned(">=", h, args[2])

    return types.boolean(types.uint32, types.int64, types.uint32), build


@_compiled  # type: ignore[untyped-decorator]
def _activate(
    a: Any,
    c: Any,
    a_bias: Any,
    c_bias: Any,
    out: Any,
    rows: Any,
    leak: float,
    factor: float,
    lowest: Any,
    seed: Any,
) -> None:
    zero, slope, kept = a.dtype.type(0), a.dtype.type(leak), a.dtype.type(factor)
    for k in range(len(rows)):
        target, key = out[rows[k]], _row_key(seed, rows[k])
        for j in range(a.shape[1]):
            left, right = a[k, j] + a_bias[j], c[k, j] + c_bias[j]
            both = (left if left > zero else slope * left) + (right if right > zero else slope * right)
            target[j] = both * kept if _is_kept(key, j, lowest) else zero


@_compiled  # type: ignore[untyped-decorator]
def _activate_backward(
    sums: Any,
    a: Any,
    c: Any,
    a_bias: Any,
    c_bias: Any,
    grad: Any,
    rows: Any,
    leak: float,
    factor: float,
    lowest: Any,
    seed: Any,
) -> None:
    zero, slope, kept = a.dtype.type(0), a.dtype.type(leak), a.dtype.type(factor)
    for k in range(len(rows)):
        key = _row_key(seed, rows[k])
        for j in range(a.shape[1]):
            g = grad[k, j] * kept if _is_kept(key, j, lowest) else zero
            left = g if a[k, j] + a_bias[j] > zero else slope * g
            right = g if c[k, j] + c_bias[j] > zero else slope * g
            a[k, j], c[k, j] = left, right
        # loops of their own: with more tables in one, LLVM gives up telling them apart and takes numbers one by one
        for j in range(a.shape[1]):
            sums[0, j] += a[k, j]
        for j in range(a.shape[1]):
            sums[1, j] += c[k, j]

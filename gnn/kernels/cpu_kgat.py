"""A layer of KGAT on the CPU, forward and backward, in as few passes over the tables as there can be.

A few rows at a time go from the gather to the activation, or back, with all products, in tables that stay in a core's
cache. Tables that are kept are compact: row k is of node rows[k], so that a layer is computed for no node that nobody
asks for. Only a layer's input and output have a row for each node, because neighbours are found by their index there.

Whether an element is dropped is a hash of (seed, node, column). Rows do not depend on how they are shared out; sums
over rows are made by blocks of a fixed size, so that every number of threads gives the same result.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, reduce
from typing import Any

import numba
import numpy as np
import numpy.typing as npt
import torch
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic, overload
from torch import Tensor

from gnn.kernels.cpu_panel import add_product, put_product
from gnn.kernels.cpu_spmm import gather, like_of, panels, running_entries
from gnn.kernels.threads import kernel, share_out, split_evenly
from gnn.kernels.vector import add, load, multiply, store
from gnn.sparse.pattern import Csr

Ints = npt.NDArray[np.int64]
LEFT, RIGHT, KEPT = np.uint8(1), np.uint8(2), np.uint8(4)
BLOCK = 2048  # rows whose part of the weights' gradients is one sum
_CHUNK = 96  # rows in a core's cache
_ROW_IN_ENTRIES = 24  # a row's products take as long as gathering so many entries


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


@dataclass(frozen=True)
class Tables:
    """What a layer keeps of its k rows for the backward pass.

    Attributes:
        near: (k, d) n_i, what was gathered; the backward pass leaves the gradient of x_i beside the gather there.
        marks: (k, width) uint8: 1 where the left branch is above 0, 2 where the right one is, 4 where dropout kept.
    """

    near: Tensor
    marks: Tensor


def forward(
    csr: Csr,
    values: Tensor,
    x: Tensor,
    rows: Ints,
    layer: tuple[Sequence[Tensor], Activation],
    tables: Tables,
    out: Tensor,
    n_threads: int,
) -> None:
    """Write dropout(LeakyReLU((x_i + n_i) W1 + b1) + LeakyReLU((x_i * n_i) W2 + b2)) into the rows of a table.

    n_i is the sum over entries (i, j) of v_ij x_j.

    Args:
        csr: pattern (n, n).
        values: v, (nnz,).
        x: (n, d).
        rows: (k,) nodes i.
        layer: W1, b1, W2, b2, with W (width, d) as torch has it; and what is dropped, by node and column.
        tables: to write.
        out: (n, width) to write at `rows`.
        n_threads: how many to use.
    """
    (w1, b1, w2, b2), activation = layer
    work = running_entries(csr.rowptr.numpy(), rows) + _ROW_IN_ENTRIES * np.arange(len(rows) + 1)
    arrays = (
        (csr.rowptr.numpy(), csr.col.numpy(), values.numpy()),
        rows,
        x.numpy(),
        (w1.T.contiguous().numpy(), b1.numpy(), w2.T.contiguous().numpy(), b2.numpy()),
        (tables.near.numpy(), tables.marks.numpy(), out.numpy()),
        activation.arguments,
    )
    share_out(_forward(x.shape[1], like_of(x)), split_evenly(work, n_threads), *arrays, n_threads=n_threads)


def backward(
    x: Tensor,
    rows: Ints,
    layer: tuple[Sequence[Tensor], Activation],
    tables: Tables,
    grad: Tensor,
    to_near: Tensor,
    n_threads: int,
) -> list[Tensor]:
    """Differentiate `forward` up to the gather.

    Args:
        x: as in `forward`.
        rows: as in `forward`.
        layer: as in `forward`.
        tables: as `forward` left them; `near` is OVERWRITTEN with the gradient of x_i itself, g + h * n_i, where g is
            that of x_i + n_i and h that of x_i * n_i.
        grad: (k, width) gradient of the written rows.
        to_near: to write the gradient of n_i to, g + h * x_i: (k, d), or (n, d) to write at `rows`.
        n_threads: how many to use.

    Returns:
        The gradients of W1, b1, W2, b2.
    """
    (w1, _, w2, _), activation = layer
    (width, d), n_blocks = w1.shape, -(-len(rows) // BLOCK)
    sums = [np.zeros((n_blocks, *shape), like_of(x).dtype) for shape in ((width, d), (width,)) * 2]
    slope, factor, *_ = activation.arguments
    arrays = (
        rows,
        x.numpy(),
        (w1.contiguous().numpy(), w2.contiguous().numpy()),
        (tables.near.numpy(), tables.marks.numpy(), grad.numpy(), to_near.numpy()),
        (slope, factor),
        tuple(sums),
    )
    share_out(_backward(BLOCK, like_of(x)), np.arange(n_blocks + 1), *arrays, n_threads=n_threads)
    return [torch.from_numpy(parts.sum(axis=0)) for parts in sums]


@lru_cache(maxsize=None, typed=True)  # np.float32(0) == np.float64(0)
def _forward(d: int, like: Any) -> Any:
    @kernel
    def forward(
        start: int, end: int, pattern: Any, rows: Any, x: Any, weights: Any, tables: Any, activation: Any
    ) -> None:
        (w1, b1, w2, b2), (near, marks, out) = weights, tables
        summed, multiplied = np.empty((_CHUNK, d), x.dtype), np.empty((_CHUNK, d), x.dtype)
        left, right = np.empty((_CHUNK, len(b1)), x.dtype), np.empty((_CHUNK, len(b1)), x.dtype)
        for first in range(start, end, _CHUNK):
            n = min(_CHUNK, end - first)
            here = rows[first : first + n]
            _mix(pattern, here, x, near[first:], summed, multiplied, d)
            put_product(summed[:n], w1, left)
            put_product(multiplied[:n], w2, right)
            _activate((left, right), (b1, b2), here, out, marks[first:], activation)

    return forward


@lru_cache(maxsize=None, typed=True)
def _backward(block: int, like: Any) -> Any:
    @kernel
    def backward(
        start: int, end: int, rows: Any, x: Any, weights: Any, tables: Any, activation: Any, sums: Any
    ) -> None:
        (w1, w2), (near, marks, grad, to_near) = weights, tables
        to_w1, to_b1, to_w2, to_b2 = sums
        d, width, is_spread = x.shape[1], len(w1), len(to_near) > len(rows)
        summed, multiplied = np.empty((_CHUNK, d), x.dtype), np.empty((_CHUNK, d), x.dtype)
        to_summed, to_multiplied = np.empty((_CHUNK, d), x.dtype), np.empty((_CHUNK, d), x.dtype)
        left, right = np.empty((_CHUNK, width), x.dtype), np.empty((_CHUNK, width), x.dtype)
        for number in range(start, end):
            for first in range(number * block, min((number + 1) * block, len(rows)), _CHUNK):
                n = min(_CHUNK, (number + 1) * block - first, len(rows) - first)
                here, near_here = rows[first : first + n], near[first : first + n]
                _mix_again(x, here, near_here, summed, multiplied)
                _activate_backward(grad[first : first + n], marks[first:], left, right, activation)
                _add_rows(left[:n], to_b1[number])
                _add_rows(right[:n], to_b2[number])
                add_product(left[:n].T, summed, to_w1[number])
                add_product(right[:n].T, multiplied, to_w2[number])
                put_product(left[:n], w1, to_summed)
                put_product(right[:n], w2, to_multiplied)
                for k in range(n):
                    to = to_near[here[k] if is_spread else first + k]
                    _mix_backward(x[here[k]], near_here[k], to_summed[k], to_multiplied[k], to)

    return backward


def _mix(pattern: Any, rows: Any, x: Any, near: Any, summed: Any, multiplied: Any, d: int) -> None:
    """Gather n_i, and write it, x_i + n_i and x_i * n_i."""
    raise NotImplementedError


@overload(_mix, prefer_literal=True)  # type: ignore[untyped-decorator]
def _mix_columns(pattern: Any, rows: Any, x: Any, near: Any, summed: Any, multiplied: Any, d: Any) -> Any:
    like = (np.float64 if x.dtype == types.float64 else np.float32)(0)
    made = [_mix_panel(start, width, d.literal_value, like) for start, width in panels(d.literal_value)]
    mix_panels = reduce(_in_turn, made)

    def mix(pattern: Any, rows: Any, x: Any, near: Any, summed: Any, multiplied: Any, d: Any) -> None:
        mix_panels(pattern, rows, x, near, summed, multiplied)

    return mix


def _mix_panel(start: int, width: int, d: int, like: Any) -> Any:
    size = like.dtype.itemsize
    stride, offset = d * size, start * size

    @numba.njit(error_model="numpy")  # type: ignore[untyped-decorator]
    def mix(pattern: Any, rows: Any, x: Any, near: Any, summed: Any, multiplied: Any) -> None:
        rowptr, col, values = pattern
        table, gathered = x.ctypes.data + offset, near.ctypes.data + offset
        sums, products = summed.ctypes.data + offset, multiplied.ctypes.data + offset
        for k in range(len(rows)):
            total = gather(rowptr, col, rows[k], values, True, table, d, size, width, like)
            own = load(table + rows[k] * stride, width, like)
            store(gathered + k * stride, total)
            store(sums + k * stride, add(own, total))
            store(products + k * stride, multiply(own, total))

    return mix


def _in_turn(first: Any, second: Any) -> Any:
    @numba.njit  # type: ignore[untyped-decorator]
    def both(pattern: Any, rows: Any, x: Any, near: Any, summed: Any, multiplied: Any) -> None:
        first(pattern, rows, x, near, summed, multiplied)
        second(pattern, rows, x, near, summed, multiplied)

    return both


@kernel
def _mix_again(x: Any, rows: Any, near: Any, summed: Any, multiplied: Any) -> None:
    for k in range(len(rows)):
        own = x[rows[k]]
        for j in range(len(own)):
            summed[k, j] = own[j] + near[k, j]
            multiplied[k, j] = own[j] * near[k, j]


@kernel
def _mix_backward(own: Any, near: Any, to_summed: Any, to_multiplied: Any, to_near: Any) -> None:
    for j in range(len(own)):
        g, h = to_summed[j], to_multiplied[j]
        to_near[j] = g + h * own[j]
        near[j] = g + h * near[j]


@kernel
def _add_rows(table: Any, total: Any) -> None:
    whole = len(table) - len(table) % 4
    for k in range(0, whole, 4):
        for j in range(len(total)):
            total[j] += (table[k, j] + table[k + 1, j]) + (table[k + 2, j] + table[k + 3, j])
    for k in range(whole, len(table)):
        for j in range(len(total)):
            total[j] += table[k, j]


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


@kernel
def _activate(branches: Any, biases: Any, rows: Any, out: Any, marks: Any, activation: Any) -> None:
    (left, right), (left_bias, right_bias) = branches, biases
    leak, keep, lowest, seed = activation
    zero, slope, factor = left.dtype.type(0), left.dtype.type(leak), left.dtype.type(keep)
    for k in range(len(rows)):
        a, c, target, mark, key = left[k], right[k], out[rows[k]], marks[k], _row_key(seed, rows[k])
        for j in range(len(target)):
            a[j] += left_bias[j]
            c[j] += right_bias[j]
        for j in range(len(target)):
            both = (a[j] if a[j] > zero else slope * a[j]) + (c[j] if c[j] > zero else slope * c[j])
            is_kept = _is_kept(key, j, lowest)
            target[j] = both * factor if is_kept else zero
            mark[j] = (a[j] > zero) * LEFT | (c[j] > zero) * RIGHT | is_kept * KEPT


@kernel
def _activate_backward(grad: Any, marks: Any, left: Any, right: Any, activation: Any) -> None:
    leak, keep = activation
    zero, slope, factor = grad.dtype.type(0), grad.dtype.type(leak), grad.dtype.type(keep)
    one = grad.dtype.type(1)
    for k in range(len(grad)):
        for j in range(grad.shape[1]):
            mark = marks[k, j]
            g = grad[k, j] * (factor if mark & KEPT else zero)
            left[k, j] = g * (one if mark & LEFT else slope)
            right[k, j] = g * (one if mark & RIGHT else slope)

"""The parts of LightGCN's training step that are no plain product: loss, backward pass and Adam on the CPU.

`gnn.fused` says what is computed. A node of the batch has a slot, its place in compact tables; other nodes have -1.
"""

import math
from functools import cache, lru_cache
from typing import Any

import numba
import numpy as np
from torch import Tensor

from gnn.kernels.cpu_spmm import gather, panels
from gnn.kernels.threads import kernel, share_out, split_rows
from gnn.kernels.vector import (
    BF16_BYTES,
    adam_step,
    add,
    add_scaled,
    load,
    multiply,
    prefetch,
    scale,
    store,
    store_bf16,
    zeros,
)

_FLOAT_BYTES = 4
_ROWS_AHEAD = 2
_COLUMNS = 16  # of a cache line
_summing = numba.njit(nogil=True, cache=True, error_model="numpy", fastmath={"reassoc", "contract"})


@kernel
def assign_slots(nodes: Any, slots: Any, distinct: Any) -> int:
    """Give each distinct node of a batch a slot, in the order of their first place; return how many there are."""
    count = 0
    for node in nodes:
        if slots[node] < 0:
            slots[node] = count
            distinct[count] = node
            count += 1
    return count


@kernel
def release_slots(distinct: Any, slots: Any) -> None:
    """Take the slots of a batch back."""
    for node in distinct:
        slots[node] = -1


def bpr_gradient(batch: Any, first: Any, final: Any, scales: Any, l2: float, share: float) -> tuple[float, Any, Any]:
    """Compute the loss of a batch and its gradients by slot.

    Args:
        batch: (3, n) int32 slots of users, positive and negative items.
        first: (n_slots, d) layer-0 vectors.
        final: (n_slots, d) propagated vectors.
        scales: (n_slots,) D^-1/2.
        l2: weight of the regulariser.
        share: of a layer in the mean of the layers.

    Returns:
        The loss; share * dL/d(final) + dL/d(first), what reaches layer 0 without a product, (n_slots, d); and
        D^-1/2 share * dL/d(final), what the products begin with, (n_slots, d).
    """
    n, d = batch.shape[1], first.shape[1]
    pull, losses = np.empty(n, np.float32), np.empty(n)
    share_out(_pull, split_rows(n), batch, first, final, np.float32(l2), pull, losses)
    direct, scaled = np.zeros_like(first), np.empty_like(first)
    weights = (np.float32(share / n), np.float32(l2 / n))
    share_out(
        _by_slot,
        np.minimum(np.arange(0, d + _COLUMNS, _COLUMNS), d),
        batch,
        first,
        final,
        scales,
        pull,
        weights,
        direct,
        scaled,
    )
    return float(losses.mean()), direct, scaled


@_summing  # type: ignore[untyped-decorator]
def _pull(start: int, end: int, batch: Any, first: Any, final: Any, l2: float, pull: Any, losses: Any) -> None:
    for b in range(start, end):
        user, positive, negative = batch[0, b], batch[1, b], batch[2, b]
        gap, norm = np.float32(0), np.float32(0)
        for c in range(first.shape[1]):
            gap += final[user, c] * (final[negative, c] - final[positive, c])
            norm += first[user, c] ** 2 + first[positive, c] ** 2 + first[negative, c] ** 2
        pull[b] = 1.0 / (1.0 + math.exp(-gap))
        losses[b] = math.log1p(math.exp(-abs(gap))) + (gap if gap > 0 else 0.0) + 0.5 * l2 * norm


@kernel
def _by_slot(
    start: int,
    end: int,
    batch: Any,
    first: Any,
    final: Any,
    scales: Any,
    pull: Any,
    weights: Any,
    direct: Any,
    scaled: Any,
) -> None:
    """Add up some columns of the gradients: no two threads write to one place, and the order is the batch's."""
    to_final, to_first = weights
    count = np.zeros(len(first), np.float32)
    for b in range(batch.shape[1]):
        user, positive, negative, weight = batch[0, b], batch[1, b], batch[2, b], to_final * pull[b]
        for slot in (user, positive, negative):
            count[slot] += 1
        for c in range(start, end):
            direct[user, c] += weight * (final[negative, c] - final[positive, c])
            direct[positive, c] -= weight * final[user, c]
            direct[negative, c] += weight * final[user, c]
    for slot in range(len(first)):
        for c in range(start, end):
            scaled[slot, c] = scales[slot] * direct[slot, c]
            direct[slot, c] += to_first * count[slot] * first[slot, c]


@numba.njit(inline="always")  # type: ignore[untyped-decorator]
def _gather_batch(
    rowptr: Any, col: Any, i: int, values: Any, has_values: bool, slots: Any, x: int, stride: int, width: int
) -> Any:
    """Return the sum over entries (i, j) of v_ij x_slot(j), a vector; nodes without a slot have a row of zeros."""
    total = zeros(width, np.float32(0))
    for e in range(rowptr[i], rowptr[i + 1]):
        slot = slots[col[e]]
        if slot >= 0:
            row = load(x + slot * stride, width, np.float32(0))
            total = add_scaled(total, row, values[e]) if has_values else add(total, row)
    return total


def update_rows(tables: tuple[Tensor, Tensor, Tensor], rates: Any, slots: Any, gradient: Tensor) -> None:
    """Make a step of Adam on a table whose gradient has few rows; the other rows move by their moments.

    Args:
        tables: parameter and its two moments, each (n, d) float32 or float64.
        rates: b1, b2, lr / (1 - b1^t), 1 / sqrt(1 - b2^t) and eps, of the tables' type.
        slots: (n,) int32 place of each row in the gradient, negative for none.
        gradient: (k, d) of the tables' type.
    """
    n, d = tables[0].shape
    like, size = rates[0] * 0, tables[0].element_size()
    for start, width in panels(d):
        places = (t.data_ptr() + size * start for t in (*tables, gradient))
        share_out(_update(width, like), split_rows(n), rates, slots, d * size, *places)


@lru_cache(maxsize=None, typed=True)  # np.float32(0) == np.float64(0)
def _update(width: int, like: Any) -> Any:
    @kernel
    def update(
        start: int, end: int, rates: Any, slots: Any, stride: int, table: int, mean: int, square: int, gradient: int
    ) -> None:
        for i in range(start, end):
            g, at = zeros(width, like), i * stride
            if slots[i] >= 0:
                g = load(gradient + slots[i] * stride, width, like)
            adam_row(g, rates, table + at, mean + at, square + at, width, like)

    return update


@numba.njit(inline="always")  # type: ignore[untyped-decorator]
def adam_row(g: Any, rates: Any, embedding: int, mean: int, square: int, width: int, like: Any) -> Any:
    """Update a row of a parameter and of its two moments, and return the new row, a vector."""
    keep_mean, keep_square, rate, correction, epsilon = rates
    m = add_scaled(scale(load(mean, width, like), keep_mean), g, like + 1 - keep_mean)
    v = add_scaled(scale(load(square, width, like), keep_square), multiply(g, g), like + 1 - keep_square)
    new = add_scaled(load(embedding, width, like), adam_step(m, v, rate, correction, epsilon), like - 1)
    store(mean, m)
    store(square, v)
    store(embedding, new)
    return new


@cache
def backward(width: int, has_values: bool, is_first: bool, is_last: bool, halves: bool) -> Any:
    """Make the kernel of one product of the backward pass, for one panel of columns.

    Its sum over a row, scaled, and `base` of the row's slot are the next table; in the last product they are the
    gradient, which goes through Adam into the parameter, and the new parameter times D^-1/2 is the next step's table.

    Args:
        width: of the panel.
        has_values: whether entries have values other than 1.
        is_first: `x` is the compact float32 table of the batch; else a whole table.
        is_last: update the parameter, whose rows are in the order of the nodes: that of row i is row nodes[i].
        halves: whole tables but the parameter's are bfloat16.
    """
    like = np.float32(0)
    size = BF16_BYTES if halves else _FLOAT_BYTES

    @kernel
    def product(
        start: int,
        end: int,
        rowptr: Any,
        col: Any,
        values: Any,
        slots: Any,
        scales: Any,
        d: int,
        x: int,
        base: int,
        out: int,
        rates: Any,
        nodes: Any,
        tables: Any,
    ) -> None:
        stride, last = d * _FLOAT_BYTES, len(nodes) - 1
        for i in range(start, end):
            if is_first:
                total = _gather_batch(rowptr, col, i, values, has_values, slots, x, stride, width)
            else:
                total = gather(rowptr, col, i, values, has_values, x, d, size, width, like)
            total = scale(total, scales[i])
            if slots[i] >= 0:
                total = add(total, load(base + slots[i] * stride, width, like))
            if is_last:
                at, soon = nodes[i] * stride, nodes[min(i + _ROWS_AHEAD, last)] * stride
                for table in tables:
                    for line in range(0, width * _FLOAT_BYTES, 64):
                        prefetch(table + soon + line)
                total = adam_row(total, rates, tables[0] + at, tables[1] + at, tables[2] + at, width, like)
                total = scale(total, scales[i])
            if halves:
                store_bf16(out + i * d * size, total)
            else:
                store(out + i * d * size, total)

    return product

"""Neighbours of the rows that KGAT's layers are computed for, and their gradients, gathered against the edges."""

from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from gnn.kernels.cpu_spmm import AHEAD, gather, like_of, panels, running_entries
from gnn.kernels.cpu_step import adam_row
from gnn.kernels.threads import kernel, share_out, split_evenly
from gnn.kernels.vector import add, add_scaled, load, prefetch, store, zeros
from gnn.sparse.pattern import Csr

Ints = npt.NDArray[np.int64]
Adam = tuple[tuple[Tensor, Tensor, Tensor], tuple[Any, ...]]
_LINE = 64


def has_most_entries(csr: Csr, rows: Ints) -> bool:
    """Tell whether some rows have more than half of a pattern's entries."""
    rowptr = csr.rowptr.numpy()
    return 2 * int((rowptr[rows + 1] - rowptr[rows]).sum()) > len(csr.col)


def with_neighbours(csr: Csr, rows: Ints) -> Ints:
    """Return the sorted union of some nodes with the columns of their rows; all nodes where they have most entries."""
    if has_most_entries(csr, rows):
        return np.arange(csr.n_rows)
    return np.flatnonzero(_mark(csr.rowptr.numpy(), csr.col.numpy(), rows))


def clear_others(table: Tensor, rows: Ints, n_threads: int) -> None:
    """Write zeros to all rows of a table but some."""
    is_other = np.ones(len(table), np.bool_)
    is_other[rows] = False
    share_out(_clear, split_evenly(np.arange(len(table) + 1), n_threads), is_other, table.numpy(), n_threads=n_threads)


def pull(
    transposed: Csr,
    values: Tensor,
    to_near: Tensor,
    own: tuple[Ints, Tensor],
    target: tuple[Ints, Tensor],
    n_threads: int,
) -> None:
    """Gather gradients by the rows that get them: out_j = own_j + sum over entries (j, i) of v_ji g_i.

    Args:
        transposed: pattern (n, n), transposed.
        values: v, (nnz,) in its order.
        to_near: g, (n, d).
        own: nodes (k,) of the rows of a table (k, d); other nodes have 0 there.
        target: (m,) nodes j, and out, (m, d) to write.
        n_threads: how many to use.
    """
    rows, out = target
    rates = (like_of(out),) * 5
    _pull_into((transposed, values), to_near, own, rows, (out, out, out), rates, n_threads)


def pull_and_move(
    transposed: Csr, values: Tensor, to_near: Tensor, own: tuple[Ints, Tensor], adam: Adam, n_threads: int
) -> None:
    """Gather gradients of all nodes as `pull` does, and make a step of Adam with each as soon as it is there.

    Args:
        transposed: as in `pull`.
        values: as in `pull`.
        to_near: as in `pull`.
        own: as in `pull`.
        adam: the table (n, d) that moves with its two moments, and the rates that `gnn.adam` gives.
        n_threads: as in `pull`.
    """
    tables, rates = adam
    _pull_into((transposed, values), to_near, own, np.arange(len(to_near)), tables, rates, n_threads, moves=True)


def _pull_into(
    matrix: tuple[Csr, Tensor],
    to_near: Tensor,
    own: tuple[Ints, Tensor],
    rows: Ints,
    tables: tuple[Tensor, Tensor, Tensor],
    rates: tuple[Any, ...],
    n_threads: int,
    *,
    moves: bool = False,
) -> None:
    (csr, values), (nodes, table) = matrix, own
    pattern, place = (csr.rowptr.numpy(), csr.col.numpy(), values.numpy()), _places(nodes, len(to_near))
    cuts, d = split_evenly(running_entries(pattern[0], rows), n_threads), to_near.shape[1]
    for start, width in panels(d):
        near, beside, *into = (t.data_ptr() + start * t.element_size() for t in (to_near, table, *tables))
        work = _pull(width, like_of(to_near), moves)
        share_out(work, cuts, pattern, rows, place, d, (near, beside), tuple(into), rates, n_threads=n_threads)


def push(
    csr: Csr, values: Tensor, to_near: Tensor, own: tuple[Ints, Tensor], target: tuple[Ints, Tensor], n_threads: int
) -> None:
    """Do what `pull` does by the rows that have gradients, of which there are few.

    Threads share the columns: whichever thread adds to a number, it is in the order of the rows.

    Args:
        csr: pattern (n, n).
        values: v, (nnz,) in its order.
        to_near: g, (k, d), of the nodes in `own`; others have 0.
        own: as in `pull`.
        target: as in `pull`; every node that an entry of `own`'s leads to is among the nodes.
        n_threads: how many to use.
    """
    (nodes, table), (rows, out) = own, target
    pattern, place, d = (csr.rowptr.numpy(), csr.col.numpy(), values.numpy()), _places(rows, csr.n_cols), out.shape[1]
    strips = list(panels(d, _LINE // out.element_size()))

    def work(first: int, end: int) -> None:
        for start, width in strips[first:end]:
            places = [t.data_ptr() + start * t.element_size() for t in (to_near, table, out)]
            _push(width, like_of(out))(pattern, nodes, place, len(rows), d, *places)

    share_out(work, np.arange(len(strips) + 1), n_threads=n_threads)


def _places(nodes: Ints, n_nodes: int) -> npt.NDArray[np.int32]:
    """Return the place of each node among some, -1 for others."""
    place = np.full(n_nodes, -1, np.int32)
    place[nodes] = np.arange(len(nodes), dtype=np.int32)
    return place


@kernel
def _mark(rowptr: Any, col: Any, rows: Any) -> Any:
    marks = np.zeros(len(rowptr) - 1, np.bool_)
    for i in rows:
        marks[i] = True
        for e in range(rowptr[i], rowptr[i + 1]):
            marks[col[e]] = True
    return marks


@kernel
def _clear(start: int, end: int, chosen: Any, table: Any) -> None:
    for i in range(start, end):
        if chosen[i]:
            table[i] = 0


@lru_cache(maxsize=None, typed=True)  # np.float32(0) == np.float64(0)
def _pull(width: int, like: Any, moves: bool) -> Any:
    size = like.dtype.itemsize

    @kernel
    def pulled(
        start: int, end: int, pattern: Any, rows: Any, place: Any, d: int, sources: Any, tables: Any, rates: Any
    ) -> None:
        (rowptr, col, values), (near, own), stride = pattern, sources, d * size
        for k in range(start, end):
            j = rows[k]
            total = gather(rowptr, col, j, values, True, near, d, size, width, like)
            if place[j] >= 0:
                total = add(total, load(own + place[j] * stride, width, like))
            at = k * stride
            if moves:
                adam_row(total, rates, tables[0] + at, tables[1] + at, tables[2] + at, width, like)
            else:
                store(tables[0] + at, total)

    return pulled


@lru_cache(maxsize=None, typed=True)
def _push(width: int, like: Any) -> Any:
    size = like.dtype.itemsize

    @kernel
    def pushed(pattern: Any, nodes: Any, place: Any, n_out: int, d: int, near: int, own: int, out: int) -> None:
        (rowptr, col, values), stride = pattern, d * size
        for k in range(n_out):
            store(out + k * stride, zeros(width, like))
        for k in range(len(nodes)):
            store(out + place[nodes[k]] * stride, load(own + k * stride, width, like))
        for k in range(len(nodes)):
            grad, last = load(near + k * stride, width, like), rowptr[nodes[k] + 1] - 1
            for e in range(rowptr[nodes[k]], last + 1):
                prefetch(out + place[col[min(e + AHEAD, last)]] * stride)
                at = out + place[col[e]] * stride
                store(at, add_scaled(load(at, width, like), grad, values[e]))

    return pushed

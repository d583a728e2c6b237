"""Batches of rows for parallel writers, so cut that no two writers ever hold the same node.

The nodes of a graph are dealt into blocks. A batch of relationships joins nodes of at most two blocks and names them;
while it is written, no other batch that names one of them is. A deadlock needs two transactions that wait for each
other's nodes, so within one load there is none. Batches of nodes name no block: no node is in two of them.
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from db.neo4j_statements import NODES, Group

_Result = TypeVar("_Result")
_ENDS: Final = {
    "interactions": ("user_id", "item_id"),
    "triples": ("head", "tail"),
    "members": ("hyperedge_id", "entity_id"),
    "texts": ("entity_id",),
    "features": ("entity_id",),
}


@dataclass(frozen=True)
class Batch:
    """Rows of a group that one transaction writes.

    Attributes:
        group: the table and the statement.
        rows: some of its rows.
        blocks: the blocks whose nodes it joins.
    """

    group: Group
    rows: pa.Table
    blocks: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Limits:
    """How large a batch may be, and for how many writers it is cut.

    Attributes:
        rows: at most so many rows.
        size_bytes: at most about so many bytes, by the mean size of a row; at least one row.
        n_writers: how many write at once.
    """

    rows: int
    size_bytes: int
    n_writers: int


def cut(group: Group, nodes: pa.Array, limits: Limits) -> Iterator[Batch]:
    """Cut a group into batches.

    Args:
        group: rows of one table that one statement writes.
        nodes: the ids of all nodes that relationships may join, each once.
        limits: how large a batch may be.
    """
    rows, size = group.rows, _batch_size(group.rows, limits)
    if group.table in NODES:
        for part in _slices(rows.sort_by(rows.column_names[0]), size):  # neighbours share pages of the index
            yield Batch(group, part)
        return
    n_blocks = 2 * limits.n_writers if len(rows) > size else 1
    ends = np.stack([pc.index_in(rows[end], value_set=nodes).to_numpy() for end in _ENDS[group.table]])
    blocks = ends % n_blocks
    low, high = blocks.min(axis=0), blocks.max(axis=0)
    order = np.lexsort((ends[-1], ends[0], high, low))  # neighbours in one batch share page and lock
    pair = (low * n_blocks + high)[order]
    bounds = [0, *(np.flatnonzero(pair[1:] != pair[:-1]) + 1), len(pair)]
    for start, stop in pairwise(bounds):
        named = divmod(int(pair[start]), n_blocks) if n_blocks > 1 else range(2 * limits.n_writers)
        for part in _slices(rows.take(order[start:stop]), size):
            yield Batch(group, part, frozenset(named))


def write_in_parallel(
    batches: Iterable[Batch], write: Callable[[Batch], _Result], n_writers: int
) -> Iterator[tuple[Batch, _Result]]:
    """Write batches by several threads, never two at once that name the same block.

    Yields:
        Each batch and what `write` returned, as they end. An error of `write` ends the whole: batches that are being
        written are waited for, no other is begun.
    """
    waiting = list(batches)
    running: dict[Future[_Result], Batch] = {}
    with ThreadPoolExecutor(n_writers, thread_name_prefix="kglift-write") as threads:
        while waiting or running:
            held = frozenset[int]().union(*(batch.blocks for batch in running.values()))
            while len(running) < n_writers and (place := _first_free(waiting, held)) is not None:
                batch = waiting.pop(place)
                held |= batch.blocks
                running[threads.submit(write, batch)] = batch
            ended, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in ended:
                yield running.pop(future), future.result()


def _first_free(waiting: list[Batch], held: frozenset[int]) -> int | None:
    return next((place for place, batch in enumerate(waiting) if batch.blocks.isdisjoint(held)), None)


def _batch_size(rows: pa.Table, limits: Limits) -> int:
    mean_bytes = rows.nbytes / max(1, len(rows))
    return max(1, min(limits.rows, int(limits.size_bytes / max(1.0, mean_bytes))))


def _slices(rows: pa.Table, size: int) -> Iterator[pa.Table]:
    for start in range(0, len(rows), size):
        yield rows.slice(start, size)

"""Batches of rows for parallel writers, so cut that no two writers ever hold the same node.

A batch holds rows of as many statements as fit into it: a transaction has its price. The nodes of a graph are dealt
into blocks. A batch of relationships joins nodes of at most two blocks and names them;
while it is written, no other batch that names one of them is. A deadlock needs two transactions that wait for each
other's nodes, so within one load there is none. Batches of nodes name no block: no node is in two of them.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from db.neo4j_statements import Group

_Result = TypeVar("_Result")
_ROUNDING: Final = 1e-9
_AT_ONCE: Final = 50_000
_ENDS: Final = {
    "interactions": ("user_id", "item_id"),
    "triples": ("head", "tail"),
    "members": ("hyperedge_id", "entity_id"),
    "texts": ("entity_id",),
    "features": ("entity_id",),
}


@dataclass(frozen=True)
class Batch:
    """Rows that one transaction writes, of one statement or of several.

    Attributes:
        parts: the rows, by statement.
        blocks: the blocks whose nodes they join.
    """

    parts: tuple[Group, ...]
    blocks: frozenset[int] = frozenset()

    def __len__(self) -> int:
        """Return the number of rows."""
        return sum(map(len, self.parts))

    def taken(self) -> "Batch":
        """Copy the rows, which until then are places in the tables of the graph."""
        return replace(self, parts=tuple(part.taken() for part in self.parts))


@dataclass(frozen=True)
class Limits:
    """How large a batch may be, and for how many writers it is cut.

    Attributes:
        rows: at most so many rows.
        size_bytes: at most about so many bytes, by the mean size of a row of a group; at least one row.
        n_writers: how many write at once.
    """

    rows: int
    size_bytes: int
    n_writers: int

    def share(self, part: Group) -> float:
        """Return which part of a batch each row of a group fills, at most 1."""
        copies = (part.at(slice(start, start + _AT_ONCE)).taken() for start in range(0, len(part), _AT_ONCE))
        mean_bytes = float(sum(copy.rows.nbytes for copy in copies)) / max(1, len(part))
        return min(1.0, max(1 / self.rows, mean_bytes / self.size_bytes))


def cut_nodes(groups: Iterable[Group], limits: Limits) -> list[Batch]:
    """Cut rows of nodes into batches of equal size, as many as keep all writers busy.

    Args:
        groups: rows of nodes, each in one of them.
        limits: how large a batch may be.
    """
    parts = [g.at(np.asarray(pc.sort_indices(_column(g, 0)))) for g in groups]  # neighbours share pages
    return [Batch(filled) for filled in _filled(parts, limits, limits.n_writers)]


def cut_relationships(groups: Iterable[Group], nodes: pa.Array, limits: Limits) -> list[Batch]:
    """Cut rows that join nodes into batches, each of rows that join the same two blocks of nodes.

    Args:
        groups: rows of relationships, or of nodes that hang on others.
        nodes: the ids of all nodes that may be joined, each once.
        limits: how large a batch may be.
    """
    parts = list(groups)
    n_blocks = 2 * limits.n_writers
    if sum(limits.share(part) * len(part) for part in parts) <= 1:
        return [Batch(filled, frozenset(range(n_blocks))) for filled in _filled(parts, limits)]
    by_pair: dict[int, list[Group]] = {}
    for part in parts:
        for pair, chosen in _by_pair(part, nodes, n_blocks):
            by_pair.setdefault(pair, []).append(chosen)
    return [
        Batch(filled, frozenset(divmod(pair, n_blocks)))
        for pair, those in sorted(by_pair.items())
        for filled in _filled(those, limits)
    ]


def _by_pair(group: Group, nodes: pa.Array, n_blocks: int) -> Iterator[tuple[int, Group]]:
    ends = np.stack([pc.index_in(_column(group, end), value_set=nodes).to_numpy() for end in _ENDS[group.table]])
    blocks = ends % n_blocks
    low, high = blocks.min(axis=0), blocks.max(axis=0)
    order = np.lexsort((ends[-1], ends[0], high, low))  # neighbours in one batch share page and lock
    pair = (low * n_blocks + high)[order]
    bounds = [0, *(np.flatnonzero(pair[1:] != pair[:-1]) + 1), len(pair)]
    for start, stop in pairwise(bounds):
        if start < stop:
            yield int(pair[start]), group.at(order[start:stop])


def _column(group: Group, name: str | int) -> pa.ChunkedArray:
    return group.rows[name] if group.places is None else group.rows[name].take(group.places)


def _filled(parts: Iterable[Group], limits: Limits, multiple: int = 1) -> Iterator[tuple[Group, ...]]:
    """Put rows together to batches of equal size, their number a multiple of something where that goes."""
    shares = [(limits.share(part), part) for part in parts if len(part)]
    whole = sum(share * len(part) for share, part in shares)
    n_batches = math.ceil(whole / multiple - _ROUNDING) * multiple
    room = min(1.0, whole / max(1, n_batches) + max((share for share, _ in shares), default=0.0))
    filled, left = list[Group](), room
    for share, part in shares:
        start = 0
        while start < len(part):
            n = int(left / share + _ROUNDING)
            if n == 0 and filled:
                yield tuple(filled)
                filled, left = [], room
                continue
            piece = part.at(slice(start, start + max(1, n)))
            filled.append(piece)
            start, left = start + len(piece), left - len(piece) * share
    if filled:
        yield tuple(filled)


def write_in_parallel(
    batches: Iterable[Batch],
    write: Callable[[Batch], _Result],
    n_writers: int,
    stop: Callable[[Iterable[Future[_Result]]], object] = list,
) -> Iterator[tuple[Batch, _Result]]:
    """Write batches by several threads, never two at once that name the same block.

    Args:
        batches: what is written.
        write: writes one of them.
        n_writers: how many threads.
        stop: is called where the whole ends early, with what is still being written, so that it may end that.

    Yields:
        Each batch and what `write` returned, as they end. An error of `write`, or Ctrl-C, ends the whole: batches that
        are being written are waited for, no other is begun.
    """
    waiting = list(batches)
    running: dict[Future[_Result], Batch] = {}
    with ThreadPoolExecutor(n_writers, thread_name_prefix="kglift-write") as threads:
        try:
            while waiting or running:
                held = frozenset[int]().union(*(batch.blocks for batch in running.values()))
                while len(running) < n_writers and (place := _first_free(waiting, held)) is not None:
                    batch = waiting.pop(place)
                    held |= batch.blocks
                    running[threads.submit(write, batch)] = batch
                ended, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in ended:
                    yield running.pop(future), future.result()
        except BaseException:
            stop(running)
            raise


def _first_free(waiting: list[Batch], held: frozenset[int]) -> int | None:
    return next((place for place, batch in enumerate(waiting) if batch.blocks.isdisjoint(held)), None)

"""Share the rows of a kernel out to threads.

Kernels are compiled without the interpreter's lock and serial: half the compile time of numba's parallel loops, no
second OpenMP beside the one in PyTorch, and a thread that is held up by something else takes fewer chunks.
"""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any

import numba
import numpy as np
import numpy.typing as npt
import torch

Cuts = npt.NDArray[np.int64]
kernel: Callable[[Callable[..., Any]], Callable[..., Any]] = numba.njit(nogil=True, cache=True, error_model="numpy")
"""How every kernel is compiled; its first two arguments are the first row of its share and the one behind the last."""

_CHUNKS_PER_THREAD = 8
_BLOCK = 2048
_held_back: ContextVar[int] = ContextVar("threads that torch is held back from", default=0)


def split_evenly(running: npt.NDArray[Any], n_threads: int | None = None) -> Cuts:
    """Cut rows into chunks of about equal numbers of entries.

    Args:
        running: (n_rows + 1,) running count of their entries, e.g. `rowptr`.
        n_threads: as for `share_out`.

    Returns:
        The first row of each chunk, and the number of rows behind them.
    """
    n_chunks = _CHUNKS_PER_THREAD * (n_threads or _n_threads())
    cuts = np.searchsorted(running, np.linspace(0, int(running[-1]), n_chunks + 1)).astype(np.int64)
    cuts[0], cuts[-1] = 0, len(running) - 1
    return cuts


def split_rows(n_rows: int) -> Cuts:
    """Cut rows of equal work into chunks."""
    return np.linspace(0, n_rows, min(n_rows, _CHUNKS_PER_THREAD * _n_threads()) + 1).astype(np.int64)


def share_out(function: Callable[..., Any], cuts: Cuts, *arguments: Any, n_threads: int | None = None) -> None:
    """Call function(first, end, *arguments) for every chunk, on as many threads as torch uses or is held back from.

    Args:
        function: a compiled kernel that writes to its own rows only.
        cuts: where chunks begin, from `split_evenly` or `split_rows`.
        arguments: given to every call.
        n_threads: how many to use instead.
    """
    n_threads = n_threads or _n_threads()
    if n_threads == 1 or len(cuts) < 3:
        function(int(cuts[0]), int(cuts[-1]), *arguments)
        return
    ends = cuts.tolist()
    turns = iter(range(len(ends) - 1))  # one iterator for all: whoever is free takes the next chunk
    others = [
        _pool(os.getpid(), n_threads).submit(_work, function, turns, ends, arguments) for _ in range(n_threads - 1)
    ]
    _work(function, turns, ends, arguments)
    for other in others:
        other.result()


def work_in_blocks(work: Callable[[int, slice], None], n_rows: int, n_threads: int) -> None:
    """Do work on blocks of rows that do not depend on the number of threads and fit a core's cache.

    Args:
        work: called with the block's number and its rows; may use torch, which is held to one thread.
        n_rows: of all blocks.
        n_threads: how many to use.
    """

    def run(start: int, end: int) -> None:
        torch.set_num_threads(1)  # BLAS keeps the number for each thread
        for block in range(start, end):
            work(block, slice(block * _BLOCK, min((block + 1) * _BLOCK, n_rows)))

    with torch_on_one_thread():
        share_out(run, np.arange(n_blocks(n_rows) + 1), n_threads=n_threads)


def n_blocks(n_rows: int) -> int:
    """Return how many blocks `work_in_blocks` makes."""
    return -(-n_rows // _BLOCK)


@contextmanager
def torch_on_one_thread() -> Iterator[int]:
    """Hold torch and BLAS to the thread that calls them; give how many threads torch had.

    After each parallel operation of torch its threads wait busily for the next, on cores that kernels of ours need.
    """
    n_threads = torch.get_num_threads()
    token = _held_back.set(n_threads)
    torch.set_num_threads(1)
    try:
        yield n_threads
    finally:
        torch.set_num_threads(n_threads)
        _held_back.reset(token)


def _n_threads() -> int:
    return _held_back.get() or torch.get_num_threads()


def _work(function: Callable[..., Any], turns: Iterator[int], ends: list[int], arguments: tuple[Any, ...]) -> None:
    for turn in turns:
        function(ends[turn], ends[turn + 1], *arguments)


@cache
def _pool(process: int, n_threads: int) -> ThreadPoolExecutor:
    """Return the threads of a process: a forked child has none of its parent's."""
    return ThreadPoolExecutor(n_threads - 1, thread_name_prefix="kglift")

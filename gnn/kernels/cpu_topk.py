"""The k best columns of each row, kept while tiles of scores go by, on the CPU.

A tile is scanned 16 scores at a time for one that beats the worst that is kept; nearly all are passed over so. Tiles
come in the order of columns and only a better score enters, so that of equal scores the lower column stays.
"""

from typing import Any

import numba
import numpy as np
from torch import Tensor

from gnn.kernels.cpu_spmm import use_torch_threads
from gnn.kernels.vector import any_above
from gnn.sparse.pattern import Csr

_STEP = 16


def merge_tile(scores: Tensor, first_column: int, mask: Csr | None, values: Tensor, columns: Tensor) -> None:
    """Merge a tile of scores into the best of each row.

    Args:
        scores: (n, m) float32 or float64, contiguous; masked entries are OVERWRITTEN with -inf.
        first_column: column of the tile's first score.
        mask: (n, all columns) pattern of what may not be taken, sorted by column within a row; None for nothing.
        values: (n, k) best so far, falling; -inf where there is none. OVERWRITTEN.
        columns: (n, k) int64 their columns. OVERWRITTEN.
    """
    use_torch_threads()
    if mask is not None:
        _mask(mask.rowptr.numpy(), mask.col.numpy(), first_column, scores.numpy())
    _merge(scores.data_ptr(), scores.numpy(), first_column, values.numpy(), columns.numpy())


@numba.njit(parallel=True, cache=True, error_model="numpy")  # type: ignore[untyped-decorator]
def _mask(rowptr: Any, col: Any, first_column: int, scores: Any) -> None:
    for row in numba.prange(len(scores)):
        masked = col[rowptr[row] : rowptr[row + 1]]
        for entry in range(np.searchsorted(masked, first_column), len(masked)):
            if masked[entry] >= first_column + scores.shape[1]:
                break
            scores[row, masked[entry] - first_column] = -np.inf


@numba.njit(parallel=True, cache=True, error_model="numpy")  # type: ignore[untyped-decorator]
def _merge(address: int, scores: Any, first_column: int, values: Any, columns: Any) -> None:
    n_rows, n_columns = scores.shape
    whole = n_columns - n_columns % _STEP
    for row in numba.prange(n_rows):
        start = address + row * n_columns * scores.itemsize
        kept, places = values[row], columns[row]
        for first in range(0, whole, _STEP):
            if any_above(start + first * scores.itemsize, _STEP, kept[-1]):
                for column in range(first, first + _STEP):
                    _insert(scores[row, column], first_column + column, kept, places)
        for column in range(whole, n_columns):
            _insert(scores[row, column], first_column + column, kept, places)


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _insert(score: Any, column: int, kept: Any, places: Any) -> None:
    if score > kept[-1]:
        place = len(kept) - 1
        while place > 0 and kept[place - 1] < score:
            kept[place], places[place] = kept[place - 1], places[place - 1]
            place -= 1
        kept[place], places[place] = score, column

"""The k best columns of each row, kept while tiles of scores go by, on the CPU.

A tile is scanned 32 scores at a time for one that beats the worst that is kept; nearly all are passed over so. Tiles
come in the order of columns and only a better score enters, so that of equal scores the lower column stays.
"""

from typing import Any

import numpy as np
from torch import Tensor

from gnn.kernels.threads import kernel, share_out, split_rows
from gnn.kernels.vector import any_above
from gnn.sparse.pattern import Csr

_STEP = 32


def merge_tile(scores: Tensor, first_column: int, mask: Csr | None, values: Tensor, columns: Tensor) -> None:
    """Merge a tile of scores into the best of each row.

    Args:
        scores: (n, m) float32 or float64, contiguous; masked entries are OVERWRITTEN with -inf.
        first_column: column of the tile's first score.
        mask: (n, all columns) pattern of what may not be taken; None for nothing.
        values: (n, k) best so far, falling; -inf where there is none. OVERWRITTEN.
        columns: (n, k) int64 their columns. OVERWRITTEN.
    """
    cuts = split_rows(len(scores))
    if mask is not None:
        share_out(_mask, cuts, mask.rowptr.numpy(), mask.col.numpy(), first_column, scores.numpy())
    share_out(_merge, cuts, scores.data_ptr(), scores.numpy(), first_column, values.numpy(), columns.numpy())


@kernel
def _mask(start: int, end: int, rowptr: Any, col: Any, first_column: int, scores: Any) -> None:
    for row in range(start, end):
        for entry in range(rowptr[row], rowptr[row + 1]):
            column = col[entry] - first_column
            if 0 <= column < scores.shape[1]:
                scores[row, column] = -np.inf


@kernel
def _merge(start: int, end: int, address: int, scores: Any, first_column: int, values: Any, columns: Any) -> None:
    n_columns = scores.shape[1]
    whole = n_columns - n_columns % _STEP
    for row in range(start, end):
        place = address + row * n_columns * scores.itemsize
        kept, places = values[row], columns[row]
        worst = kept[-1]
        for first in range(0, whole, _STEP):
            if any_above(place + first * scores.itemsize, _STEP, worst):
                for column in range(first, first + _STEP):
                    _insert(scores[row, column], first_column + column, kept, places)
                worst = kept[-1]
        for column in range(whole, n_columns):
            _insert(scores[row, column], first_column + column, kept, places)


@kernel
def _insert(score: Any, column: int, kept: Any, places: Any) -> None:
    if score > kept[-1]:
        place = len(kept) - 1
        while place > 0 and kept[place - 1] < score:
            kept[place], places[place] = kept[place - 1], places[place - 1]
            place -= 1
        kept[place], places[place] = score, column

"""The k best columns of each row of a table, on the CPU.

A row is scanned 32 scores at a time for one that beats the worst that is kept; nearly all are passed over so. Only a
better score enters, so that of equal scores the lower column stays.
"""

from typing import Any

from torch import Tensor

from gnn.kernels.threads import kernel, share_out, split_rows
from gnn.kernels.vector import any_above

_STEP = 32


def topk(scores: Tensor, values: Tensor, columns: Tensor) -> None:
    """Merge each row of a table into what is kept for it.

    Args:
        scores: (n, m) float32 or float64, contiguous.
        values: (n, k) best so far, falling; -inf where there is none. OVERWRITTEN.
        columns: (n, k) int64 their columns. OVERWRITTEN.
    """
    arrays = (scores.data_ptr(), scores.numpy(), values.numpy(), columns.numpy())
    share_out(_topk, split_rows(len(scores)), *arrays)


@kernel
def _topk(start: int, end: int, address: int, scores: Any, values: Any, columns: Any) -> None:
    n_columns = scores.shape[1]
    whole = n_columns - n_columns % _STEP
    for row in range(start, end):
        place = address + row * n_columns * scores.itemsize
        kept, places = values[row], columns[row]
        worst = kept[-1]
        for first in range(0, whole, _STEP):
            if any_above(place + first * scores.itemsize, _STEP, worst):
                for column in range(first, first + _STEP):
                    insert(scores[row, column], column, kept, places)
                worst = kept[-1]
        for column in range(whole, n_columns):
            insert(scores[row, column], column, kept, places)


@kernel
def insert(score: Any, column: int, kept: Any, places: Any) -> None:
    """Let a score in among the k best of a row if it beats the worst of them."""
    if score > kept[-1]:
        place = len(kept) - 1
        while place > 0 and kept[place - 1] < score:
            kept[place], places[place] = kept[place - 1], places[place - 1]
            place -= 1
        kept[place], places[place] = score, column

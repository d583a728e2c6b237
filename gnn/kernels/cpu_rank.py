"""The k best items of each user by dot product, on the CPU; no table of scores is ever written.

Six users and a panel of items are multiplied in registers, and a score leaves them only if it beats the worst that its
user keeps; nearly all are passed over so. Panels come in the order of items and only a better score enters, so that of
equal scores the lower item stays. A product is summed in the order of its columns, wherever its user and item stand.
"""

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gnn.kernels.cpu_panel import N_ROWS, PANEL_BYTES, multiply_panel
from gnn.kernels.cpu_topk import insert
from gnn.kernels.threads import kernel, share_out, split_rows
from gnn.kernels.vector import load, store, which_above
from gnn.sparse.pattern import Csr

_TILE_BYTES = 1 << 18


def rank(users: Tensor, items: Tensor, mask: Csr, values: Tensor, columns: Tensor) -> None:
    """Merge all items into the best of each user.

    Args:
        users: (n, d) float32 or float64, contiguous.
        items: (m, d) of the same type, contiguous.
        mask: pattern (n, m) of what may not be taken.
        values: (n, k) best so far, falling; -inf where there is none. OVERWRITTEN.
        columns: (n, k) int64 their items. OVERWRITTEN.
    """
    n_items, d = items.shape
    like = np.float64(0) if users.dtype == torch.float64 else np.float32(0)
    width = PANEL_BYTES // users.element_size()
    panels = _panels(items, width)
    tile = max(1, _TILE_BYTES // (d * PANEL_BYTES))
    seen = (mask.row * n_items + mask.col).sort().values % n_items
    kept = (values.numpy(), columns.numpy(), n_items, mask.rowptr.numpy(), seen.numpy())
    share_out(_rank(width, like), split_rows(len(users)), users.numpy(), panels.data_ptr(), len(panels), tile, kept)


def _panels(items: Tensor, width: int) -> Tensor:
    """Lay `width` items beside each other, (n_panels, d, width); zeros fill the last panel."""
    n_items, d = items.shape
    n_panels = -(-n_items // width)
    padded = items.new_zeros(n_panels * width, d)
    padded[:n_items] = items
    return padded.view(n_panels, width, d).transpose(1, 2).contiguous()


@lru_cache(maxsize=None, typed=True)  # np.float32(0) == np.float64(0)
def _rank(width: int, like: Any) -> Any:
    panel_bytes = width * like.dtype.itemsize

    @kernel
    def best(start: int, end: int, users: Any, panels: int, n_panels: int, tile: int, kept: Any) -> None:
        scores = np.empty((N_ROWS, width), users.dtype)
        place = scores.ctypes.data
        values = kept[0]
        last = end - 1
        for first_panel in range(0, n_panels, tile):
            for r0 in range(start, end, N_ROWS):  # beyond the last user the last one stands in
                r1, r2, r3 = min(r0 + 1, last), min(r0 + 2, last), min(r0 + 3, last)
                r4, r5 = min(r0 + 4, last), min(r0 + 5, last)
                six = (r0, r1, r2, r3, r4, r5)
                for panel in range(first_panel, min(first_panel + tile, n_panels)):
                    at = panels + panel * users.shape[1] * panel_bytes
                    s0, s1, s2, s3, s4, s5 = multiply_panel(users, six, at, panel_bytes, width, like)
                    above = which_above(s0, values[r0, -1]) | which_above(s1, values[r1, -1])
                    above |= which_above(s2, values[r2, -1]) | which_above(s3, values[r3, -1])
                    above |= which_above(s4, values[r4, -1]) | which_above(s5, values[r5, -1])
                    if above:
                        for i, score in enumerate((s0, s1, s2, s3, s4, s5)):
                            store(place + i * panel_bytes, score)
                        for row in range(r0, min(r0 + N_ROWS, end)):
                            above = which_above(load(place + (row - r0) * panel_bytes, width, like), values[row, -1])
                            if above:
                                _take(above, scores[row - r0], panel * width, row, kept)

    return best


@kernel
def _take(above: int, scores: Any, first_item: int, row: int, kept: Any) -> None:
    """Insert the marked scores of a panel, but for items that were seen or only fill the panel."""
    values, columns, n_items, rowptr, seen = kept
    for place in range(len(scores)):
        item = first_item + place
        if above >> place & 1 and item < n_items and not _contains(seen, rowptr[row], rowptr[row + 1], item):
            insert(scores[place], item, values[row], columns[row])


@kernel
def _contains(numbers: Any, first: int, end: int, wanted: int) -> bool:
    """Search a stretch of rising numbers."""
    low, high = first, end
    while low < high:
        middle = (low + high) // 2
        if numbers[middle] < wanted:
            low = middle + 1
        else:
            high = middle
    return low < end and numbers[low] == wanted

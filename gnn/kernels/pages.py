"""Large pages of memory for tables that are read at random.

A product with a sparse matrix reads rows from all over a table. With pages of 4 KiB most of these reads first wait for
the translation of the address, on a virtual machine twice. NumPy asks Linux for pages of 2 MiB, PyTorch does not.
"""

import ctypes
import sys
from functools import cache
from typing import Any

from torch import Tensor

_SMALL_PAGE, _LARGE_PAGE = 4096, 1 << 21
_HUGEPAGE, _COLLAPSE = 14, 25  # of Linux's <sys/mman.h>; the second since 6.1


def on_large_pages(*tables: Tensor) -> None:
    """Ask that tables be held on large pages, what is in them included; where that cannot be, nothing happens.

    Memory that was written to is copied once, memory that was not is taken on large pages when it is.
    """
    for table in tables:
        start, size = table.data_ptr(), table.numel() * table.element_size()
        if table.device.type == "cpu" and size >= 2 * _LARGE_PAGE:
            first = -(-start // _SMALL_PAGE) * _SMALL_PAGE
            for advice in (_HUGEPAGE, _COLLAPSE):
                _madvise()(first, start + size - first, advice)


@cache
def _madvise() -> Any:
    if sys.platform != "linux":
        return lambda *_: 0
    function = ctypes.CDLL(None).madvise
    function.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    return function

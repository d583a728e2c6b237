"""What every Triton kernel on rows shares: how long rows are cut into parts, how wide tiles are, where they may run.

A program works on a row. A row of more than `SPLIT` entries is cut into parts, each worked on by a program of its own;
the parts of a row are put together in their order by a second launch. No float is ever added atomically, so the same
call gives the same bits.
"""

from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
import triton
import triton.language as tl
from torch import Tensor

from gnn.errors import InputError
from gnn.sparse.pattern import Csr

SPLIT = 256
_TILE = 1024
_MOST_ENTRIES = 32
_MOST_WARPS = 8
_plans: "WeakKeyDictionary[Csr, Parts]" = WeakKeyDictionary()


@dataclass(frozen=True, eq=False)
class Parts:
    """The parts of the long rows of a pattern.

    Attributes:
        row: (n_parts,) int32 row of each part, in order.
        start: (n_parts,) int32 its first entry.
        end: (n_parts,) int32 the entry after its last.
        first: (n_rows,) int32 first part of each row; of use for long rows only.
    """

    row: Tensor
    start: Tensor
    end: Tensor
    first: Tensor

    def __len__(self) -> int:
        """Return the number of parts."""
        return len(self.row)


def parts_of(csr: Csr) -> Parts:
    """Cut the rows of a pattern that have more than `SPLIT` entries; done once for a pattern.

    Args:
        csr: the pattern.
    """
    if csr not in _plans:
        rowptr = csr.rowptr.long()
        degree = rowptr[1:] - rowptr[:-1]
        count = torch.where(degree > SPLIT, (degree + SPLIT - 1) // SPLIT, 0)
        row = torch.repeat_interleave(torch.arange(csr.n_rows, device=count.device), count)
        first = count.cumsum(0) - count
        start = rowptr[row] + (torch.arange(len(row), device=row.device) - first[row]) * SPLIT
        end = torch.minimum(start + SPLIT, rowptr[row + 1])
        _plans[csr] = Parts(*(index.to(torch.int32) for index in (row, start, end, first)))
    return _plans[csr]


def tile(dim: int, x: Tensor) -> dict[str, Any]:
    """Return the launch options of a kernel that fetches rows.

    A tile of 1,024 numbers gives a thread of one warp eight loads of 128 bits in flight.

    Args:
        dim: width of a row.
        x: what is fetched; sums are kept in float64 for float64, else in float32.
    """
    block_d = triton.next_power_of_2(dim)
    block_e = min(max(_TILE // block_d, 1), _MOST_ENTRIES)
    accumulator = tl.float64 if x.dtype == torch.float64 else tl.float32
    warps = min(max(block_e * block_d // _TILE, 1), _MOST_WARPS)
    sizes = {"DIM": dim, "BLOCK_D": block_d, "BLOCK_E": block_e, "SPLIT": SPLIT}
    return {**sizes, "ACC": accumulator, "num_warps": warps, "enable_fp_fusion": True}


def accumulator_type(x: Tensor) -> torch.dtype:
    """Return the type in which sums of `x` are kept between two launches."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def check_device(kernel: Any, tensor: Tensor) -> None:
    """Refuse a tensor that the kernel cannot reach.

    Args:
        kernel: what `triton.jit` made.
        tensor: an operand.

    Raises:
        InputError: for a tensor on the CPU, unless Triton interprets its kernels, or on another GPU than the current.
    """
    if tensor.is_cuda:
        current = torch.cuda.current_device()
        if tensor.device.index != current:
            msg = (
                f"route `cuda` got a tensor on `{tensor.device}`, and the current device is `cuda:{current}`; call "
                f"torch.cuda.set_device({tensor.device.index}), or set CUDA_VISIBLE_DEVICES={tensor.device.index}"
            )
            raise InputError(msg)
    elif isinstance(kernel, triton.JITFunction):
        msg = (
            f"route `cuda` got a tensor on `{tensor.device}`; expected one on a CUDA device. Move it there, use route "
            f"`torch`, or set TRITON_INTERPRET=1 before Python starts to run the kernels slowly without a GPU"
        )
        raise InputError(msg)

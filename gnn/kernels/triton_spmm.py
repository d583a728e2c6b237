# mypy: disallow-untyped-defs=false, disallow-incomplete-defs=false
# mypy: disallow-untyped-calls=false, disallow-untyped-decorators=false
"""Products of a CSR pattern with a dense table by Triton, and what is done to a row before it is written.

One kernel has every form: y_i = c_i (b_i + s_i * sum over entries (i, j) of w_ij s_j x_j). Operands that are None and
forms that are off cost nothing: each combination is compiled for itself.
"""

from dataclasses import dataclass
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from gnn.kernels.triton_plan import Parts, accumulator_type, check_device, parts_of, tile
from gnn.sparse.pattern import Csr


@dataclass(frozen=True, eq=False)
class Product:
    """The operands of y_i = c_i (b_i + s_i * sum over entries (i, j) of w_ij s_j x_j).

    Attributes:
        csr: the pattern.
        x: rows to fetch, (n_cols, d), or (n_slots, d) where `sparse_x`.
        weight: (nnz,) w; None for ones.
        scale: (n,) s; None for ones.
        base: rows b, (n_rows, d), or (n_slots, d) where `sparse_base`; None for zeros.
        slot: (n,) int32 place of a node among the slots, -1 for a node that has none.
        scale_columns: whether s_j is there.
        scale_result: c_i = s_i instead of `factor`.
        factor: c_i.
        sparse_x: x has rows for slots only; the others count as 0.
        sparse_base: b has rows for slots only.
        sparse_out: y has rows for slots only; the other rows are not computed.
    """

    csr: Csr
    x: Tensor
    weight: Tensor | None = None
    scale: Tensor | None = None
    base: Tensor | None = None
    slot: Tensor | None = None
    scale_columns: bool = False
    scale_result: bool = False
    factor: float = 1.0
    sparse_x: bool = False
    sparse_base: bool = False
    sparse_out: bool = False


def product(operands: Product, out: Tensor) -> Tensor:
    """Compute a product.

    Args:
        operands: what to multiply.
        out: where to, (n_rows, d), or (n_slots, d) where `sparse_out`.

    Returns:
        `out`.
    """
    sums, options = _begin(operands)
    combine_rows[(operands.csr.n_rows,)](
        out,
        operands.base,
        *sums,
        FACTOR=operands.factor,
        SPARSE_BASE=operands.sparse_base,
        SCALE_ROW=operands.scale is not None,
        SCALE_RESULT=operands.scale_result,
        **options,
    )
    return out


def product_and_adam(operands: Product, count: Tensor, l2: float, state: tuple[Tensor, ...]) -> None:
    """Compute a product that is a gradient, and take Adam's step with it, row by row; the gradient is not written.

    Args:
        operands: the product.
        count: (n_slots,) float32; count * `l2` * parameter is added to the gradient of a row that has a slot.
        l2: weight of that.
        state: parameter, first and second moment, each (n_rows, d), and the rates of `adam_rates`, (7,).
    """
    sums, options = _begin(operands)
    step_rows[(operands.csr.n_rows,)](*state, operands.base, count, l2, *sums, **options)


def adam_rates(constants: Tensor, step: Tensor) -> Tensor:
    """Return what Adam multiplies with: lr / (1 - b1^t), 1 / sqrt(1 - b2^t), b1, b2, 1 - b1, 1 - b2, eps; (7,) float32.

    Computed on the device, in float64: 1 - b2 has few digits left in float32.

    Args:
        constants: (4,) float64 of lr, b1, b2, eps.
        step: () t, counted from 1.
    """
    lr, decay, eps = constants[:1], constants[1:3], constants[3:]
    left = 1 - decay ** step.double()
    return torch.cat([lr / left[:1], left[1:].rsqrt(), decay, 1 - decay, eps]).float()


def _begin(operands: Product) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Sum the parts of long rows; return the operands that all kernels share, and the options."""
    csr, x = operands.csr, operands.x
    check_device(combine_rows, x)
    parts = parts_of(csr)
    options = {
        **tile(x.shape[1], x),
        "SCALE_COLUMNS": operands.scale_columns,
        "SPARSE_X": operands.sparse_x,
        "SPARSE_OUT": operands.sparse_out,
    }
    entries = (csr.col, operands.weight, operands.scale, operands.slot, x)
    partial = _sum_parts(parts, entries, options)
    return (csr.rowptr, *entries, partial, parts.first), options


def _sum_parts(parts: Parts, entries: tuple[Any, ...], options: dict[str, Any]) -> Tensor | None:
    if not len(parts):
        return None
    x = entries[-1]
    partial = torch.empty(len(parts), x.shape[1], dtype=accumulator_type(x), device=x.device)
    sum_parts[(len(parts),)](partial, parts.row, parts.start, parts.end, *entries, **options)
    return partial


@triton.jit
def _sum_entries(
    start, end, col, weight, scale, slot, x,
    DIM: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_E: tl.constexpr, ACC: tl.constexpr,
    SCALE_COLUMNS: tl.constexpr, SPARSE_X: tl.constexpr,
):  # fmt: skip
    d = tl.arange(0, BLOCK_D)
    total = tl.zeros((BLOCK_E, BLOCK_D), dtype=ACC)
    for first in range(start, end, BLOCK_E):
        entry = first + tl.arange(0, BLOCK_E)
        is_there = entry < end
        column = tl.load(col + entry, mask=is_there, other=0)
        place = column
        if SPARSE_X:
            place = tl.load(slot + column, mask=is_there, other=-1)
            is_there = place >= 0
        at = x + place.to(tl.int64)[:, None] * DIM + d[None, :]
        row = tl.load(at, mask=is_there[:, None] & (d < DIM)[None, :], other=0).to(ACC)
        if weight is not None:
            row *= tl.load(weight + entry, mask=is_there, other=0).to(ACC)[:, None]
        if SCALE_COLUMNS:
            row *= tl.load(scale + column, mask=is_there, other=0).to(ACC)[:, None]
        total += row
    return tl.sum(total, axis=0)


@triton.jit
def _sum_partial(
    first, count, partial,
    DIM: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_E: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    d = tl.arange(0, BLOCK_D)
    total = tl.zeros((BLOCK_E, BLOCK_D), dtype=ACC)
    for start in range(0, count, BLOCK_E):
        part = start + tl.arange(0, BLOCK_E)
        at = partial + (first + part).to(tl.int64)[:, None] * DIM + d[None, :]
        total += tl.load(at, mask=(part < count)[:, None] & (d < DIM)[None, :], other=0)
    return tl.sum(total, axis=0)


@triton.jit
def sum_parts(
    partial, part_row, part_start, part_end, col, weight, scale, slot, x,
    DIM: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_E: tl.constexpr, SPLIT: tl.constexpr, ACC: tl.constexpr,
    SCALE_COLUMNS: tl.constexpr, SPARSE_X: tl.constexpr, SPARSE_OUT: tl.constexpr,
):  # fmt: skip
    """Sum the entries of a part of a long row, without anything that is done once a row."""
    part = tl.program_id(0)
    start, end = tl.load(part_start + part), tl.load(part_end + part)
    if SPARSE_OUT:
        end = tl.where(tl.load(slot + tl.load(part_row + part)) >= 0, end, start)
    total = _sum_entries(
        start, end, col, weight, scale, slot, x, DIM, BLOCK_D, BLOCK_E, ACC, SCALE_COLUMNS, SPARSE_X
    )  # fmt: skip
    d = tl.arange(0, BLOCK_D)
    tl.store(partial + part.to(tl.int64) * DIM + d, total, mask=d < DIM)


@triton.jit
def _sum_row(
    row, rowptr, col, weight, scale, slot, x, partial, first_part,
    DIM: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_E: tl.constexpr, SPLIT: tl.constexpr, ACC: tl.constexpr,
    SCALE_COLUMNS: tl.constexpr, SPARSE_X: tl.constexpr,
):  # fmt: skip
    start, end = tl.load(rowptr + row), tl.load(rowptr + row + 1)
    n_entries = end - start
    if partial is not None:
        # a long row has no entry left for this loop, a short one no part for the other
        end = tl.where(n_entries > SPLIT, start, end)
    total = _sum_entries(
        start, end, col, weight, scale, slot, x, DIM, BLOCK_D, BLOCK_E, ACC, SCALE_COLUMNS, SPARSE_X
    )  # fmt: skip
    if partial is not None:  # noqa: SIM102  decided when the kernel is compiled
        if n_entries > SPLIT:
            total = _sum_partial(
                tl.load(first_part + row), tl.cdiv(n_entries, SPLIT), partial, DIM, BLOCK_D, BLOCK_E, ACC
            )  # fmt: skip
    return total


@triton.jit
def combine_rows(
    out, base, rowptr, col, weight, scale, slot, x, partial, first_part,
    DIM: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_E: tl.constexpr, SPLIT: tl.constexpr, ACC: tl.constexpr,
    SCALE_COLUMNS: tl.constexpr, SPARSE_X: tl.constexpr, SPARSE_OUT: tl.constexpr,
    FACTOR: tl.constexpr, SPARSE_BASE: tl.constexpr, SCALE_ROW: tl.constexpr, SCALE_RESULT: tl.constexpr,
):  # fmt: skip
    """Write c_i (b_i + s_i * sum of the row)."""
    row = tl.program_id(0)
    place = row
    if SPARSE_OUT:
        place = tl.load(slot + row)
        if place < 0:
            return
    total = _sum_row(
        row, rowptr, col, weight, scale, slot, x, partial, first_part,
        DIM, BLOCK_D, BLOCK_E, SPLIT, ACC, SCALE_COLUMNS, SPARSE_X,
    )  # fmt: skip
    d = tl.arange(0, BLOCK_D)
    if SCALE_ROW:
        own = tl.load(scale + row).to(ACC)
        total *= own
    if base is not None:
        at, width = row, DIM
        if SPARSE_BASE:
            at = tl.load(slot + row)
            width = tl.where(at >= 0, DIM, 0)
        total += tl.load(base + at.to(tl.int64) * DIM + d, mask=d < width, other=0).to(ACC)
    total *= own if SCALE_RESULT else FACTOR
    tl.store(out + place.to(tl.int64) * DIM + d, total, mask=d < DIM)


@triton.jit
def step_rows(
    parameter, first_moment, second_moment, rates, base, count, l2,
    rowptr, col, weight, scale, slot, x, partial, first_part,
    DIM: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_E: tl.constexpr, SPLIT: tl.constexpr, ACC: tl.constexpr,
    SCALE_COLUMNS: tl.constexpr, SPARSE_X: tl.constexpr, SPARSE_OUT: tl.constexpr,
):  # fmt: skip
    """Take Adam's step with the gradient b_i + s_i * sum of the row + l2 count_i p_i."""
    row = tl.program_id(0)
    total = _sum_row(
        row, rowptr, col, weight, scale, slot, x, partial, first_part,
        DIM, BLOCK_D, BLOCK_E, SPLIT, ACC, SCALE_COLUMNS, SPARSE_X,
    )  # fmt: skip
    d = tl.arange(0, BLOCK_D)
    at, inside = row.to(tl.int64) * DIM + d, d < DIM
    p = tl.load(parameter + at, mask=inside, other=0)
    m = tl.load(first_moment + at, mask=inside, other=0)
    v = tl.load(second_moment + at, mask=inside, other=0)
    place = tl.load(slot + row)
    grad = total * tl.load(scale + row)
    grad += tl.load(base + place.to(tl.int64) * DIM + d, mask=d < tl.where(place >= 0, DIM, 0), other=0)
    grad += l2 * tl.load(count + place, mask=place >= 0, other=0) * p
    m = tl.load(rates + 2) * m + tl.load(rates + 4) * grad
    v = tl.load(rates + 3) * v + tl.load(rates + 5) * grad * grad
    p -= tl.load(rates) * m / (tl.sqrt(v) * tl.load(rates + 1) + tl.load(rates + 6))
    tl.store(parameter + at, p, mask=inside)
    tl.store(first_moment + at, m, mask=inside)
    tl.store(second_moment + at, v, mask=inside)

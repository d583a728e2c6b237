# mypy: disallow-untyped-defs=false, disallow-incomplete-defs=false
# mypy: disallow-untyped-calls=false, disallow-untyped-decorators=false
"""One number for each entry of a CSR pattern by Triton: dot products, softmax over a row, attention in one pass.

A row of at most `SPLIT` entries is held whole by one program. Of a longer one each part first leaves its highest logit
and its sum; whoever needs those of the row merges them in the order of the parts.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from gnn.kernels.triton_plan import Parts, accumulator_type, check_device, parts_of, tile
from gnn.sparse.pattern import Csr


def edge_dot(csr: Csr, left: Tensor, right: Tensor) -> Tensor:
    """left_i . right_j for each entry (i, j), (nnz,)."""
    check_device(dot_entries, left)
    out = left.new_empty(len(csr.col))
    options = tile(left.shape[1], left)
    for grid, which in _grids(csr):
        dot_entries[grid](out, *which, csr.col, left, right, **options)
    return out


def softmax(csr: Csr, logits: Tensor) -> Tensor:
    """Normalise each row, (nnz,)."""
    check_device(normalise_rows, logits)
    out, options, parts = torch.empty_like(logits), _options(logits), parts_of(csr)
    statistics = _statistics(parts, logits)
    if len(parts):
        part_statistics[(len(parts),)](*statistics, parts.start, parts.end, logits, **options)
    for grid, which in _grids(csr):
        normalise_rows[grid](out, *which, parts.first, *statistics, logits, **options)
    return out


def softmax_backward(csr: Csr, weights: Tensor, grad: Tensor) -> Tensor:
    """Gradient of the logits, w (g - sum over the row of w g), (nnz,)."""
    check_device(softmax_gradient, grad)
    out, options, parts = torch.empty_like(grad), _options(grad), parts_of(csr)
    flow = grad.new_empty(len(parts), dtype=accumulator_type(grad))
    if len(parts):
        part_flow[(len(parts),)](flow, parts.start, parts.end, weights, grad, **options)
    for grid, which in _grids(csr):
        softmax_gradient[grid](out, *which, parts.first, flow, weights, grad, **options)
    return out


def attend(csr: Csr, logits: Tensor, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Rows of softmax(logits) x, highest logits and sums, (n_rows, d), (n_rows,), (n_rows,)."""
    check_device(attend_rows, x)
    parts, dim = parts_of(csr), x.shape[1]
    out, (high, low) = x.new_empty(csr.n_rows, dim), (logits.new_empty(csr.n_rows) for _ in range(2))
    statistics, options = _statistics(parts, logits), tile(dim, x)
    partial = x.new_empty(len(parts), dim, dtype=accumulator_type(x))
    if len(parts):
        attend_parts[(len(parts),)](partial, *statistics, parts.start, parts.end, csr.col, logits, x, **options)
    attend_rows[(csr.n_rows,)](
        out, high, low, csr.rowptr, csr.col, logits, x, parts.first, partial, *statistics, **options
    )
    return out, high, low


def attend_backward(
    csr: Csr, logits: Tensor, row_max: Tensor, row_sum: Tensor, x: Tensor, y: Tensor, grad: Tensor
) -> tuple[Tensor, Tensor]:
    """Gradient of the logits, w (g_i . x_j - g_i . y_i), and the weights w, both (nnz,)."""
    check_device(attend_gradient, x)
    out, weights, options = torch.empty_like(logits), torch.empty_like(logits), tile(x.shape[1], x)
    for grid, which in _grids(csr):
        attend_gradient[grid](out, weights, *which, csr.col, logits, row_max, row_sum, x, y, grad, **options)
    return out, weights


def _grids(csr: Csr) -> list[tuple[tuple[int], tuple[Tensor | None, ...]]]:
    """Return grid, offsets, row, start and end of the launch on rows, and of the one on the parts of long rows."""
    parts = parts_of(csr)
    whole = ((csr.n_rows,), (csr.rowptr, None, None, None))
    return [whole, ((len(parts),), (csr.rowptr, parts.row, parts.start, parts.end))] if len(parts) else [whole]


def _statistics(parts: Parts, logits: Tensor) -> tuple[Tensor, Tensor]:
    kind = accumulator_type(logits)
    return logits.new_empty(len(parts), dtype=kind), logits.new_empty(len(parts), dtype=kind)


def _options(values: Tensor) -> dict[str, Any]:
    return {key: value for key, value in tile(1, values).items() if key not in ("DIM", "BLOCK_D", "BLOCK_E")}


@triton.jit
def _range_of(rowptr, part_row, part_start, part_end, SPLIT: tl.constexpr):
    """Return row, first entry and the entry after the last of this program; a long row is left to its parts."""
    here = tl.program_id(0)
    if part_row is not None:
        return tl.load(part_row + here), tl.load(part_start + here), tl.load(part_end + here)
    else:  # decided when the kernel is compiled
        start, end = tl.load(rowptr + here), tl.load(rowptr + here + 1)
        return here, start, tl.where(end - start > SPLIT, start, end)


@triton.jit
def _finite(high):
    """Return what to subtract before exp: 0 while nothing but -inf was seen."""
    return tl.where(high == float("-inf"), 0.0, high)


@triton.jit
def _merge(first, count, part_max, part_sum, SPLIT: tl.constexpr, ACC: tl.constexpr):
    """Return the highest logit and the sum of a long row from those of its parts."""
    highest = tl.full((), float("-inf"), ACC)
    total = tl.full((), 0.0, ACC)
    for start in range(0, count, SPLIT):
        part = start + tl.arange(0, SPLIT)
        high = tl.load(part_max + first + part, mask=part < count, other=float("-inf"))
        now = tl.maximum(highest, tl.max(high, axis=0))
        mass = tl.load(part_sum + first + part, mask=part < count, other=0) * tl.exp(high - _finite(now))
        total = total * tl.exp(highest - _finite(now)) + tl.sum(mass, axis=0)
        highest = now
    return highest, total


@triton.jit
def dot_entries(
    out, rowptr, part_row, part_start, part_end, col, left, right,
    DIM: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_E: tl.constexpr, SPLIT: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Dot a row of `left` with a row of `right` for each entry."""
    row, begin, end = _range_of(rowptr, part_row, part_start, part_end, SPLIT)
    d = tl.arange(0, BLOCK_D)
    own = tl.load(left + row.to(tl.int64) * DIM + d, mask=d < DIM, other=0).to(ACC)
    for first in range(begin, end, BLOCK_E):
        entry = first + tl.arange(0, BLOCK_E)
        column = tl.load(col + entry, mask=entry < end, other=0).to(tl.int64)
        at = right + column[:, None] * DIM + d[None, :]
        other = tl.load(at, mask=(entry < end)[:, None] & (d < DIM)[None, :], other=0).to(ACC)
        tl.store(out + entry, tl.sum(other * own[None, :], axis=1), mask=entry < end)


@triton.jit
def part_statistics(
    part_max, part_sum, part_start, part_end, logits, SPLIT: tl.constexpr, ACC: tl.constexpr
):  # fmt: skip
    """Leave the highest logit of a part, and the sum of exp(logit - highest)."""
    part = tl.program_id(0)
    entry = tl.load(part_start + part) + tl.arange(0, SPLIT)
    logit = tl.load(logits + entry, mask=entry < tl.load(part_end + part), other=float("-inf")).to(ACC)
    high = tl.max(logit, axis=0)
    tl.store(part_max + part, high)
    tl.store(part_sum + part, tl.sum(tl.exp(logit - _finite(high)), axis=0))


@triton.jit
def normalise_rows(
    out, rowptr, part_row, part_start, part_end, first_part, part_max, part_sum, logits,
    SPLIT: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Write exp(logit) over the row's sum of it."""
    row, start, end = _range_of(rowptr, part_row, part_start, part_end, SPLIT)
    entry = start + tl.arange(0, SPLIT)
    logit = tl.load(logits + entry, mask=entry < end, other=float("-inf")).to(ACC)
    if part_row is not None:
        count = tl.cdiv(tl.load(rowptr + row + 1) - tl.load(rowptr + row), SPLIT)
        high, total = _merge(tl.load(first_part + row), count, part_max, part_sum, SPLIT, ACC)
        lifted = tl.exp(logit - _finite(high))
    else:
        lifted = tl.exp(logit - _finite(tl.max(logit, axis=0)))
        total = tl.sum(lifted, axis=0)
    tl.store(out + entry, lifted / total, mask=entry < end)


@triton.jit
def part_flow(flow, part_start, part_end, weights, grad, SPLIT: tl.constexpr, ACC: tl.constexpr):
    """Leave the sum of w g over a part."""
    part = tl.program_id(0)
    entry = tl.load(part_start + part) + tl.arange(0, SPLIT)
    inside = entry < tl.load(part_end + part)
    weight = tl.load(weights + entry, mask=inside, other=0).to(ACC)
    tl.store(flow + part, tl.sum(weight * tl.load(grad + entry, mask=inside, other=0).to(ACC), axis=0))


@triton.jit
def softmax_gradient(
    out, rowptr, part_row, part_start, part_end, first_part, flow, weights, grad,
    SPLIT: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Write w (g - sum over the row of w g)."""
    row, start, end = _range_of(rowptr, part_row, part_start, part_end, SPLIT)
    entry = start + tl.arange(0, SPLIT)
    weight = tl.load(weights + entry, mask=entry < end, other=0).to(ACC)
    slope = tl.load(grad + entry, mask=entry < end, other=0).to(ACC)
    if part_row is not None:
        first = tl.load(first_part + row)
        count = tl.cdiv(tl.load(rowptr + row + 1) - tl.load(rowptr + row), SPLIT)
        total = tl.full((), 0.0, ACC)
        for begin in range(0, count, SPLIT):
            part = begin + tl.arange(0, SPLIT)
            total += tl.sum(tl.load(flow + first + part, mask=part < count, other=0), axis=0)
    else:
        total = tl.sum(weight * slope, axis=0)
    tl.store(out + entry, weight * (slope - total), mask=entry < end)


@triton.jit
def _attend_tile(logit, mass, rows, highest, total, mean):
    """Take a tile of entries into the running highest logit, sum and weighted sum of rows."""
    now = tl.maximum(highest, tl.max(logit, axis=0))
    before, lifted = tl.exp(highest - _finite(now)), tl.exp(logit - _finite(now))
    return now, total * before + tl.sum(lifted * mass, axis=0), mean * before + lifted[:, None] * rows


@triton.jit
def _attend_entries(
    start, end, col, logits, x,
    DIM: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_E: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    d = tl.arange(0, BLOCK_D)
    highest, total = tl.full((), float("-inf"), ACC), tl.full((), 0.0, ACC)
    mean = tl.zeros((BLOCK_E, BLOCK_D), dtype=ACC)
    for first in range(start, end, BLOCK_E):
        entry = first + tl.arange(0, BLOCK_E)
        logit = tl.load(logits + entry, mask=entry < end, other=float("-inf")).to(ACC)
        column = tl.load(col + entry, mask=entry < end, other=0).to(tl.int64)
        at = x + column[:, None] * DIM + d[None, :]
        rows = tl.load(at, mask=(entry < end)[:, None] & (d < DIM)[None, :], other=0).to(ACC)
        highest, total, mean = _attend_tile(logit, tl.full((BLOCK_E,), 1.0, ACC), rows, highest, total, mean)
    return highest, total, mean


@triton.jit
def _attend_partial(
    first, count, partial, part_max, part_sum,
    DIM: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_E: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    d = tl.arange(0, BLOCK_D)
    highest, total = tl.full((), float("-inf"), ACC), tl.full((), 0.0, ACC)
    mean = tl.zeros((BLOCK_E, BLOCK_D), dtype=ACC)
    for start in range(0, count, BLOCK_E):
        part = start + tl.arange(0, BLOCK_E)
        high = tl.load(part_max + first + part, mask=part < count, other=float("-inf"))
        mass = tl.load(part_sum + first + part, mask=part < count, other=0)
        at = partial + (first + part).to(tl.int64)[:, None] * DIM + d[None, :]
        rows = tl.load(at, mask=(part < count)[:, None] & (d < DIM)[None, :], other=0)
        highest, total, mean = _attend_tile(high, mass, rows, highest, total, mean)
    return highest, total, mean


@triton.jit
def attend_parts(
    partial, part_max, part_sum, part_start, part_end, col, logits, x,
    DIM: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_E: tl.constexpr, SPLIT: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Leave the highest logit of a part, its sum, and its sum of rows before the division."""
    part = tl.program_id(0)
    start, end = tl.load(part_start + part), tl.load(part_end + part)
    highest, total, mean = _attend_entries(start, end, col, logits, x, DIM, BLOCK_D, BLOCK_E, ACC)
    d = tl.arange(0, BLOCK_D)
    tl.store(partial + part.to(tl.int64) * DIM + d, tl.sum(mean, axis=0), mask=d < DIM)
    tl.store(part_max + part, highest)
    tl.store(part_sum + part, total)


@triton.jit
def attend_rows(
    out, row_max, row_sum, rowptr, col, logits, x, first_part, partial, part_max, part_sum,
    DIM: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_E: tl.constexpr, SPLIT: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Write a row's sum of rows by softmax weights, its highest logit and its sum; 0, -inf, 0 where it is empty."""
    row = tl.program_id(0)
    start, end = tl.load(rowptr + row), tl.load(rowptr + row + 1)
    if end - start > SPLIT:
        highest, total, mean = _attend_partial(
            tl.load(first_part + row), tl.cdiv(end - start, SPLIT), partial, part_max, part_sum,
            DIM, BLOCK_D, BLOCK_E, ACC,
        )  # fmt: skip
    else:
        highest, total, mean = _attend_entries(start, end, col, logits, x, DIM, BLOCK_D, BLOCK_E, ACC)
    d = tl.arange(0, BLOCK_D)
    divided = tl.sum(mean, axis=0) / tl.where(end > start, total, 1.0)
    tl.store(out + row.to(tl.int64) * DIM + d, divided, mask=d < DIM)
    tl.store(row_max + row, highest)
    tl.store(row_sum + row, total)


@triton.jit
def attend_gradient(
    out, weights, rowptr, part_row, part_start, part_end, col, logits, row_max, row_sum, x, y, grad,
    DIM: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_E: tl.constexpr, SPLIT: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Write w (g_i . x_j - g_i . y_i) and w for each entry."""
    row, begin, end = _range_of(rowptr, part_row, part_start, part_end, SPLIT)
    d = tl.arange(0, BLOCK_D)
    at = row.to(tl.int64) * DIM + d
    slope = tl.load(grad + at, mask=d < DIM, other=0).to(ACC)
    through_row = tl.sum(slope * tl.load(y + at, mask=d < DIM, other=0).to(ACC), axis=0)
    highest, total = _finite(tl.load(row_max + row).to(ACC)), tl.load(row_sum + row).to(ACC)
    for first in range(begin, end, BLOCK_E):
        entry = first + tl.arange(0, BLOCK_E)
        inside = entry < end
        weight = tl.exp(tl.load(logits + entry, mask=inside, other=0).to(ACC) - highest) / total
        column = tl.load(col + entry, mask=inside, other=0).to(tl.int64)
        where = x + column[:, None] * DIM + d[None, :]
        rows = tl.load(where, mask=inside[:, None] & (d < DIM)[None, :], other=0).to(ACC)
        through_entry = tl.sum(rows * slope[None, :], axis=1)
        tl.store(out + entry, weight * (through_entry - through_row), mask=inside)
        tl.store(weights + entry, weight, mask=inside)

# mypy: disallow-untyped-defs=false, disallow-incomplete-defs=false
# mypy: disallow-untyped-calls=false, disallow-untyped-decorators=false
"""What a training step does with the nodes of its batch alone, by Triton: loss, and the gradient of their vectors.

A batch names 3n nodes: n users, n positive items, n negative items. Sorted, equal nodes stand together; the place of a
node's first mention is its slot, and the one program of that place adds up all its mentions, in order.
"""

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from gnn.kernels.triton_plan import check_device, tile

_BLOCK = 256


@dataclass(frozen=True, eq=False)
class Mentions:
    """The nodes of a batch.

    Attributes:
        nodes: (3n,) int64: users, positive items, negative items.
        ordered: the same, sorted.
        order: (3n,) int64 place in `nodes` of each of `ordered`; equal nodes keep their order.
    """

    nodes: Tensor
    ordered: Tensor
    order: Tensor


def mark(nodes: Tensor, slot: Tensor) -> Mentions:
    """Sort the nodes of a batch and give each its slot.

    Args:
        nodes: (3n,) int64.
        slot: (n_nodes,) int32, all -1; written for the nodes of the batch.
    """
    check_device(mark_slots, slot)
    ordered, order = torch.sort(nodes, stable=True)
    mark_slots[(triton.cdiv(len(nodes), _BLOCK),)](slot, ordered, len(nodes), BLOCK=_BLOCK, enable_fp_fusion=True)
    return Mentions(nodes, ordered, order)


def loss_and_gradient(
    mentions: Mentions, slot: Tensor, vectors: Tensor, embedding: Tensor, l2: float, factor: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the loss, mean of softplus(u . n - u . p) + l2 / 2 (|u|^2 + |p|^2 + |n|^2), and its gradient.

    u, p, n are final vectors in the first term and layer-0 embeddings in the second, whose gradient is l2 / n times the
    embedding for each mention of a node; it is left to whoever has the embedding at hand.

    Args:
        mentions: the batch.
        slot: (n_nodes,) int32.
        vectors: (n_slots, d) final vectors of the batch's nodes.
        embedding: (n_nodes, d).
        l2: weight of the regulariser.
        factor: on the gradient.

    Returns:
        Loss (), gradient (n_slots, d) and number of mentions (n_slots,), the last two for first mentions only.
    """
    nodes = mentions.nodes
    n, dim = len(nodes) // 3, embedding.shape[1]
    sizes = tile(dim, embedding)
    block_b, shared = min(sizes["BLOCK_E"], 8), {k: v for k, v in sizes.items() if k not in ("BLOCK_E", "SPLIT", "ACC")}
    losses, slopes = embedding.new_empty(n), embedding.new_empty(n)
    pair_loss[(triton.cdiv(n, block_b),)](
        losses, slopes, nodes, slot, vectors, embedding, l2, n, BLOCK_B=block_b, **shared
    )
    gradient, count = torch.empty_like(vectors), embedding.new_empty(len(nodes))
    row_gradient[(len(nodes),)](
        gradient, count, mentions.ordered, mentions.order, nodes, slot, vectors, slopes, factor, n, **shared
    )
    return losses.mean(), gradient, count


@triton.jit
def mark_slots(slot, ordered, n_mentions, BLOCK: tl.constexpr):
    """Write the place of its first mention for each node."""
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    node = tl.load(ordered + place, mask=place < n_mentions, other=-1)
    before = tl.load(ordered + place - 1, mask=(place > 0) & (place < n_mentions), other=-1)
    tl.store(slot + node, place, mask=(place < n_mentions) & (node != before))


@triton.jit
def _rows(table, at, inside, DIM: tl.constexpr, BLOCK_D: tl.constexpr):
    d = tl.arange(0, BLOCK_D)
    return tl.load(
        table + at.to(tl.int64)[:, None] * DIM + d[None, :], mask=inside[:, None] & (d < DIM)[None, :], other=0
    )


@triton.jit
def pair_loss(
    losses, slopes, nodes, slot, vectors, embedding, l2, n,
    DIM: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_B: tl.constexpr,
):  # fmt: skip
    """Write the loss of each triplet, and the slope of the mean loss in u . p."""
    pair = tl.program_id(0) * BLOCK_B + tl.arange(0, BLOCK_B)
    inside = pair < n
    user = tl.load(nodes + pair, mask=inside, other=0)
    positive = tl.load(nodes + n + pair, mask=inside, other=0)
    negative = tl.load(nodes + 2 * n + pair, mask=inside, other=0)
    u = _rows(vectors, tl.load(slot + user, mask=inside, other=0), inside, DIM, BLOCK_D)
    p = _rows(vectors, tl.load(slot + positive, mask=inside, other=0), inside, DIM, BLOCK_D)
    n_row = _rows(vectors, tl.load(slot + negative, mask=inside, other=0), inside, DIM, BLOCK_D)
    behind = tl.sum(u * n_row, axis=1) - tl.sum(u * p, axis=1)
    small = tl.exp(-tl.abs(behind))
    softplus = tl.maximum(behind, 0.0) + tl.log(1.0 + small)
    sigmoid = tl.where(behind > 0, 1.0, small) / (1.0 + small)
    u = _rows(embedding, user, inside, DIM, BLOCK_D)
    p = _rows(embedding, positive, inside, DIM, BLOCK_D)
    n_row = _rows(embedding, negative, inside, DIM, BLOCK_D)
    norm = tl.sum(u * u + p * p + n_row * n_row, axis=1)
    tl.store(losses + pair, softplus + 0.5 * l2 * norm, mask=inside)
    tl.store(slopes + pair, -sigmoid / n, mask=inside)


@triton.jit
def row_gradient(
    gradient, count, ordered, order, nodes, slot, vectors, slopes, factor, n,
    DIM: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """Add up what the mentions of a node say about its vector: users c (p - n), positives c u, negatives -c u."""
    place = tl.program_id(0)
    node = tl.load(ordered + place)
    if tl.load(ordered + place - 1, mask=place > 0, other=-1) == node:
        return
    d = tl.arange(0, BLOCK_D)
    total = tl.zeros((BLOCK_D,), dtype=tl.float32)
    at = place
    while tl.load(ordered + at, mask=at < 3 * n, other=-1) == node:
        mention = tl.load(order + at)
        kind, pair = mention // n, mention % n
        user = tl.load(slot + tl.load(nodes + pair))
        positive = tl.load(slot + tl.load(nodes + n + pair))
        negative = tl.load(slot + tl.load(nodes + 2 * n + pair))
        one = tl.where(kind == 0, positive, user).to(tl.int64)
        row = tl.load(vectors + one * DIM + d, mask=d < DIM, other=0)
        row -= tl.load(vectors + negative.to(tl.int64) * DIM + d, mask=d < tl.where(kind == 0, DIM, 0), other=0)
        total += tl.where(kind == 2, -1.0, 1.0) * tl.load(slopes + pair) * row
        at += 1
    tl.store(gradient + place.to(tl.int64) * DIM + d, factor * total, mask=d < DIM)
    tl.store(count + place, (at - place).to(tl.float32))

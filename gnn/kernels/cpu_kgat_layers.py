"""All layers of KGAT as one differentiable operation on the CPU: both passes by hand, and only for rows that count.

A layer is worked on in blocks of rows that stay in a core's cache from the gather to the activation, products with the
weights included: each of our threads calls BLAS for its own block. Blocks do not depend on the number of threads, and
sums over blocks are made in their order, so that every number of threads gives the same result.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from gnn.kernels import cpu_kgat
from gnn.kernels.cpu_kgat import Activation, Ints
from gnn.kernels.cpu_spmm import running_entries
from gnn.kernels.threads import n_blocks, share_out, split_evenly, work_in_blocks
from gnn.sparse.pattern import Csr

_SEED_STEP = 0xD1B54A32D192ED03


@dataclass(eq=False)
class Adjacency:
    """The attention as a matrix, with what its transpose needs; made once an epoch.

    Attributes:
        csr: rows = heads, columns = tails.
        values: (nnz,) attention of each edge.
    """

    csr: Csr
    values: Tensor

    def __post_init__(self) -> None:
        """Remember the state of the values: a tensor can be written to."""
        self._version = self.values._version

    def holds(self, values: Tensor) -> bool:
        """Tell whether this was made of these values, and they are as they were."""
        return self.values is values and values._version == self._version

    @cached_property
    def transposed(self) -> tuple[Csr, Tensor]:
        """The transposed pattern, and the values in its order."""
        csr, place = self.csr.transposed
        return csr, self.values[place]


class Workspace:
    """The tables of one forward and backward pass, kept from step to step: fresh memory costs as much as the work.

    Args:
        n_nodes: rows of each table; a step touches those that it needs.
        widths: of the layers, the input's first.
        dtype: of all tables.
    """

    def __init__(self, n_nodes: int, widths: Sequence[int], dtype: torch.dtype) -> None:
        def table(width: int) -> Tensor:
            return torch.empty(n_nodes, width, dtype=dtype)

        steps = list(pairwise(widths))
        self.mixed = [(table(a), table(a)) for a, _ in steps]
        self.branches = [(table(b), table(b)) for _, b in steps]
        self.outputs = [table(b) for _, b in steps]
        self.spare = [torch.empty(n_nodes * max(widths), dtype=dtype) for _ in range(3)]


@dataclass(eq=False)
class Plan:
    """One pass: over what, for which nodes, with what dropout.

    Attributes:
        adjacency: the attention.
        nodes: (k,) int64, distinct and sorted: whose layers are asked for.
        activation: with the dropout's seed of this pass.
        free: workspaces that no pass uses; one is taken from here, and goes back.
    """

    adjacency: Adjacency
    nodes: Tensor
    activation: Activation
    free: list[Workspace]


def layers_of_nodes(plan: Plan, embedding: Tensor, weights: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Propagate, and return each layer's vectors of some nodes.

        x^(l) = dropout(LeakyReLU(W1 (x + A x) + b1) + LeakyReLU(W2 (x * A x) + b2)),  x = x^(l - 1)

    A layer is computed for nodes that a later layer needs, no others.

    Args:
        plan: A, the nodes, the dropout.
        embedding: (n, d) x^(0), float32 or float64.
        weights: W1, b1, W2, b2 of the first layer, of the second, ...; W is (width out, width in).

    Returns:
        x^(0), x^(1), ... of the nodes, each (k, width), differentiable once.

    Source:
        Wang et al., KDD 2019 (KGAT), equations 3 and 8.
    """
    if torch.is_grad_enabled():
        result: tuple[Tensor, ...] = _Layers.apply(plan, embedding, *weights)
        return result
    done = Pass(plan, embedding, weights)
    plan.free.append(done.space)
    return done.found(embedding)


class _Layers(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, plan: Plan, embedding: Tensor, *weights: Tensor) -> tuple[Tensor, ...]:
        done = Pass(plan, embedding, weights)
        ctx.plan, ctx.done = plan, done
        ctx.save_for_backward(embedding, *weights)
        return done.found(embedding)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        embedding, *weights = ctx.saved_tensors
        # a backward pass overwrites the tables of the forward one: for a second they are made again
        done = ctx.done or Pass(ctx.plan, embedding, weights)
        ctx.done = None
        gradients = done.backward(embedding, grads)
        ctx.plan.free.append(done.space)
        return None, *gradients


class Pass:
    """A forward pass, which runs when this is made, and its backward pass, which can run once.

    Args:
        plan: as in `layers_of_nodes`, as are the rest; who made this gives `space` back to `plan.free` in the end.
        embedding: x^(0).
        weights: of all layers.
        n_threads: how many to use where torch is held to one; None for as many as torch uses.
    """

    def __init__(self, plan: Plan, embedding: Tensor, weights: Sequence[Tensor], n_threads: int | None = None) -> None:
        # threads of our own know nothing of torch.no_grad, under which this runs
        embedding, weights = embedding.detach(), [w.detach() for w in weights]
        widths = (embedding.shape[1], *[len(w) for w in weights[::4]])
        self.plan, self.n_threads = plan, n_threads or torch.get_num_threads()
        self.space = plan.free.pop() if plan.free else Workspace(len(embedding), widths, embedding.dtype)
        rows = [plan.nodes.numpy()]
        for _ in widths[2:]:
            rows.insert(0, cpu_kgat.with_neighbours(plan.adjacency.csr, rows[0]))
        self.layers = [self._layer(k, own, weights[4 * k : 4 * k + 4]) for k, own in enumerate(rows)]
        x = embedding
        for layer in self.layers:
            layer.forward(plan.adjacency, x, self.n_threads)
            x = layer.output

    def _layer(self, k: int, rows: Ints, weights: Sequence[Tensor]) -> "_Layer":
        (summed, product), (left, right) = self.space.mixed[k], self.space.branches[k]
        w1, b1, w2, b2 = weights
        activation = replace(self.plan.activation, seed=(self.plan.activation.seed + k * _SEED_STEP) % (1 << 64))
        return _Layer(rows, (summed, product), (left, right), self.space.outputs[k], (w1, w2), (b1, b2), activation)

    def found(self, embedding: Tensor) -> tuple[Tensor, ...]:
        """Return every layer's vectors of the nodes."""
        return tuple(table[self.plan.nodes] for table in (embedding, *self.space.outputs))

    def backward(self, embedding: Tensor, grads: Sequence[Tensor], to_embedding: Tensor | None = None) -> list[Tensor]:
        """Return the gradients of the embedding and of all weights, given those of the nodes' layers.

        Args:
            embedding: as in the forward pass.
            grads: one for each table of `found`.
            to_embedding: where to write the gradient of the embedding; None makes a table.
        """
        embedding, nodes, grad = embedding.detach(), self.plan.nodes.numpy(), grads[-1].contiguous()
        to_weights: list[Tensor] = []
        for k in reversed(range(len(self.layers))):
            layer = self.layers[k]
            x = self.space.outputs[k - 1] if k else embedding
            below = self.layers[k - 1].rows if k else np.arange(len(embedding))
            out = _first(self.space.spare[1], len(below), x.shape[1]) if k else to_embedding
            out = torch.empty_like(x) if out is None else out
            to_near, gradients = layer.backward(self.plan.adjacency, x, grad, self.space, self.n_threads)
            to_weights[:0] = gradients
            grad = layer.pull(self.plan.adjacency, to_near, (below, out), self.n_threads)
            grad[torch.from_numpy(np.searchsorted(below, nodes))] += grads[k]
        return [grad, *to_weights]


@dataclass(eq=False)
class _Layer:
    """One layer in one pass: the tables of its rows, compact, and its output with a row for every node."""

    rows: Ints
    mixed: tuple[Tensor, Tensor]
    branches: tuple[Tensor, Tensor]
    output: Tensor
    weights: tuple[Tensor, Tensor]
    biases: tuple[Tensor, Tensor]
    activation: Activation

    def forward(self, adjacency: Adjacency, x: Tensor, n_threads: int) -> None:
        """Write the rows of the output."""
        values = adjacency.values

        def work(_: int, part: slice) -> None:
            rows = self.rows[part]
            mixed, branches = _pair(self.mixed, part), _pair(self.branches, part)
            cpu_kgat.mix(adjacency.csr, values, x, rows, mixed)
            for table, weight, branch in zip(mixed, self.weights, branches, strict=True):
                torch.mm(table, weight.T, out=branch)
            cpu_kgat.activate(branches, self.biases, rows, self.activation, self.output)

        work_in_blocks(work, len(self.rows), n_threads)

    def backward(
        self, adjacency: Adjacency, x: Tensor, grad: Tensor, space: Workspace, n_threads: int
    ) -> tuple[Tensor, list[Tensor]]:
        """Differentiate all but the gather, given the gradient of the rows of the output.

        Returns:
            The gradient of the gathered vectors, and those of W1, b1, W2, b2. What an input row has of the gradient
            beside the gather lies in the first of `mixed`.
        """
        to_summed = _first(space.spare[0], len(self.rows), x.shape[1])
        is_spread = len(self.rows) < len(x) and cpu_kgat.has_most_entries(adjacency.csr, self.rows)
        # where few rows are missing, it costs less to read zeros than to skip
        to_near = _first(space.spare[2], *x.shape).zero_() if is_spread else to_summed
        sums: list[list[Tensor]] = [[] for _ in range(n_blocks(len(self.rows)))]

        def work(block: int, part: slice) -> None:
            rows, mixed, branches = self.rows[part], _pair(self.mixed, part), _pair(self.branches, part)
            biases = cpu_kgat.activate_backward(branches, self.biases, rows, self.activation, grad[part])
            to_weights = [branch.T @ table for branch, table in zip(branches, mixed, strict=True)]
            sums[block] = [to_weights[0], biases[0], to_weights[1], biases[1]]
            grads = (to_summed[part], mixed[1])
            for branch, weight, out in zip(branches, self.weights, grads, strict=True):
                torch.mm(branch, weight, out=out)
            cpu_kgat.mix_backward(x, rows, mixed[0], grads, to_near if is_spread else to_near[part])

        work_in_blocks(work, len(self.rows), n_threads)
        return to_near, [torch.stack(parts).sum(dim=0) for parts in zip(*sums, strict=True)]

    def pull(self, adjacency: Adjacency, to_near: Tensor, target: tuple[Ints, Tensor], n_threads: int) -> Tensor:
        """Write the gradient of some rows of the input, gathered against the edges, and return it."""
        transposed, values = adjacency.transposed
        below, out = target
        place = np.full(transposed.n_rows, -1, np.int32)
        place[self.rows] = np.arange(len(self.rows), dtype=np.int32)
        own = (place, self.mixed[0])
        cuts = split_evenly(running_entries(transposed.rowptr.numpy(), below), n_threads)

        def work(start: int, end: int) -> None:
            cpu_kgat.pull(transposed, values, to_near, own, below[start:end], out[start:end])

        share_out(work, cuts, n_threads=n_threads)
        return out


def _first(flat: Tensor, n_rows: int, width: int) -> Tensor:
    """Return the beginning of a spare table in another shape."""
    return flat[: n_rows * width].view(n_rows, width)


def _pair(tables: tuple[Tensor, Tensor], part: slice) -> tuple[Tensor, Tensor]:
    return tables[0][part], tables[1][part]

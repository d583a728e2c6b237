"""All layers of KGAT as one differentiable operation on the CPU: both passes by hand, and only for rows that count.

What each layer computes is in `cpu_kgat`; here is which rows it is computed for, and in what tables.
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

from gnn.kernels import cpu_kgat, cpu_kgat_edges
from gnn.kernels.cpu_kgat import Activation, Ints, Tables
from gnn.kernels.cpu_kgat_edges import Adam
from gnn.kernels.cpu_step import update_rows
from gnn.kernels.pages import on_large_pages
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
        on_large_pages(self.csr.col, self.values)

    def holds(self, values: Tensor) -> bool:
        """Tell whether this was made of these values, and they are as they were."""
        return self.values is values and values._version == self._version

    @cached_property
    def transposed(self) -> tuple[Csr, Tensor]:
        """The transposed pattern, and the values in its order."""
        csr, place = self.csr.transposed
        values = self.values[place]
        on_large_pages(csr.col, values)
        return csr, values


class Workspace:
    """The tables of one forward and backward pass, kept from step to step: fresh memory costs as much as the work.

    Args:
        n_nodes: rows of each table; a step touches those that it needs.
        widths: of the layers, the input's first.
        dtype: of all tables.
    """

    def __init__(self, n_nodes: int, widths: Sequence[int], dtype: torch.dtype) -> None:
        def table(width: int) -> Tensor:
            made = torch.empty(n_nodes, width, dtype=dtype)
            on_large_pages(made)
            return made

        steps = list(pairwise(widths))
        self.kept = [Tables(table(a), torch.empty(n_nodes, b, dtype=torch.uint8)) for a, b in steps]
        self.outputs = [table(b) for _, b in steps]
        self.spare = [torch.empty(n_nodes * max(widths), dtype=dtype) for _ in range(2)]
        on_large_pages(*self.spare)


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
            rows.insert(0, cpu_kgat_edges.with_neighbours(plan.adjacency.csr, rows[0]))
        self.layers = [self._layer(k, own, weights[4 * k : 4 * k + 4]) for k, own in enumerate(rows)]
        x = embedding
        for layer in self.layers:
            layer.forward(plan.adjacency, x, self.n_threads)
            x = layer.output

    def _layer(self, k: int, rows: Ints, weights: Sequence[Tensor]) -> "_Layer":
        kept, n = self.space.kept[k], len(rows)
        activation = replace(self.plan.activation, seed=(self.plan.activation.seed + k * _SEED_STEP) % (1 << 64))
        return _Layer(rows, weights, activation, Tables(kept.near[:n], kept.marks[:n]), self.space.outputs[k])

    def found(self, embedding: Tensor) -> tuple[Tensor, ...]:
        """Return every layer's vectors of the nodes."""
        return tuple(table[self.plan.nodes] for table in (embedding, *self.space.outputs))

    def backward(self, embedding: Tensor, grads: Sequence[Tensor], adam: Adam | None = None) -> list[Tensor]:
        """Return the gradients of the embedding and of all weights, given those of the nodes' layers.

        Args:
            embedding: as in the forward pass.
            grads: one for each table of `found`.
            adam: makes a step with the gradient of the embedding, which is then not among what is returned.
        """
        embedding, nodes, grad = embedding.detach(), self.plan.nodes.numpy(), grads[-1].contiguous()
        to_weights: list[Tensor] = []
        for k in reversed(range(len(self.layers))):
            layer = self.layers[k]
            x = self.space.outputs[k - 1] if k else embedding
            to_near, gradients = layer.backward(self.plan.adjacency, x, grad, self.space.spare[0], self.n_threads)
            to_weights[:0] = gradients
            layer.kept.near[torch.from_numpy(np.searchsorted(layer.rows, nodes))] += grads[k]
            if k == 0 and adam:
                layer.move(self.plan.adjacency, to_near, adam, self.n_threads)
                return to_weights
            below = self.layers[k - 1].rows if k else np.arange(len(embedding))
            grad = _first(self.space.spare[1], len(below), x.shape[1]) if k else torch.empty_like(x)
            layer.gather(self.plan.adjacency, to_near, (below, grad), self.n_threads)
        return [grad, *to_weights]


@dataclass(eq=False)
class _Layer:
    """One layer in one pass: what it keeps of its rows, and its output with a row for every node."""

    rows: Ints
    weights: Sequence[Tensor]
    activation: Activation
    kept: Tables
    output: Tensor

    def forward(self, adjacency: Adjacency, x: Tensor, n_threads: int) -> None:
        """Write the rows of the output."""
        layer, csr = (self.weights, self.activation), adjacency.csr
        cpu_kgat.forward(csr, adjacency.values, x, self.rows, layer, self.kept, self.output, n_threads)

    def backward(
        self, adjacency: Adjacency, x: Tensor, grad: Tensor, spare: Tensor, n_threads: int
    ) -> tuple[Tensor, list[Tensor]]:
        """Differentiate all but the gather, given the gradient of the rows of the output.

        Returns:
            The gradient of the gathered vectors, with a row for every node or for those of the layer; and those of W1,
            b1, W2, b2. What an input row has of the gradient beside the gather lies where the gathered vectors were.
        """
        # where few rows are missing, it costs less to read zeros than to skip
        for_all = cpu_kgat_edges.has_most_entries(adjacency.csr, self.rows)
        to_near = _first(spare, len(x) if for_all else len(self.rows), x.shape[1])
        if for_all:
            cpu_kgat_edges.clear_others(to_near, self.rows, n_threads)
        layer = (self.weights, self.activation)
        return to_near, cpu_kgat.backward(x, self.rows, layer, self.kept, grad, to_near, n_threads)

    def gather(self, adjacency: Adjacency, to_near: Tensor, target: tuple[Ints, Tensor], n_threads: int) -> None:
        """Write the gradient of some rows of the input, gathered against the edges."""
        own = (self.rows, self.kept.near)
        if len(to_near) == adjacency.csr.n_rows:
            cpu_kgat_edges.pull(*adjacency.transposed, to_near, own, target, n_threads)
        else:
            cpu_kgat_edges.push(adjacency.csr, adjacency.values, to_near, own, target, n_threads)

    def move(self, adjacency: Adjacency, to_near: Tensor, adam: Adam, n_threads: int) -> None:
        """Make a step of Adam with the gradient of the input."""
        if len(to_near) == adjacency.csr.n_rows:
            own = (self.rows, self.kept.near)
            cpu_kgat_edges.pull_and_move(*adjacency.transposed, to_near, own, adam, n_threads)
            return
        (table, *_), rates = adam
        gradient, nodes = torch.empty_like(table), np.arange(len(table))
        self.gather(adjacency, to_near, (nodes, gradient), n_threads)
        update_rows(adam[0], rates, nodes.astype(np.int32), gradient)


def _first(flat: Tensor, n_rows: int, width: int) -> Tensor:
    """Return the beginning of a spare table in another shape."""
    return flat[: n_rows * width].view(n_rows, width)

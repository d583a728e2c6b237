"""All layers of KGAT as one differentiable operation on the CPU: both passes by hand, and only for rows that count."""

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
from gnn.kernels.cpu_kgat import N_BLOCKS, Activation, Ints
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
    done = _Pass(plan, embedding, weights)
    plan.free.append(done.space)
    return done.found(embedding)


class _Layers(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, plan: Plan, embedding: Tensor, *weights: Tensor) -> tuple[Tensor, ...]:
        done = _Pass(plan, embedding, weights)
        ctx.plan, ctx.done = plan, done
        ctx.save_for_backward(embedding, *weights)
        return done.found(embedding)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        embedding, *weights = ctx.saved_tensors
        # a backward pass overwrites the tables of the forward one: for a second they are made again
        done = ctx.done or _Pass(ctx.plan, embedding, weights)
        ctx.done = None
        gradients = done.backward(embedding, grads)
        ctx.plan.free.append(done.space)
        return None, *gradients


class _Pass:
    """A forward pass, which runs when this is made, and its backward pass, which can run once."""

    def __init__(self, plan: Plan, embedding: Tensor, weights: Sequence[Tensor]) -> None:
        widths = (embedding.shape[1], *[len(w) for w in weights[::4]])
        self.plan = plan
        self.space = plan.free.pop() if plan.free else Workspace(len(embedding), widths, embedding.dtype)
        rows = [plan.nodes.numpy()]
        for _ in widths[2:]:
            rows.insert(0, cpu_kgat.with_neighbours(plan.adjacency.csr, rows[0]))
        self.layers = [self._layer(k, own, weights[4 * k : 4 * k + 4]) for k, own in enumerate(rows)]
        x = embedding
        for layer in self.layers:
            x = layer.forward(plan.adjacency, x)

    def _layer(self, k: int, rows: Ints, weights: Sequence[Tensor]) -> "_Layer":
        first, second = (
            (left[: len(rows)], right[: len(rows)]) for left, right in (self.space.mixed[k], self.space.branches[k])
        )
        seed = (self.plan.activation.seed + k * _SEED_STEP) % (1 << 64)
        w1, b1, w2, b2 = weights
        activation = replace(self.plan.activation, seed=seed)
        return _Layer(rows, first, second, self.space.outputs[k], (w1, w2), (b1, b2), activation)

    def found(self, embedding: Tensor) -> tuple[Tensor, ...]:
        """Return every layer's vectors of the nodes."""
        return tuple(table[self.plan.nodes] for table in (embedding, *self.space.outputs))

    def backward(self, embedding: Tensor, grads: Sequence[Tensor]) -> list[Tensor]:
        """Return the gradients of the embedding and of all weights, given those of the nodes' layers."""
        nodes, grad = self.plan.nodes.numpy(), grads[-1].contiguous()
        to_weights: list[Tensor] = []
        for k in reversed(range(len(self.layers))):
            layer = self.layers[k]
            x = self.space.outputs[k - 1] if k else embedding
            below = self.layers[k - 1].rows if k else np.arange(len(embedding))
            to_weights[:0] = layer.branch_gradients(grad)
            out = _first(self.space.spare[1], len(below), x.shape[1]) if k else torch.empty_like(x)
            grad = layer.input_gradient(self.plan.adjacency, x, below, self.space, out)
            grad[torch.from_numpy(np.searchsorted(below, nodes))] += grads[k]
        return [grad, *to_weights]


@dataclass(eq=False)
class _Layer:
    """One layer in one pass: compact tables of its rows, and its output with a row for every node."""

    rows: Ints
    mixed: tuple[Tensor, Tensor]
    branches: tuple[Tensor, Tensor]
    output: Tensor
    weights: tuple[Tensor, Tensor]
    biases: tuple[Tensor, Tensor]
    activation: Activation

    def forward(self, adjacency: Adjacency, x: Tensor) -> Tensor:
        cpu_kgat.mix(adjacency.csr, adjacency.values, x, self.rows, self.mixed)
        for mixed, weight, branch in zip(self.mixed, self.weights, self.branches, strict=True):
            torch.mm(mixed, weight.T, out=branch)
        cpu_kgat.activate(self.branches, self.biases, self.rows, self.activation, self.output)
        return self.output

    def branch_gradients(self, grad: Tensor) -> list[Tensor]:
        """Turn the branches into their gradients; return those of W1, b1, W2, b2."""
        biases = cpu_kgat.activate_backward(self.branches, self.biases, self.rows, self.activation, grad)
        weights = [_product_of_columns(b, m) for b, m in zip(self.branches, self.mixed, strict=True)]
        return [weights[0], biases[0], weights[1], biases[1]]

    def input_gradient(self, adjacency: Adjacency, x: Tensor, below: Ints, space: Workspace, out: Tensor) -> Tensor:
        """Return the gradient of the input's rows `below`, in `out`."""
        summed, product = self.mixed
        to_summed = torch.mm(self.branches[0], self.weights[0], out=_first(space.spare[0], *summed.shape))
        to_product = torch.mm(self.branches[1], self.weights[1], out=product)
        to_near = to_summed
        # where few rows are missing, it costs less to read zeros than to skip
        if len(self.rows) < len(x) and cpu_kgat.has_most_entries(adjacency.csr, self.rows):
            to_near = _first(space.spare[2], *x.shape).zero_()
        cpu_kgat.mix_backward(x, self.rows, summed, (to_summed, to_product), to_near)
        place = np.full(len(x), -1, np.int32)
        place[self.rows] = np.arange(len(self.rows), dtype=np.int32)
        cpu_kgat.pull(*adjacency.transposed, to_near, (place, summed), below, out)
        return out


def _first(flat: Tensor, n_rows: int, width: int) -> Tensor:
    """Return the beginning of a spare table in another shape."""
    return flat[: n_rows * width].view(n_rows, width)


def _product_of_columns(left: Tensor, right: Tensor) -> Tensor:
    """Return left^T right, added up in blocks of rows that do not depend on the number of threads."""
    whole = len(left) // N_BLOCKS * N_BLOCKS
    a, b = (t[:whole].view(N_BLOCKS, whole // N_BLOCKS, t.shape[1]) for t in (left, right))
    return torch.bmm(a.transpose(1, 2), b).sum(dim=0) + left[whole:].T @ right[whole:]

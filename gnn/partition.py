"""The part of a graph that one process holds, and how processes pass theirs on.

Node i lies with process i % world, in row i // world there: the parts are of one size, and of about one number of
edges, however users and items differ. A process holds its rows of S = D^-1/2 A D^-1/2 in blocks by the owner of the
column. Tables of the layers travel around a ring, one at a time, while the block at hand is multiplied.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse
import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable

from gnn.data import TrainingGraph
from gnn.errors import ContactError
from gnn.sparse import Csr, spmm


@dataclass(frozen=True)
class Group:
    """This process among those that train together, over torch's default process group.

    Attributes:
        rank: which of them this is.
        world: how many they are.
    """

    rank: int
    world: int

    @classmethod
    def current(cls) -> "Group":
        """Return the group that `torch.distributed.init_process_group` made."""
        return cls(dist.get_rank(), dist.get_world_size())

    def n_rows(self, n: int, owner: int | None = None) -> int:
        """Count those of the numbers below n that lie with a process, by default this one."""
        return -(-(n - (self.rank if owner is None else owner)) // self.world)

    def add_up(self, tensor: Tensor) -> Tensor:
        """Sum a tensor over the processes, in place."""
        with self._contact():
            dist.all_reduce(tensor)
        return tensor

    def pass_on(self, block: Tensor, n_rows: int) -> Callable[[], Tensor]:
        """Start to send a block to the next process and to receive one of `n_rows` rows from the one before.

        Returns:
            A function that waits for both and returns what came.
        """
        received = block.new_empty(n_rows, block.shape[1])
        with self._contact():
            send = dist.P2POp(dist.isend, block, (self.rank + 1) % self.world)
            receive = dist.P2POp(dist.irecv, received, (self.rank - 1) % self.world)
            pending = dist.batch_isend_irecv([send, receive])

        def wait() -> Tensor:
            with self._contact():
                for work in pending:
                    work.wait()
            return received

        return wait

    def collect(self, value: Any) -> list[Any]:
        """Return the plain value of every process, by rank."""
        values: list[Any] = [None] * self.world
        with self._contact():
            dist.all_gather_object(values, value)
        return values

    def rows(self, part: Tensor, low: int, high: int) -> Tensor:
        """Put the rows of the nodes low .. high - 1 together on every process, a block at a time."""
        whole = part.new_empty(high - low, part.shape[1])
        for owner in range(self.world):
            first, last = self.n_rows(low, owner), self.n_rows(high, owner)
            block = part[first:last].contiguous() if owner == self.rank else part.new_empty(last - first, part.shape[1])
            with self._contact():
                dist.broadcast(block, owner)
            whole[first * self.world + owner - low :: self.world] = block
        return whole

    def gather(self, part: Tensor, n: int) -> Tensor | None:
        """Put all n rows together on process 0, a block at a time; return None on the others."""
        with self._contact():
            if self.rank:
                dist.send(part, 0)
                return None
            whole = part.new_empty(n, part.shape[1])
            whole[:: self.world] = part
            for owner in range(1, self.world):
                block = part.new_empty(self.n_rows(n, owner), part.shape[1])
                dist.recv(block, owner)
                whole[owner :: self.world] = block
            return whole

    @contextmanager
    def _contact(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            msg = (
                f"process {self.rank} of {self.world} lost contact with another, which died or hung "
                f"({str(error).splitlines()[0]}); start all of them again, they go on from the last checkpoint"
            )
            raise ContactError(msg) from error


@dataclass(frozen=True, eq=False)
class Part:
    """The rows of S that one process holds.

    Attributes:
        group: who holds the others.
        n_nodes: of the whole graph.
        blocks: for each process, the pattern and the values of the columns that lie with it.
    """

    group: Group
    n_nodes: int
    blocks: tuple[tuple[Csr, Tensor], ...]

    @classmethod
    def of(cls, graph: TrainingGraph, fact_weight: float, group: Group) -> "Part":
        """Take this process's rows; the whole adjacency is never built."""
        weight, head, tail = graph.entries(fact_weight)
        ends = (np.concatenate([head, tail]), np.concatenate([tail, head]))
        degree = sum(np.bincount(end, weight, graph.n_nodes) for end in (head, tail))
        scale = np.where(degree > 0, np.maximum(degree, np.finfo(np.float32).tiny) ** -0.5, 0.0)
        own = np.flatnonzero(ends[0] % group.world == group.rank)
        row, col = ends[0][own], ends[1][own]
        values = (weight[own % len(weight)] * scale[row] * scale[col]).astype(np.float32)
        n_rows = group.n_rows(graph.n_nodes)
        blocks = []
        for owner in range(group.world):
            here = col % group.world == owner
            places = (row[here] // group.world, col[here] // group.world)
            shape = (n_rows, group.n_rows(graph.n_nodes, owner))
            blocks.append(_block(scipy.sparse.coo_array((values[here], places), shape=shape), graph.device))
        return cls(group, graph.n_nodes, tuple(blocks))

    def multiply(self, x: Tensor, storage: torch.dtype) -> Tensor:
        """Return this process's rows of S X from its rows of X, which travel as `storage`."""
        group, block = self.group, x.to(storage)
        y = torch.zeros_like(x)
        for turn in range(group.world):
            owner = (group.rank - turn) % group.world
            wait = None
            if turn < group.world - 1:
                wait = group.pass_on(block, group.n_rows(self.n_nodes, (owner - 1) % group.world))
            y += spmm(*self.blocks[owner], block.to(x.dtype))
            block = block if wait is None else wait()
        return y

    def layer_mean(self, x: Tensor, n_layers: int, storage: torch.dtype) -> Tensor:
        """Return this process's rows of 1 / (L + 1) * sum over l = 0..L of S^l X, by Horner's rule."""
        h = x
        for _ in range(n_layers):
            h = self.multiply(h, storage).add_(x)
        return h / (n_layers + 1)


def propagate_part(part: Part, x: Tensor, n_layers: int, storage: torch.dtype) -> Tensor:
    """Average a node's vector over the layers, as `gnn.sparse.propagate` does; every process has to call this.

    Args:
        part: this process's rows of S.
        x: (n_rows, d) this process's rows.
        n_layers: L.
        storage: type in which tables travel between layers.

    Returns:
        (n_rows, d), differentiable once: S is symmetric, so the gradient travels the same way.
    """
    result: Tensor = _Propagate.apply(x, part, n_layers, storage)
    return result


def lookup(group: Group, table: Tensor, nodes: Tensor) -> Tensor:
    """Return the rows of some nodes on every process; every process has to ask for the same ones.

    Args:
        group: who holds which rows.
        table: (n_rows, d) this process's rows.
        nodes: (n,) int64, the same on every process.

    Returns:
        (n, d), exact, differentiable once if every process makes the same loss of it.
    """
    result: Tensor = _Lookup.apply(table, nodes, group)
    return result


class _Propagate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, part: Part, n_layers: int, storage: torch.dtype) -> Tensor:
        ctx.rest = (part, n_layers, storage)
        return part.layer_mean(x.contiguous(), n_layers, storage)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        part, n_layers, storage = ctx.rest
        return part.layer_mean(grad.contiguous(), n_layers, storage), None, None, None


class _Lookup(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, table: Tensor, nodes: Tensor, group: Group) -> Tensor:
        here = torch.nonzero(nodes % group.world == group.rank).squeeze(1)
        ctx.rest = (here, nodes[here] // group.world, len(table))
        rows = table.new_zeros(len(nodes), table.shape[1])
        rows[here] = table[ctx.rest[1]]
        return group.add_up(rows)  # one process has each row, the others add zeros to it

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        here, places, n_rows = ctx.rest
        return grad.new_zeros(n_rows, grad.shape[1]).index_add_(0, places, grad[here]), None, None


def _block(matrix: scipy.sparse.coo_array, device: torch.device) -> tuple[Csr, Tensor]:
    csr = matrix.tocsr()
    csr.eliminate_zeros()
    rowptr, col = (torch.from_numpy(a.astype(np.int32, copy=False)).to(device) for a in (csr.indptr, csr.indices))
    return Csr(rowptr, col, matrix.shape[1]), torch.from_numpy(csr.data).to(device)

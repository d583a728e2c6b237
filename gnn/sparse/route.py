"""Which code does the work: plain PyTorch, machine code made by numba, or Triton kernels."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Literal, Protocol, cast

import torch
from torch import Tensor

from gnn.errors import InputError
from gnn.sparse.pattern import Csr, NormalisedGraph

Name = Literal["torch", "compiled", "cuda"]
_MODULES: dict[str, str] = {
    "torch": "gnn.sparse.torch_route",
    "compiled": "gnn.sparse.compiled_route",
    "cuda": "gnn.sparse.cuda_route",
}
_NEEDS = {"compiled": "numba", "cuda": "triton"}
_forced: ContextVar[Name | None] = ContextVar("route", default=None)


class Route(Protocol):
    """What a route computes, without gradients; `gnn.sparse.operations` puts gradients around it.

    Every function takes contiguous tensors on the device of the pattern and returns new ones.
    """

    def multiply(self, csr: Csr, values: Tensor | None, x: Tensor) -> Tensor:
        """Y_i = sum over entries (i, j) of v_ij x_j, (n_rows, d); `values` None stands for ones."""

    def layer_mean(self, graph: NormalisedGraph, x: Tensor, n_layers: int, storage: torch.dtype) -> Tensor:
        """1 / (L + 1) * sum over l = 0..L of S^l X; the tables between layers are kept as `storage`."""

    def edge_dot(self, csr: Csr, left: Tensor, right: Tensor) -> Tensor:
        """left_i . right_j for each entry (i, j), (nnz,)."""

    def edge_softmax(self, csr: Csr, logits: Tensor) -> Tensor:
        """exp(logit) over the row's sum of it, (nnz,)."""

    def edge_softmax_backward(self, csr: Csr, weights: Tensor, grad: Tensor) -> Tensor:
        """Gradient of the logits, w (g - sum over the row of w g), (nnz,)."""

    def attend(self, csr: Csr, logits: Tensor, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Y_i = sum over the row of softmax(logits) x_j; also the row's highest logit and sum of exp(logit - highest).

        Returns:
            (n_rows, d), (n_rows,), (n_rows,). A row without an entry has 0, -inf, 0.
        """

    def attend_backward(
        self, csr: Csr, logits: Tensor, row_max: Tensor, row_sum: Tensor, x: Tensor, y: Tensor, grad: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the gradient of the logits, w (g_i . x_j - g_i . y_i), and the weights w, both (nnz,)."""

    def topk(self, scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Values and columns of the k highest scores of each row, best first, ties by lower column; k <= n_columns.

        A value of -inf marks a place for which nothing is left; its column says nothing.
        """

    def rank(self, users: Tensor, items: Tensor, mask: Csr, k: int) -> tuple[Tensor, Tensor]:
        """`topk` of users @ items.T without the entries of `mask`."""


def route_of(tensor: Tensor) -> Name:
    """Return the name of the route that works on a tensor: the forced one, or the fastest that is installed."""
    forced = _forced.get()
    if forced is not None:
        return forced
    if tensor.is_cuda:
        return "cuda" if _is_there("cuda") else "torch"
    fits = tensor.device.type == "cpu" and tensor.dtype in (torch.float32, torch.float64)
    return "compiled" if fits and _is_there("compiled") else "torch"


def load_route(name: Name) -> Route:
    """Return the module of a route.

    Raises:
        InputError: if what the route needs is not installed.
    """
    if not _is_there(name):
        msg = f"route `{name}` needs `{_NEEDS[name]}`, which is not installed; install it, or use route `torch`"
        raise InputError(msg)
    return cast("Route", import_module(_MODULES[name]))


@contextmanager
def use_route(name: Name) -> Iterator[None]:
    """Force a route within a block, for comparisons and tests.

    Example:
        >>> with use_route("torch"):
        ...     route_of(torch.zeros(1))
        'torch'

    Raises:
        InputError: if what the route needs is not installed, or no route has this name.
    """
    if name not in _MODULES:
        msg = f"no route is called `{name}`; expected {', '.join(_MODULES)}"
        raise InputError(msg)
    load_route(name)
    token = _forced.set(name)
    try:
        yield
    finally:
        _forced.reset(token)


@cache
def _is_there(name: Name) -> bool:
    return name not in _NEEDS or (find_spec(_NEEDS[name]) is not None and find_spec(_MODULES[name]) is not None)

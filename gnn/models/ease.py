"""EASE: a linear item-item model in closed form."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt
import scipy.sparse
import torch
from scipy.linalg import lapack
from torch import Tensor

from gnn.data import TrainingGraph
from gnn.errors import InputError
from gnn.memory import require_memory
from gnn.recommender import Objective, Recommender
from gnn.sparse import csr_from_edges, expand_ranges
from kg.errors import ConfigError

_BLOCK = 1024


class EASE(Recommender, name="ease"):
    """Reconstruct a user's items from the user's other items by ridge regression.

    P = (X^T X + l2 I)^-1,  B_ij = -P_ij / P_jj for i != j and B_jj = 0,  s(u, .) = x_u B

    Dense in items: memory grows with n_items^2, time with n_items^3 (1,682 items: a second; 40,000 in float32: 6 GiB
    and twenty minutes of one core).

    Source:
        Steck, WWW 2019, equation 8 and the code listing.

    Deviations:
        The inverse is by Cholesky's factor, in place: X^T X + l2 I is positive definite.
    """

    objectives: ClassVar[tuple[Objective, ...]] = ()

    @dataclass(frozen=True)
    class Config:
        """Parameters of EASE.

        Attributes:
            l2: the ridge; larger trusts single co-occurrences less.
            precision: what the inverse is computed in; float32 takes a third of the memory.
        """

        l2: float = 300.0
        precision: Literal["float64", "float32"] = "float64"

        def __post_init__(self) -> None:
            """Check the range."""
            if not self.l2 > 0:
                msg = f"ease: `l2` is {self.l2}; expected a number above 0"
                raise ConfigError(msg)
            if self.precision not in ("float64", "float32"):
                msg = f"ease: `precision` is `{self.precision}`; expected float64 or float32"
                raise ConfigError(msg)

    def __init__(self, config: Config, graph: TrainingGraph) -> None:
        """Make room for B.

        Raises:
            MemoryNeedError: if there is not enough memory for the items' square matrices.
        """
        super().__init__(config, graph)
        size_bytes = graph.n_items**2 * (4 if config.precision == "float32" else 12)
        advice = "use precision = float32, a model with vectors (lightgcn), or a machine with more memory"
        require_memory(size_bytes, f"ease on {graph.n_items} items", advice=advice)
        self.weights: Tensor
        self.register_buffer("weights", torch.zeros(graph.n_items, graph.n_items, device=graph.device))

    def fit(self) -> None:
        """Invert, in place.

        Raises:
            InputError: if `l2` is too small for the precision.
        """
        is_in_place = self.config.precision == "float32" and self.weights.device.type == "cpu"
        weights = self.weights.numpy() if is_in_place else np.empty(self.weights.shape, self.config.precision)
        _gram(self.graph.interactions(), weights)
        weights.ravel()[:: len(weights) + 1] += self.config.l2
        _invert(weights)
        weights /= -weights.diagonal()
        np.fill_diagonal(weights, 0.0)
        if not is_in_place:
            self.weights.copy_(torch.from_numpy(weights))

    def scores(self, users: Tensor) -> Tensor:
        """Multiply the users' rows by B; see `Recommender.scores`."""
        graph = self.graph
        low, high = (torch.searchsorted(graph.keys, key * graph.n_items) for key in (users, users + 1))
        row, entry = expand_ranges(low, high)
        history, _ = csr_from_edges(row, graph.items[entry], len(users), graph.n_items)
        scores: Tensor = history.matrix(torch.ones(len(row), device=users.device)) @ self.weights
        return scores


def _gram(interactions: scipy.sparse.csr_array, out: npt.NDArray[np.floating]) -> None:
    """Write X^T X, some rows at a time: as a whole it would be there twice."""
    by_item = interactions.T.tocsr()
    for start in range(0, len(out), _BLOCK):
        out[start : start + _BLOCK] = (by_item[start : start + _BLOCK] @ interactions).toarray()


def _invert(matrix: npt.NDArray[np.floating]) -> None:
    """Invert a positive definite matrix where it lies.

    Raises:
        InputError: if rounding leaves it not positive definite.
    """
    if not len(matrix):
        return
    names = ("potrf", "potri")
    factorise, invert = lapack.get_lapack_funcs(names, (matrix,))
    for step in (factorise, invert):
        # LAPACK's matrices are the transposed ones, and a symmetric one is its own
        result, info = step(matrix.T, lower=True, **{f"overwrite_{'a' if step is factorise else 'c'}": True})
        if info:
            msg = f"ease: X^T X + l2 I cannot be inverted in {matrix.dtype}; take a larger `l2` or precision = float64"
            raise InputError(msg)
        assert np.shares_memory(result, matrix)
    for start in range(0, len(matrix), _BLOCK):  # only the triangle above the diagonal is the inverse
        end = start + _BLOCK
        block = matrix[start:end, start:end]
        block[:] = np.triu(block) + np.triu(block, 1).T
        matrix[end:, start:end] = matrix[start:end, end:].T

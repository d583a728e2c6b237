"""Libraries that an experiment puts beside our models, where they are installed; never a dependency of gnn."""

import time
from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
import scipy.sparse
import torch

from gnn.data import TrainingGraph
from gnn.recommender import Recommender, Vectors
from kg.ckg import CollaborativeKG

PEERS = {"implicit-als": "implicit"}
"""Name of a peer -> the library that it needs."""


class PeerModel(Recommender):
    """The vectors that a library made, for our evaluator; no member of the registry."""

    def __init__(self, graph: TrainingGraph, vectors: Vectors) -> None:
        """Keep the vectors; see `Recommender.embeddings`."""
        super().__init__({}, graph)
        self._vectors = vectors

    def embeddings(self, graph: TrainingGraph) -> Vectors:
        """Return what the library made; see `Recommender.embeddings`."""
        return self._vectors


def why_not(name: str) -> str | None:
    """Say why a peer cannot run here; None if it can."""
    library = PEERS[name]
    if find_spec(library) is not None:
        return None
    return f"the library `{library}` is not installed for this interpreter; `make bench` makes one that has it"


def fit_als(ckg: CollaborativeKG, config: Mapping[str, Any], seed: int) -> tuple[PeerModel, float]:
    """Factorise the train interactions by alternating least squares of the library `implicit`.

    Args:
        ckg: train interactions.
        config: parameters of `implicit.als.AlternatingLeastSquares`.
        seed: of the initial vectors.

    Returns:
        The vectors as a model, and the seconds of the fit.

    Source:
        Hu, Koren and Volinsky, ICDM 2008; benfred/implicit.

    Deviations:
        None: it is the library's own code, on as many threads as torch has.
    """
    graph = TrainingGraph.from_ckg(ckg)
    matrix = scipy.sparse.csr_matrix(graph.interactions(), dtype=np.float32)
    threads = torch.get_num_threads()
    als = import_module("implicit.als").AlternatingLeastSquares(**config, random_state=seed, num_threads=threads)
    start = time.perf_counter()
    als.fit(matrix, show_progress=False)
    seconds = time.perf_counter() - start
    users, items = (torch.from_numpy(np.asarray(x, np.float32)) for x in (als.user_factors, als.item_factors))
    return PeerModel(graph, (users, items)), seconds

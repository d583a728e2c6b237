"""implicit (github.com/benfred/implicit), run by `gnn.bench.worker` in the peers' environment."""

from importlib import import_module
from typing import Any

import numpy as np
import scipy.sparse

from gnn.bench.serve import Run, serve

_K = 20


def als_iteration(arrays: dict[str, Any], n_threads: int) -> Run:
    """Return one iteration of alternating least squares, alpha 10, regularisation 10 (untuned)."""
    model = import_module("implicit.als").AlternatingLeastSquares(
        factors=int(arrays["dim"]), regularization=10.0, alpha=10.0, iterations=1, num_threads=n_threads, random_state=0
    )
    return _fit(model, arrays)


def bpr_epoch(arrays: dict[str, Any], n_threads: int) -> Run:
    """Return one epoch of matrix factorisation by BPR."""
    model = import_module("implicit.bpr").BayesianPersonalizedRanking(
        factors=int(arrays["dim"]), iterations=1, num_threads=n_threads, random_state=0
    )
    return _fit(model, arrays)


def evaluation(arrays: dict[str, Any], n_threads: int) -> Run:
    """Return an evaluation of given vectors by `implicit.evaluation`."""
    ranking_metrics_at_k = import_module("implicit.evaluation").ranking_metrics_at_k
    users, items = arrays["user_vectors"], arrays["item_vectors"]
    model = import_module("implicit.cpu.als").AlternatingLeastSquares(factors=users.shape[1], num_threads=n_threads)
    model.user_factors, model.item_factors = users, items
    train, test = (_matrix(arrays, split) for split in ("train", "test"))

    def run() -> float:
        found = ranking_metrics_at_k(model, train, test, K=_K, show_progress=False, num_threads=n_threads)
        return float(found["ndcg"])

    return run


def _fit(model: Any, arrays: dict[str, Any]) -> Run:
    matrix = _matrix(arrays, "train")

    def run() -> float:
        model.fit(matrix, show_progress=False)
        return float("nan")

    return run


def _matrix(arrays: dict[str, Any], split: str) -> scipy.sparse.csr_matrix:
    pairs = arrays[split]
    shape = (int(arrays["n_users"]), int(arrays["n_items"]))
    return scipy.sparse.csr_matrix((np.ones(len(pairs), np.float32), (pairs[:, 0], pairs[:, 1])), shape=shape)


if __name__ == "__main__":
    serve({"als-iteration": als_iteration, "bpr-epoch": bpr_epoch, "evaluation": evaluation})

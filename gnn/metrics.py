"""Metrics of a ranking: one written definition, over matrices of hits.

Every function takes `hits`, (n, K) bool: whether the item at each rank (column 0 = rank 1) is one of the user's
relevant items, and where it needs them `n_relevant`, (n,) int >= 1: how many relevant items each user has. It returns
(n,) float64, one value for each user; users without a relevant item are left out before. `k` is at most K.

The ranking behind it is full: all items but the ones masked (train, and for `test` also valid), raw scores, ties by
lower item index.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from gnn.errors import InputError

Hits = npt.NDArray[np.bool_]
Counts = npt.NDArray[np.int64]
Values = npt.NDArray[np.float64]


def recall_at_k(hits: Hits, n_relevant: Counts, k: int) -> Values:
    """Share of the user's relevant items in the first k: hits(k) / n_relevant.

    Source:
        He et al., SIGIR 2020 (LightGCN): the denominator is the number of the user's test items.

    Deviations:
        None.
    """
    return _n_hits(hits, k) / n_relevant


def precision_at_k(hits: Hits, n_relevant: Counts, k: int) -> Values:
    """Share of relevant items in the first k: hits(k) / k.

    Source:
        Manning et al., Introduction to Information Retrieval, 2008, section 8.4.

    Deviations:
        None.
    """
    return _n_hits(hits, k) / float(k)


def hit_at_k(hits: Hits, n_relevant: Counts, k: int) -> Values:
    """1 where at least one of the first k is relevant, else 0.

    Source:
        Deshpande and Karypis, TOIS 2004, section 5.

    Deviations:
        None.
    """
    return np.minimum(_n_hits(hits, k), 1.0)


def mrr_at_k(hits: Hits, n_relevant: Counts, k: int) -> Values:
    """1 / rank of the first relevant item, 0 where none is in the first k.

    Source:
        Voorhees, TREC-8 1999.

    Deviations:
        Cut at k.
    """
    first = _first(hits, k)
    return np.asarray(first.any(axis=1) / (first.argmax(axis=1) + 1.0), np.float64)


def ndcg_at_k(hits: Hits, n_relevant: Counts, k: int) -> Values:
    """DCG(k) / IDCG(k) with gain 1 / log2(rank + 1); the ideal ranking has min(k, n_relevant) hits first.

    Source:
        Järvelin and Kekäläinen, TOIS 2002, with binary gains.

    Deviations:
        None.
    """
    dcg = np.asarray(_first(hits, k) @ _discount(k), np.float64)
    ideal: Values = np.concatenate([[0.0], np.cumsum(_discount(k))])
    return dcg / ideal[np.minimum(n_relevant, k)]


def ndcg_kgat_legacy(hits: Hits, n_relevant: Counts, k: int) -> Values:
    """The NDCG of KGAT's released code, only to compare with numbers published with it.

    The ideal ranking is made of the hits that were retrieved (in all K columns), not of the relevant items, so that
    one hit at rank 1 scores 1 however many items are relevant: too high.

    Source:
        xiangwang1223/knowledge_graph_attention_network c03737b, `utility/metrics.py`, `ndcg_at_k`.

    Deviations:
        None.
    """
    dcg = np.asarray(_first(hits, k) @ _discount(k), np.float64)
    best: Values = np.concatenate([[0.0], np.cumsum(_discount(k))])[np.minimum(hits.sum(axis=1), k)]
    return np.divide(dcg, best, out=np.zeros_like(dcg), where=best > 0)


METRICS: dict[str, Callable[[Hits, Counts, int], Values]] = {
    "recall": recall_at_k,
    "ndcg": ndcg_at_k,
    "precision": precision_at_k,
    "hit": hit_at_k,
    "mrr": mrr_at_k,
}
"""What `evaluate` reports, as `NAME@K`."""


def _first(hits: Hits, k: int) -> Hits:
    if not 1 <= k <= hits.shape[1]:
        msg = f"k is {k}; expected 1 to {hits.shape[1]}, the number of ranks given"
        raise InputError(msg)
    return hits[:, :k]


def _n_hits(hits: Hits, k: int) -> Values:
    return np.asarray(_first(hits, k).sum(axis=1), np.float64)


def _discount(k: int) -> Values:
    return np.asarray(1.0 / np.log2(np.arange(2.0, k + 2.0)), np.float64)

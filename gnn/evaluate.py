"""Full-ranking evaluation: every item that is not masked is ranked for every user who has an item to find."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from gnn.errors import IndexRangeError, InputError
from gnn.metrics import METRICS, ndcg_kgat_legacy
from gnn.ranking import rank_items
from gnn.recommender import Recommender
from kg.ckg import CollaborativeKG
from kg.terms import TEST, TRAIN, VALID

_SEEN = {VALID: (TRAIN,), TEST: (TRAIN, VALID)}


@dataclass(frozen=True)
class Evaluation:
    """How well a model ranks.

    Attributes:
        metrics: `NAME@K` -> mean over users.
        per_user: user_id and a column for each metric, sorted by user index.
        n_users: how many users have an item to find.
        seconds: how long it took.
    """

    metrics: dict[str, float]
    per_user: pa.Table
    n_users: int
    seconds: float


def evaluate(
    model: Recommender,
    ckg: CollaborativeKG,
    split: str = TEST,
    ks: Sequence[int] = (10, 20),
    *,
    legacy: bool = False,
) -> Evaluation:
    """Rank all items for each user and compare with a split.

    Train items are masked, and for `test` also valid items; users without an item in the split are skipped. Scores are
    ranked raw; ties go to the lower item index. `gnn.metrics` defines the metrics.

    Args:
        model: built on this graph.
        ckg: the graph with its splits.
        split: `test` or `valid`.
        ks: cut-offs; one beyond the number of items is taken as all items.
        legacy: add `ndcg_kgat_legacy`, to compare with numbers published with KGAT's code; it is too high.

    Raises:
        InputError: if `split` cannot be evaluated or is empty, a cut-off is below 1, the model is of another graph, or
            a score is NaN.
        IndexRangeError: if an interaction of the split, or of one that is masked, is outside the graph.
    """
    start = time.perf_counter()
    _check(model, ckg, split, ks)
    device = model.graph.device
    users, items = ckg.user_items(split)
    chosen, n_relevant = np.unique(users, return_counts=True)
    relevant = torch.from_numpy(np.sort(users * ckg.n_items + items)).to(device)
    mask = torch.from_numpy(seen_keys(ckg, _SEEN[split])).to(device)
    width = min(max(ks), ckg.n_items)
    hits = np.zeros((len(chosen), max(ks)), dtype=bool)
    for start_row, ranked_users, ranked in rank_items(model, torch.from_numpy(chosen), mask, width):
        found = _contains(relevant, ranked_users[:, None] * ckg.n_items + ranked.items)
        found &= ranked.scores > -torch.inf  # an empty place names some item, too
        hits[start_row : start_row + len(ranked_users), :width] = found.cpu().numpy()
    measured = {**METRICS, "ndcg_kgat_legacy": ndcg_kgat_legacy} if legacy else METRICS
    values = {f"{name}@{k}": metric(hits, n_relevant, k) for name, metric in measured.items() for k in ks}
    per_user = pa.table({"user_id": ckg.nodes.to_ids(chosen), **values})
    metrics = {name: float(value.mean()) for name, value in values.items()}
    return Evaluation(metrics, per_user, len(chosen), time.perf_counter() - start)


def seen_keys(ckg: CollaborativeKG, splits: Sequence[str]) -> np.ndarray:
    """Return the interactions of some splits as user * n_items + item, sorted int64."""
    parts = [users * ckg.n_items + items for users, items in (ckg.user_items(split) for split in splits)]
    keys = np.sort(np.concatenate([np.empty(0, np.int64), *parts]))
    return keys[np.diff(keys, prepend=-1) > 0]  # np.unique hashes integers, which takes fifty times as long


def _check(model: Recommender, ckg: CollaborativeKG, split: str, ks: Sequence[int]) -> None:
    if split not in _SEEN:
        msg = f"`{split}` cannot be evaluated; expected {' or '.join(_SEEN)}"
        raise InputError(msg)
    if min(ks, default=0) < 1:
        msg = f"the cut-offs are {list(ks)}; expected at least one, each at least 1"
        raise InputError(msg)
    if not len(ckg.interactions[split]):
        msg = f"no interaction is in `{split}`, so there is nothing to evaluate; split the data set again"
        raise InputError(msg)
    graph = model.graph
    if (graph.n_users, graph.n_items) != (ckg.n_users, ckg.n_items):
        msg = (
            f"`{model.name}` was built for {graph.n_users} users and {graph.n_items} items, the graph has "
            f"{ckg.n_users} and {ckg.n_items}; give the graph that it was trained on"
        )
        raise InputError(msg)
    for name in (split, *_SEEN[split]):
        for what, index, n in zip(("a user", "an item"), ckg.user_items(name), (ckg.n_users, ckg.n_items), strict=True):
            outside = index[(index < 0) | (index >= n)]
            if len(outside):
                msg = f"{what} of `{name}` has the index {int(outside[0])}; expected 0 to {n - 1}"
                raise IndexRangeError(msg)


def _contains(keys: Tensor, wanted: Tensor) -> Tensor:
    place = torch.searchsorted(keys, wanted).clamp_max_(len(keys) - 1)
    return keys[place] == wanted

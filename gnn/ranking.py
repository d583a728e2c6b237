"""Chunked scoring and ranking of items: what evaluation and recommendation share."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from gnn.errors import IndexRangeError, InputError
from gnn.recommender import Recommender
from gnn.sparse import expand_ranges, masked_topk

_CHUNK = 1024


@dataclass(frozen=True, eq=False)
class Ranked:
    """The best items of some users, each (n, k), best first; a score of -inf marks an empty place."""

    items: Tensor
    scores: Tensor


@torch.no_grad()
def rank_items(
    model: Recommender, users: Tensor, masked: Tensor, k: int, *, only: Tensor | None = None
) -> Iterator[tuple[int, Tensor, Ranked]]:
    """Rank items for users, a chunk of users at a time.

    Args:
        model: scores raw; vectors are computed once where it has them.
        users: (n,) int64 from 0.
        masked: (n_masked,) int64 of user * n_items + item, sorted: what may not be recommended.
        k: how many items a user gets.
        only: (n_items,) bool: the items that may be recommended; None for all.

    Yields:
        The place of the chunk's first user in `users`, the chunk's users, and what was ranked for them.

    Raises:
        IndexRangeError: if a user is outside the graph.
        InputError: if a score is NaN.
    """
    graph = model.graph
    users = users.to(graph.device)
    if len(users) and not (int(users.min()) >= 0 and int(users.max()) < graph.n_users):
        msg = f"user indices run from {int(users.min())} to {int(users.max())}; expected 0 to {graph.n_users - 1}"
        raise IndexRangeError(msg)
    vectors = model.vectors()
    for start in range(0, len(users), _CHUNK):
        chunk = users[start : start + _CHUNK]
        scores = model.scores(chunk) if vectors is None else vectors[0][chunk] @ vectors[1].T
        if not torch.isfinite(scores).all():
            msg = f"`{model.name}` gives a score that is NaN or infinite; it diverged, train it with a smaller `lr`"
            raise InputError(msg)
        if only is not None:
            scores[:, ~only] = -torch.inf
        values, items = masked_topk(scores, _mask_of(chunk, masked, graph.n_items), k)
        yield start, chunk, Ranked(items, values)


def _mask_of(chunk: Tensor, masked: Tensor, n_items: int) -> tuple[Tensor, Tensor]:
    """Return (place in the chunk, item) of the masked keys of a chunk's users."""
    low, high = (torch.searchsorted(masked, key * n_items) for key in (chunk, chunk + 1))
    row, entry = expand_ranges(low, high)
    return row, masked[entry] % n_items

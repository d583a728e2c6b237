"""Chunked scoring and ranking of items: what evaluation and recommendation share."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from gnn.errors import IndexRangeError, InputError
from gnn.recommender import Recommender, Vectors
from gnn.sparse import csr_from_edges, expand_ranges, masked_topk, rank

_CHUNK = 1024
_VECTOR_CHUNK = 4096  # no table of scores is made


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
    if vectors is not None:
        yield from _rank_by_vectors(model, users, masked, k, vectors, only)
        return
    for start in range(0, len(users), _CHUNK):
        chunk = users[start : start + _CHUNK]
        scores = model.scores(chunk)
        _check_finite(scores, model)
        if only is not None:
            scores[:, ~only] = -torch.inf
        row, entry = expand_ranges(*_bounds(chunk, masked, graph.n_items))
        values, items = masked_topk(scores, (row, masked[entry] % graph.n_items), k)
        yield start, chunk, Ranked(items, values)


def _rank_by_vectors(
    model: Recommender, users: Tensor, masked: Tensor, k: int, vectors: Vectors, only: Tensor | None
) -> Iterator[tuple[int, Tensor, Ranked]]:
    n_items = model.graph.n_items
    allowed = torch.arange(n_items, device=users.device) if only is None else torch.nonzero(only).squeeze(1)
    place = torch.full((n_items,), -1, device=users.device).index_put_(
        (allowed,), torch.arange(len(allowed), device=users.device)
    )
    item_vectors = vectors[1][allowed]
    # a score is a sum of products of these: one pass over the vectors stands for one over all scores
    _check_finite((vectors[0].abs().amax(0) * item_vectors.abs().amax(0)).sum() if len(allowed) else vectors[0], model)
    for start in range(0, len(users), _VECTOR_CHUNK):
        chunk = users[start : start + _VECTOR_CHUNK]
        row, entry = expand_ranges(*_bounds(chunk, masked, n_items))
        column = place[masked[entry] % n_items]
        mask, _ = csr_from_edges(row[column >= 0], column[column >= 0], len(chunk), len(allowed))
        values, columns = rank(vectors[0][chunk], item_vectors, mask, k)
        yield start, chunk, Ranked(allowed[columns] if len(allowed) else columns, values)


def _check_finite(values: Tensor, model: Recommender) -> None:
    if not torch.isfinite(values).all():
        msg = f"`{model.name}` gives a score that is NaN or infinite; it diverged, train it with a smaller `lr`"
        raise InputError(msg)


def _bounds(chunk: Tensor, masked: Tensor, n_items: int) -> tuple[Tensor, Tensor]:
    """Return where the masked keys of each user of a chunk begin and end."""
    return torch.searchsorted(masked, chunk * n_items), torch.searchsorted(masked, (chunk + 1) * n_items)

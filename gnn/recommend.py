"""Recommendations: the best items that a user has not had yet."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import torch

from gnn.errors import InputError
from gnn.evaluate import seen_keys
from gnn.ranking import rank_items
from gnn.recommender import Recommender
from kg.ckg import CollaborativeKG
from kg.errors import first_five
from kg.terms import TEST, TRAIN, VALID

_SCHEMA = pa.schema([("user_id", pa.string()), ("item_id", pa.string()), ("rank", pa.int32()), ("score", pa.float32())])


def recommend(
    model: Recommender,
    ckg: CollaborativeKG,
    user_ids: Sequence[str],
    k: int,
    *,
    exclude: Sequence[str] = (TRAIN, VALID),
    items: Sequence[str] | None = None,
) -> pa.Table:
    """Recommend items to users.

    Args:
        model: built on this graph.
        ckg: the graph, whose interactions say what a user has had.
        user_ids: for whom.
        k: how many items each gets; fewer where fewer are left.
        exclude: splits whose items a user is not recommended again. `test` may not be among them: what is left out by
            the test set tells what is in it.
        items: recommend only these items; None for all.

    Returns:
        user_id, item_id, rank (from 1), score; in the order of `user_ids`, best first.

    Raises:
        InputError: if `k` is below 1, `exclude` names `test`, or an id is no user or no item.
    """
    if k < 1:
        msg = f"`k` is {k}; expected at least 1"
        raise InputError(msg)
    if TEST in exclude:
        msg = "`exclude` names `test`, which would leak the test set into the recommendations; use train and valid"
        raise InputError(msg)
    users = torch.from_numpy(_indices(ckg, user_ids, 0, ckg.n_users, "user"))
    only = None
    if items is not None:
        only = torch.zeros(ckg.n_items, dtype=torch.bool, device=model.graph.device)
        only[torch.from_numpy(_indices(ckg, items, ckg.n_users, ckg.n_items, "item"))] = True
    masked = torch.from_numpy(seen_keys(ckg, exclude)).to(model.graph.device)
    tables = [_SCHEMA.empty_table()]
    for start, _, ranked in rank_items(model, users, masked, k, only=only):
        row, place = (index.numpy() for index in torch.nonzero(torch.isfinite(ranked.scores)).cpu().T)
        chosen = ranked.items.cpu().numpy()[row, place]
        columns = {
            "user_id": [user_ids[start + int(r)] for r in row],
            "item_id": ckg.nodes.to_ids(ckg.n_users + chosen),
            "rank": (place + 1).astype(np.int32),
            "score": ranked.scores.cpu().numpy()[row, place],
        }
        tables.append(pa.table(columns, schema=_SCHEMA))
    return pa.concat_tables(tables)


def _indices(ckg: CollaborativeKG, names: Sequence[str], start: int, n: int, what: str) -> np.ndarray:
    unknown = [name for name in names if name not in ckg.nodes or not start <= ckg.nodes.idx_of(name) < start + n]
    if unknown:
        msg = f"{len(unknown)} ids are no {what}: {first_five(unknown)}; expected ids like `{ckg.nodes[start]}`"
        raise InputError(msg)
    return ckg.nodes.to_idx(names) - start

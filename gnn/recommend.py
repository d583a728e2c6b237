"""Recommendations by a model on its graph: the best items that a user has not had yet."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from gnn.checkpoint import check_graph, load_model
from gnn.data import TrainingGraph
from gnn.errors import InputError
from gnn.evaluate import seen_keys
from gnn.models.popularity import Popularity
from gnn.ranking import rank_items
from gnn.recommendations import (
    GRAPH,
    POPULARITY,
    RECOMMENDATIONS,
    SCORES,
    VECTORS,
    Ints,
    check_k,
    recommendation_table,
)
from gnn.recommender import Recommender
from gnn.serve import VectorIndex
from kg.ckg import CollaborativeKG
from kg.errors import first_five
from kg.terms import HEAD, TAIL, TEST, TRAIN, VALID

Mask = npt.NDArray[np.bool_]


def recommend(
    model: Recommender,
    ckg: CollaborativeKG,
    user_ids: Sequence[str],
    k: int,
    *,
    exclude: Sequence[str] = (TRAIN, VALID),
    only: Sequence[str] | None = None,
    block: Sequence[str] = (),
) -> pa.Table:
    """Recommend items to users.

    An item without any edge is not recommended: its score would be chance. A user of whom the model knows nothing (no
    edge, or no train interaction where it has no vectors) gets what most users have.

    Args:
        model: built on this graph.
        ckg: the graph, whose interactions say what a user has had.
        user_ids: for whom.
        k: how many items each gets; fewer where fewer are left.
        exclude: splits whose items a user is not recommended again. `test` may not be among them: what is left out by
            the test set tells what is in it.
        only: recommend only these items; None for all.
        block: never recommend these items.

    Returns:
        user_id, item_id, rank (from 1), score, why (see `gnn.recommendations.WHY`); in the order of `user_ids`, best
        first.

    Raises:
        InputError: if `k` is below 1, `exclude` names `test`, or an id is no user or no item.
    """
    tables = recommend_in_tiles(model, ckg, user_ids, k, exclude=exclude, only=only, block=block)
    table = pa.concat_tables([RECOMMENDATIONS.empty_table(), *tables])
    place = {name: place for place, name in enumerate(user_ids)}
    order = np.argsort([place[name] for name in table["user_id"].to_pylist()], kind="stable")
    return table.take(pa.array(order, pa.int64()))


def recommend_in_tiles(
    model: Recommender,
    ckg: CollaborativeKG,
    user_ids: Sequence[str],
    k: int,
    *,
    exclude: Sequence[str] = (TRAIN, VALID),
    only: Sequence[str] | None = None,
    block: Sequence[str] = (),
) -> Iterator[pa.Table]:
    """Recommend as `recommend` does, some users at a time; those who get what is popular come last."""
    check_k(k)
    if TEST in exclude:
        msg = "`exclude` names `test`, which would leak the test set into the recommendations; use train and valid"
        raise InputError(msg)
    users = _indices(ckg, user_ids, 0, ckg.n_users, "user")
    known = _Known.of(model, ckg)
    allowed = known.items & ~_listed(ckg, block)
    if only is not None:
        allowed &= _listed(ckg, only)
    masked = torch.from_numpy(seen_keys(ckg, exclude)).to(model.graph.device)
    only_these = torch.from_numpy(allowed).to(model.graph.device)
    item_ids = pa.array(ckg.nodes.ids[ckg.n_users : ckg.n_users + ckg.n_items], pa.string())
    is_known = known.users[users]
    for chosen, how in ((users[is_known], model), (users[~is_known], _popularity(model.graph))):
        for _, chunk, ranked in rank_items(how, torch.from_numpy(chosen), masked, k, only=only_these):
            scores, items = ranked.scores.cpu().numpy(), ranked.items.cpu().numpy()
            row, place = np.nonzero(np.isfinite(scores))
            user, item = chunk.cpu().numpy()[row], items[row, place]
            why = known.why(user, item) if how is model else np.full(len(row), POPULARITY)
            names = pa.array(ckg.nodes.to_ids(user), pa.string())
            yield recommendation_table(names, item_ids.take(pa.array(item)), place + 1, scores[row, place], why)


def recommend_from(
    path: Path,
    ckg: CollaborativeKG | None,
    user_ids: Sequence[str] | None,
    k: int,
    *,
    only: Sequence[str] | None = None,
    block: Sequence[str] = (),
) -> tuple[int, Iterator[pa.Table]]:
    """Recommend from a model directory: by its vectors alone where it has some, else by the model on its graph.

    Args:
        path: what `train` made.
        ckg: the graph that it was trained on; None to do without.
        user_ids: for whom; None for all.
        k: how many items each gets.
        only: recommend only these items; None for all.
        block: never recommend these items.

    Returns:
        The number of users, and the recommendations in tiles.

    Raises:
        InputError: as `recommend`, and if there are neither vectors nor a graph.
        CheckpointError: if the model was trained on another graph.
        FileFormatError: if `path` is no model directory, damaged, or of another version.
    """
    if ckg is not None:
        check_graph(path, ckg)
    if ckg is None or (path / "users.parquet").exists():
        index = VectorIndex.from_model_dir(path)
        chosen = index.users.ids.ids if user_ids is None else user_ids
        return len(chosen), index.recommend_in_tiles(chosen, k, only=only, block=block)
    chosen = ckg.nodes.ids[: ckg.n_users] if user_ids is None else user_ids
    return len(chosen), recommend_in_tiles(load_model(path, ckg), ckg, chosen, k, only=only, block=block)


@dataclass(frozen=True)
class _Known:
    """What a model knows something of, as masks of users and items; and which of them were in train."""

    users: Mask
    items: Mask
    trained: tuple[Mask, Mask]
    has_vectors: bool

    @classmethod
    def of(cls, model: Recommender, ckg: CollaborativeKG) -> "_Known":
        graph = model.graph
        ends = torch.cat([graph.users, graph.items + graph.n_users, graph.triples[:, [HEAD, TAIL]].ravel()])
        has_edge = (torch.bincount(ends, minlength=graph.n_nodes) > 0).cpu().numpy()
        users, items = ckg.user_items(TRAIN)
        trained = np.bincount(users, minlength=ckg.n_users) > 0, np.bincount(items, minlength=ckg.n_items) > 0
        has_vectors = type(model).embeddings is not Recommender.embeddings
        known_users = has_edge[: ckg.n_users] if has_vectors else trained[0]
        return cls(known_users, has_edge[ckg.n_users : ckg.n_users + ckg.n_items], trained, has_vectors)

    def why(self, user: Ints, item: Ints) -> Ints:
        if not self.has_vectors:
            return np.full(len(user), SCORES)
        return np.where(self.trained[0][user] & self.trained[1][item], VECTORS, GRAPH)


def _popularity(graph: TrainingGraph) -> Recommender:
    model = Popularity(Popularity.Config(), graph)
    model.fit()
    return model


def _listed(ckg: CollaborativeKG, names: Sequence[str]) -> Mask:
    listed = np.zeros(ckg.n_items, bool)
    listed[_indices(ckg, names, ckg.n_users, ckg.n_items, "item")] = True
    return listed


def _indices(ckg: CollaborativeKG, names: Sequence[str], start: int, n: int, what: str) -> Ints:
    unknown = [name for name in names if name not in ckg.nodes or not start <= ckg.nodes.idx_of(name) < start + n]
    if unknown:
        msg = f"{len(unknown)} ids are no {what}: {first_five(unknown)}; expected ids like `{ckg.nodes[start]}`"
        raise InputError(msg)
    return ckg.nodes.to_idx(names) - start

"""Serve recommendations from a model directory's vectors: no torch, no graph, no LLM."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from gnn.errors import InputError
from gnn.export import MODEL_FORMAT
from gnn.parquet import read_columns
from gnn.recommendations import (
    GRAPH,
    POPULARITY,
    RECOMMENDATIONS,
    VECTORS,
    Floats,
    Ints,
    best_places,
    check_k,
    recommendation_table,
)
from kg.errors import first_five
from kg.files import read_manifest
from kg.ids import IdMap

_TILE = 1 << 22


@dataclass(frozen=True, eq=False)
class Nodes:
    """Users, items or entities as they are served.

    Attributes:
        ids: of n nodes.
        vectors: (n, d) float32.
        degree: (n,) float32, the summed confidences of a node's edges; 0 where nothing is known of it.
        n_train: (n,) int32 train interactions; zeros for entities.
    """

    ids: IdMap
    vectors: Floats
    degree: Floats
    n_train: npt.NDArray[np.int32]

    def rows(self, names: Sequence[str]) -> Ints:
        """Return the row of each name, -1 for one that is unknown."""
        return np.fromiter((self.ids.idx_of(n) if n in self.ids else -1 for n in names), np.int64, len(names))


@dataclass(frozen=True, eq=False)
class VectorIndex:
    """Vectors of users, items and entities; a dot product of a user and an item is the score.

    Attributes:
        users: with the vectors that the model gave them.
        items: likewise.
        entities: what facts lead to; `gnn.export` says where their vectors are from.
        seen: ((n_users + 1,) start of each user's part, rows of items): what users had in train and valid.
    """

    users: Nodes
    items: Nodes
    entities: Nodes
    seen: tuple[Ints, Ints]

    @classmethod
    def from_model_dir(cls, path: Path) -> "VectorIndex":
        """Read what `train` made; nothing but this directory is needed.

        Raises:
            InputError: if the model has no vectors, or a vector is not finite.
            FileFormatError: if `path` is no model directory, damaged, or of another version.
        """
        manifest = read_manifest(path, MODEL_FORMAT)
        if "users.parquet" not in manifest["files"]:
            msg = f"`{path}` has no `users.parquet`: `{manifest['model']}` has no vectors; give its graph to recommend"
            raise InputError(msg)
        users = read_columns(path / "users.parquet", ["user_id", "vector", "degree", "n_train", "seen"])
        items = read_columns(path / "items.parquet", ["item_id", "vector", "degree", "n_train"])
        entities = read_columns(path / "entities.parquet", ["entity_id", "vector", "degree"])
        seen = users["seen"].combine_chunks()
        starts, rows = seen.offsets.to_numpy().astype(np.int64), seen.values.to_numpy().astype(np.int64)
        nodes = _nodes(users, "user", path), _nodes(items, "item", path), _nodes(entities, "entity", path)
        return cls(*nodes, (starts, rows))

    def recommend(
        self,
        user_ids: Sequence[str],
        k: int,
        *,
        new_only: bool = True,
        only: Sequence[str] | None = None,
        block: Sequence[str] = (),
    ) -> pa.Table:
        """Recommend items to some users.

        An item of which nothing is known (no interaction, no fact) is not recommended: its score would be chance. A
        user of whom nothing is known gets what most users have.

        Args:
            user_ids: for whom; an unknown one gets what is popular.
            k: how many items each gets; fewer where fewer are left.
            new_only: leave out what the user had in train and valid.
            only: recommend only these items; None for all.
            block: never recommend these items.

        Returns:
            user_id, item_id, rank (from 1), score, why (see `gnn.recommendations.WHY`); in the order of `user_ids`,
            best first, ties by the order of the items.

        Raises:
            InputError: if `k` is below 1, or `only` or `block` names what is no item.
        """
        tables = self.recommend_in_tiles(user_ids, k, new_only=new_only, only=only, block=block)
        return pa.concat_tables([RECOMMENDATIONS.empty_table(), *tables])

    def recommend_in_tiles(
        self,
        user_ids: Sequence[str],
        k: int,
        *,
        new_only: bool = True,
        only: Sequence[str] | None = None,
        block: Sequence[str] = (),
    ) -> Iterator[pa.Table]:
        """Recommend as `recommend` does, some users at a time; memory does not grow with users x items."""
        check_k(k)
        allowed = self._allowed(only, block)
        place = np.full(len(self.items.ids), -1)
        place[allowed] = np.arange(len(allowed))
        vectors, n_train = self.items.vectors[allowed], self.items.n_train[allowed]
        item_ids = pa.array([self.items.ids[i] for i in allowed], pa.string())
        size = max(1, _TILE // max(1, len(allowed)))
        for start in range(0, len(user_ids), size):
            names = user_ids[start : start + size]
            rows = self.users.rows(names)
            learned = (rows >= 0) & (self.users.degree[rows] > 0)
            scores = self.users.vectors[rows] @ vectors.T
            scores[~learned] = n_train
            if new_only:
                self._mask(rows, place, scores)
            row, column, rank = best_places(scores, k)
            trained = (self.users.n_train[rows][row] > 0) & (n_train[column] > 0)
            why = np.where(learned[row], np.where(trained, VECTORS, GRAPH), POPULARITY)
            users = pa.array(names, pa.string()).take(pa.array(row))
            yield recommendation_table(users, item_ids.take(pa.array(column)), rank, scores[row, column], why)

    def _allowed(self, only: Sequence[str] | None, block: Sequence[str]) -> Ints:
        allowed = self.items.degree > 0
        if only is not None:
            listed = np.zeros(len(allowed), bool)
            listed[self._items(only)] = True
            allowed &= listed
        allowed[self._items(block)] = False
        return np.flatnonzero(allowed)

    def _items(self, names: Sequence[str]) -> Ints:
        rows = self.items.rows(names)
        unknown = [names[int(i)] for i in np.flatnonzero(rows < 0)]
        if unknown:
            msg = f"{len(unknown)} ids are no item: {first_five(unknown)}; expected ids like `{self.items.ids[0]}`"
            raise InputError(msg)
        return rows

    def _mask(self, rows: Ints, place: Ints, scores: Floats) -> None:
        """Put -inf where a user has had the item."""
        starts, seen = self.seen
        counts = np.where(rows >= 0, starts[rows + 1] - starts[rows], 0)
        row = np.repeat(np.arange(len(rows)), counts)
        entry = np.arange(counts.sum()) + np.repeat(starts[rows] - np.cumsum(counts) + counts, counts)
        column = place[seen[entry]]
        scores[row[column >= 0], column[column >= 0]] = -np.inf


def _nodes(table: pa.Table, kind: str, path: Path) -> Nodes:
    vectors = table["vector"].combine_chunks()
    rows = vectors.flatten().to_numpy().reshape(-1, vectors.type.list_size)
    ids = table[f"{kind}_id"].to_pylist()
    bad = ~np.isfinite(rows).all(axis=1)
    if bad.any():
        names = [ids[i] for i in np.flatnonzero(bad)]
        msg = f"`{path}`: {len(names)} vectors are not finite: {first_five(names)}; the model diverged, train it again"
        raise InputError(msg)
    degree = table["degree"].to_numpy()
    n_train = table["n_train"].to_numpy() if "n_train" in table.column_names else np.zeros(len(table), np.int32)
    return Nodes(IdMap(tuple(ids)), rows, degree, n_train)

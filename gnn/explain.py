"""Which paths of the training graph support a recommendation."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gnn.errors import IndexRangeError, InputError
from kg.ckg import CollaborativeKG

Ints = npt.NDArray[np.int64]

INTERACTS_TYPE = 0
LONGEST = 3


@dataclass(frozen=True)
class GraphPath:
    """One path from a user to an item.

    Attributes:
        nodes: node indices of the `CollaborativeKG`, the user first, the item last.
        edge_types: one for each step, below 2 * n_relations; r + n_relations is relation r walked backwards.
        confidences: one for each step, in [0, 1]; 1 for interactions.
        score: product of the confidences over the square roots of the inner nodes' degrees.
    """

    nodes: tuple[int, ...]
    edge_types: tuple[int, ...]
    confidences: tuple[float, ...]
    score: float


@dataclass(frozen=True)
class _Keep:
    """Which of some ranked paths are returned."""

    limit: int
    per_pattern: int | None
    distinct_nodes: bool

    def first(self, paths: Iterable[GraphPath]) -> list[GraphPath]:
        chosen: list[GraphPath] = []
        patterns: Counter[tuple[int, ...]] = Counter()
        ways: set[tuple[int, ...]] = set()
        for path in paths:
            if self.distinct_nodes and path.nodes in ways:
                continue
            if self.per_pattern is not None and patterns[path.edge_types] == self.per_pattern:
                continue
            ways.add(path.nodes)
            patterns[path.edge_types] += 1
            chosen.append(path)
            if len(chosen) == self.limit:
                break
        return chosen


class PathFinder:
    """Finds the best supporting paths between users and items of one graph.

        score(p) = prod_{e in p} confidence(e) / prod_{v inner} sqrt(degree(v))

    Paths run over train interactions and facts in both directions, visit no node twice, and never use the interaction
    of the user with the item itself, nor a fact of confidence 0. A node's degree counts its edges in both directions,
    so that a path over a hub (a genre that half of the items have) counts less than one over a rare node. The score
    ranks paths of one pair; it is no probability, and no part of any model's score.

    Args:
        ckg: the graph; held-out interactions are not part of `ckg.edges()`, so no path can show one.

    Source:
        Own rule. Degree discount: resource-allocation index, Zhou, Lü and Zhang, Eur. Phys. J. B 71 (2009).

    Deviations:
        Square roots instead of degrees, so that length does not outweigh confidence.
    """

    def __init__(self, ckg: CollaborativeKG) -> None:
        self.ckg = ckg
        index, kind = ckg.edges()
        one_way = np.concatenate([np.ones(len(kind) // 2 - len(ckg.confidence)), ckg.confidence])
        kept = np.tile(one_way > 0, 2)
        (head, tail), kind, one_way = index[:, kept], kind[kept], one_way[one_way > 0]
        half = len(one_way)
        order = np.lexsort((kind, tail, head))
        place = np.argsort(order)
        self._head: Ints = head[order]
        self._tail: Ints = tail[order]
        self._kind: Ints = kind[order]
        self._confidence = np.concatenate([one_way, one_way])[order]
        self._mirror: Ints = place[np.roll(np.arange(2 * half), half)[order]]
        self._degree = np.bincount(head, minlength=ckg.n_nodes)
        self._start = np.concatenate([[0], np.cumsum(self._degree)])

    def find_paths(
        self,
        user_idx: int,
        item_idx: int,
        *,
        max_length: int = LONGEST,
        limit: int = 10,
        per_pattern: int | None = None,
        distinct_nodes: bool = False,
    ) -> list[GraphPath]:
        """Return the best paths from a user to an item, best first.

        Ties are ordered by length, nodes, number of different relations, and edge types. The work is bounded by the
        edges around the user's neighbours or those around the item's, whichever are fewer.

        Args:
            user_idx: from 0, as in `ckg.user_items`.
            item_idx: from 0, as in `ckg.user_items` (not shifted by the users).
            max_length: edges in a path, 1 to 3.
            limit: how many paths at most.
            per_pattern: how many paths at most with the same sequence of edge types; None for no bound. A small number
                keeps like-minded users, of whom there are many, from crowding out the facts.
            distinct_nodes: of paths over the same nodes by other relations, return only the first.

        Raises:
            IndexRangeError: if the user or the item is not in the graph.
            InputError: if `max_length`, `limit` or `per_pattern` is out of range.
        """
        self._check(user_idx, item_idx, max_length, limit, per_pattern)
        item = self.ckg.n_users + item_idx
        searches = (self._direct, self._two_steps, self._three_steps)[:max_length]
        keep = _Keep(limit, per_pattern, distinct_nodes)
        ranked = [path for search in searches for path in self._best(search(user_idx, item), keep)]
        return keep.first(sorted(ranked, key=lambda p: -p.score))

    def _check(self, user_idx: int, item_idx: int, max_length: int, limit: int, per_pattern: int | None) -> None:
        for what, idx, count in (("user", user_idx, self.ckg.n_users), ("item", item_idx, self.ckg.n_items)):
            if not 0 <= idx < count:
                msg = f"{what} index {idx} is outside the graph, which has {count} {what}s (0 to {count - 1})"
                raise IndexRangeError(msg)
        if not 1 <= max_length <= LONGEST:
            msg = f"`max_length` is {max_length}; expected 1 to {LONGEST} edges"
            raise InputError(msg)
        if limit < 1 or (per_pattern is not None and per_pattern < 1):
            msg = f"`limit` is {limit} and `per_pattern` {per_pattern}; expected at least 1 path"
            raise InputError(msg)

    def _edges_of(self, nodes: Ints) -> Ints:
        counts = self._degree[nodes]
        before = np.cumsum(counts) - counts
        edges: Ints = np.repeat(self._start[nodes] - before, counts) + np.arange(int(counts.sum()))
        return edges

    def _direct(self, user: int, item: int) -> Ints:
        edges = self._edges_of(np.array([user]))
        direct: Ints = edges[(self._tail[edges] == item) & (self._kind[edges] != INTERACTS_TYPE)]
        return direct[:, None]

    def _two_steps(self, user: int, item: int) -> Ints:
        out, back = self._edges_of(np.array([user])), self._mirror[self._edges_of(np.array([item]))]
        left, right = _join(self._tail[out], self._head[back])
        return np.stack([out[left], back[right]], axis=1)

    def _three_steps(self, user: int, item: int) -> Ints:
        out, back = self._edges_of(np.array([user])), self._mirror[self._edges_of(np.array([item]))]
        inner = self._between(np.unique(self._tail[out]), np.unique(self._head[back]))
        left, middle = _join(self._tail[out], self._head[inner])
        out, inner = out[left], inner[middle]
        left, right = _join(self._tail[inner], self._head[back])
        return np.stack([out[left], inner[left], back[right]], axis=1)

    def _between(self, sources: Ints, targets: Ints) -> Ints:
        """Return the edges that lead from one set of nodes to another, walking out from the cheaper one."""
        if self._degree[sources].sum() <= self._degree[targets].sum():
            edges = self._edges_of(sources)
            return edges[np.isin(self._tail[edges], targets)]
        edges = self._edges_of(targets)
        return self._mirror[edges[np.isin(self._tail[edges], sources)]]

    def _best(self, edges: Ints, keep: "_Keep") -> list[GraphPath]:
        nodes = np.concatenate([self._head[edges[:, :1]], self._tail[edges]], axis=1)
        simple = (np.diff(np.sort(nodes, axis=1), axis=1) > 0).all(axis=1)
        nodes, edges = nodes[simple], edges[simple]
        kinds, confidence = self._kind[edges], self._confidence[edges]
        degrees = self._degree[nodes[:, 1:-1]].astype(np.float64)
        score = confidence.prod(axis=1) / np.sqrt(degrees.prod(axis=1))
        relations = np.sort(kinds % self.ckg.n_relations, axis=1)
        n_different = (np.diff(relations, axis=1) > 0).sum(axis=1)
        order = np.lexsort([*kinds.T[::-1], n_different, *nodes.T[::-1], -score])
        best = (
            GraphPath(
                tuple(nodes[row].tolist()),
                tuple(kinds[row].tolist()),
                tuple(confidence[row].tolist()),
                float(score[row]),
            )
            for row in order
        )
        return keep.first(best)


def find_paths(
    ckg: CollaborativeKG, user_idx: int, item_idx: int, *, max_length: int = LONGEST, limit: int = 10
) -> list[GraphPath]:
    """Return the best supporting paths of one pair; `PathFinder` serves many pairs from one index.

    Args:
        ckg: the graph.
        user_idx: from 0.
        item_idx: from 0, not shifted by the users.
        max_length: edges in a path, 1 to 3.
        limit: how many paths at most.

    Raises:
        IndexRangeError: if the user or the item is not in the graph.
        InputError: if `max_length` or `limit` is out of range.
    """
    return PathFinder(ckg).find_paths(user_idx, item_idx, max_length=max_length, limit=limit)


def _join(left: Ints, right: Ints) -> tuple[Ints, Ints]:
    """Return all (i, j) with left[i] == right[j]."""
    order = np.argsort(right, kind="stable")
    first = np.searchsorted(right[order], left, side="left")
    counts = np.searchsorted(right[order], left, side="right") - first
    before = np.cumsum(counts) - counts
    place = np.repeat(first - before, counts) + np.arange(int(counts.sum()))
    return np.repeat(np.arange(len(left)), counts), order[place]

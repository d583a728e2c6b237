"""The collaborative knowledge graph (CKG): the only place where ids become indices."""

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from kg.errors import SplitError
from kg.graph import Graph
from kg.ids import IdMap
from kg.terms import HEAD, INTERACTS, ITEM, RELATION, SPLITS, TAIL, TRAIN, UNSPLIT, USER

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class CollaborativeKG:
    """Interactions and facts over one contiguous index.

    Nodes are laid out [users | items | other entities], each part sorted by id. Relation 0 is `interacts`; the inverse
    of relation r is r + n_relations. A hyperedge is a node of the last part with one edge (member, role, hyperedge)
    for each member, never a clique. Parallel edges (same head and tail, other relation) stay separate; one fact that
    several sources state is one edge whose confidence is 1 - prod(1 - c) over its sources (noisy or).

    Attributes:
        nodes: every id; index = place.
        n_users: users are nodes 0 .. n_users - 1.
        n_items: items are nodes n_users .. n_users + n_items - 1.
        relations: relation names; relations[0] = "interacts".
        interactions: split -> (n, 2) int64 of (user index, item index), both as node indices, sorted.
        triples: (n, 3) int64 of (head, relation, tail), distinct, sorted, relation >= 1.
        confidence: (n,) float64 in [0, 1], one for each triple.

    Source:
        Wang et al., KDD 2019 (KGAT), section 2: collaborative knowledge graph.

    Deviations:
        Hyperedges by star expansion (the paper has none); confidence kept beside each triple.
    """

    nodes: IdMap
    n_users: int
    n_items: int
    relations: tuple[str, ...]
    interactions: dict[str, Ints]
    triples: Ints
    confidence: Floats

    @classmethod
    def from_graph(cls, graph: Graph, interactions: dict[str, Ints] | None = None) -> Self:
        """Index a graph.

        Args:
            graph: what to index.
            interactions: already indexed, as the attribute says, in place of the graph's; `kg.stream` has them.

        Raises:
            SplitError: if interactions have no split yet, or none is in `train`.
        """
        if interactions is None:
            check_splits(set(graph.interactions["split"].unique().to_pylist()))
        users, items = graph.ids_of(USER), graph.ids_of(ITEM)
        placed = set(users) | set(items)
        rest = (*graph.entities["entity_id"].to_pylist(), *graph.hyperedges["hyperedge_id"].to_pylist())
        nodes = IdMap((*users, *items, *sorted(i for i in rest if i not in placed)))
        facts = _facts(graph)
        relations = (INTERACTS, *sorted(pc.unique(facts["relation"]).to_pylist()))
        triples, confidence = _index_facts(facts, nodes, IdMap(relations))
        indexed = interactions or {split: _index_interactions(graph, split, nodes) for split in SPLITS}
        return cls(nodes, len(users), len(items), relations, indexed, triples, confidence)

    @property
    def n_nodes(self) -> int:
        """Number of users, items, other entities and hyperedges."""
        return len(self.nodes)

    @property
    def n_relations(self) -> int:
        """Number of relations, `interacts` included, inverses not."""
        return len(self.relations)

    def user_items(self, split: str) -> tuple[Ints, Ints]:
        """Return (user_idx, item_idx) of a split, each (n,) int64 from 0; item_idx is NOT shifted by n_users."""
        pairs = self.interactions[split]
        return pairs[:, 0], pairs[:, 1] - self.n_users

    def edges(self) -> tuple[Ints, Ints]:
        """Return train interactions and triples, both directions.

        Returns:
            edge_index, (2, n) int64 with row 0 = head and row 1 = tail; edge_type, (n,) int64 below 2 * n_relations.
        """
        train = self.interactions[TRAIN]
        head = np.concatenate([train[:, 0], self.triples[:, HEAD]])
        tail = np.concatenate([train[:, 1], self.triples[:, TAIL]])
        kind = np.concatenate([np.zeros(len(train), np.int64), self.triples[:, RELATION]])
        index = np.stack([np.concatenate([head, tail]), np.concatenate([tail, head])])
        return index, np.concatenate([kind, kind + self.n_relations])

    def without_triples(self) -> Self:
        """Return the same users, items and interactions with no fact: the no-graph control."""
        keep = IdMap(self.nodes.ids[: self.n_users + self.n_items])
        none = np.empty((0, 3), np.int64)
        return type(self)(keep, self.n_users, self.n_items, (INTERACTS,), self.interactions, none, np.empty(0))


def check_splits(splits: set[str]) -> None:
    """Check that a model can learn from interactions in these splits.

    Raises:
        SplitError: if some have no split yet, or none is in `train`.
    """
    if UNSPLIT in splits:
        msg = "the interactions are not split yet; run `kglift data split` (by time, leave-last-out, ratio) first"
        raise SplitError(msg)
    if TRAIN not in splits:
        msg = (
            f"no interaction is in `train` (got {', '.join(sorted(splits)) or 'none'}); there is nothing to learn from"
        )
        raise SplitError(msg)


def _facts(graph: Graph) -> pa.Table:
    """Return head, relation, tail, confidence of every triple and of every spoke of a hyperedge's star."""
    members, edges = graph.members, graph.hyperedges
    place = pc.index_in(members["hyperedge_id"], value_set=edges["hyperedge_id"].combine_chunks())
    weight = edges["weight"].combine_chunks().take(place.combine_chunks())
    star = pa.table(
        {
            "head": members["entity_id"],
            "relation": pc.binary_join_element_wise("member", members["role"], "/"),
            "tail": members["hyperedge_id"],
            "confidence": pc.min_element_wise(weight, 1.0),
        }
    )
    triples = graph.triples.select(star.column_names)
    return pa.concat_tables([triples, star.cast(triples.schema)]).combine_chunks()


def _index_facts(facts: pa.Table, nodes: IdMap, relations: IdMap) -> tuple[Ints, Floats]:
    columns = [_to_idx(facts[name], ids) for name, ids in (("head", nodes), ("relation", relations), ("tail", nodes))]
    order = np.lexsort(columns[::-1])
    rows = np.stack(columns, axis=1)[order]
    if not len(rows):
        return rows, np.empty(0)
    first = np.flatnonzero(np.concatenate([[True], (rows[1:] != rows[:-1]).any(axis=1)]))
    doubt = 1.0 - facts["confidence"].to_numpy()[order]
    return rows[first], 1.0 - np.multiply.reduceat(doubt, first)


def _index_interactions(graph: Graph, split: str, nodes: IdMap) -> Ints:
    table = graph.interactions_of(split)
    users, items = _to_idx(table["user_id"], nodes), _to_idx(table["item_id"], nodes)
    order = np.lexsort((items, users))
    return np.stack([users[order], items[order]], axis=1)


def _to_idx(column: pa.ChunkedArray, ids: IdMap) -> Ints:
    """Map a column as `IdMap.to_idx` does, without a Python object for each row."""
    distinct = column.combine_chunks().dictionary_encode()
    places: Ints = ids.to_idx(distinct.dictionary.to_pylist())[distinct.indices.to_numpy()]
    return places

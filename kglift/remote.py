"""A stored graph as a remote backend of PyTorch Geometric: features, edges and neighbours are read as they are needed.

`StoreFeatures` and `StoreEdges` are PyG's `FeatureStore` and `GraphStore` over a store of `db`, `StoreSampler` is its
sampler, so that `NodeLoader` and models of PyG work on a graph that is not in memory: only the ids of the nodes are.
PyG's own `NeighborLoader` would read all edges, and needs pyg-lib besides.

Nodes are `user`, `item` and `entity` (hyperedges are entities), numbered as `gnn.pyg.to_hetero_data` numbers them. An
edge type is (kind of head, relation, kind of tail); with the prefix `rev_` it is the same edges from tail to head.

Example:
    >>> nodes = StoredNodes.read(store)
    >>> sampler = StoreSampler(store, nodes, fan_out=(10, 5), seed=0)
    >>> data = (StoreFeatures(store, nodes), StoreEdges(store, nodes))
    >>> loader = NodeLoader(data, sampler, ("user", torch.arange(nodes.count("user"))), batch_size=512)
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor
from torch_geometric.data import EdgeAttr, FeatureStore, GraphStore, TensorAttr
from torch_geometric.sampler import BaseSampler, EdgeSamplerInput, HeteroSamplerOutput, NodeSamplerInput

import db.store
from kg.errors import ConfigError
from kg.terms import INTERACTS, ITEM, USER

EdgeType = tuple[str, str, str]
Ints = npt.NDArray[np.int64]

KINDS: Final = ("user", "item", "entity")
REVERSED: Final = "rev_"
_NODE_KIND: Final = "CASE WHEN {0}.type = 'User' THEN 'user' WHEN {0}.type = 'Item' THEN 'item' ELSE 'entity' END"
_NODES: Final = (
    "MATCH (e:Entity) RETURN e.entity_id AS id, e.type AS type",
    "MATCH (h:Hyperedge) RETURN h.hyperedge_id AS id, '' AS type",
)
_EDGES: Final = (
    ("(a:Entity)-[r:INTERACTED]->(b:Entity)", "r.split = 'train'", f"'{INTERACTS}'", "entity_id"),
    ("(a:Entity)-[r]->(b:Entity)", "r.relation IS NOT NULL", "r.relation", "entity_id"),
    ("(a:Entity)<-[r:MEMBER]-(b:Hyperedge)", "r.role IS NOT NULL", "'member/' + r.role", "hyperedge_id"),
)
_EDGE_SCHEMA: Final = pa.schema([("head", pa.string()), ("relation", pa.string()), ("tail", pa.string())])


@dataclass(frozen=True)
class StoredNodes:
    """The ids of all nodes of a store, and their numbers: all that is held in memory of the graph.

    Attributes:
        ids: kind -> ids, sorted; index = number of the node within its kind.
    """

    ids: Mapping[str, pa.Array]

    @classmethod
    def read(cls, store: db.store.GraphStore) -> Self:
        """Ask a store for the ids of its nodes."""
        found = pa.concat_tables([store.query(statement).cast(_ID_SCHEMA) for statement in _NODES])
        kinds = {USER: "user", ITEM: "item"}
        kind = pa.array([kinds.get(t, "entity") for t in found["type"].to_pylist()], pa.string())
        return cls({k: found.filter(pc.equal(kind, k))["id"].sort().combine_chunks() for k in KINDS})

    def count(self, kind: str) -> int:
        """Return how many nodes of a kind there are."""
        return len(self.ids[kind])

    def locate(self, ids: pa.ChunkedArray) -> tuple[npt.NDArray[np.int8], Ints]:
        """Return the kind of each id, as its place in `KINDS`, and its number within the kind."""
        kinds, numbers = np.zeros(len(ids), np.int8), np.full(len(ids), -1, np.int64)
        for place, kind in enumerate(KINDS):
            here = pc.fill_null(pc.index_in(ids, value_set=self.ids[kind]), -1).to_numpy().astype(np.int64)
            kinds[here >= 0], numbers[here >= 0] = place, here[here >= 0]
        return kinds, numbers


_ID_SCHEMA: Final = pa.schema([("id", pa.string()), ("type", pa.string())])


class StoreFeatures(FeatureStore):  # type: ignore[misc]
    """PyG's `FeatureStore` over the features of a store; the attribute of a tensor is the kind of feature.

    A node without a vector of a kind gets zeros. The attribute `n_id` is the number of the node itself.
    """

    def __init__(self, store: db.store.GraphStore, nodes: StoredNodes) -> None:
        super().__init__()
        self._store, self._nodes = store, nodes
        rows = store.query(
            f"MATCH (e:Entity)-[:HAS_FEATURE]->(f:Feature) RETURN DISTINCT {_NODE_KIND.format('e')} AS kind, "
            "f.kind AS name, size(f.vector) AS width"
        ).to_pylist()
        self._widths = {(row["kind"], row["name"]): int(row["width"]) for row in rows}

    def get_all_tensor_attrs(self) -> list[TensorAttr]:
        """Return the kinds of features that some node of each kind has."""
        return [TensorAttr(kind, name) for kind, name in (*self._widths, *((kind, "n_id") for kind in KINDS))]

    def _get_tensor(self, attr: TensorAttr) -> Tensor:
        every = torch.arange(self._nodes.count(attr.group_name))
        chosen = every if attr.index is None else every[attr.index]
        if attr.attr_name == "n_id":
            return chosen
        ids = self._nodes.ids[attr.group_name].take(pa.array(chosen.numpy()))
        rows = self._store.query(
            "MATCH (e:Entity)-[:HAS_FEATURE]->(f:Feature) WHERE f.kind = $kind AND e.entity_id IN $ids "
            "RETURN e.entity_id AS id, f.vector AS vector",
            {"kind": attr.attr_name, "ids": ids.to_pylist()},
        )
        tensor = torch.zeros(len(ids), self._widths[attr.group_name, attr.attr_name])
        if len(rows):
            place = pc.index_in(ids, value_set=rows["id"].combine_chunks()).to_numpy(zero_copy_only=False)
            known = ~np.isnan(place)
            vectors = torch.tensor(rows["vector"].to_pylist())
            tensor[torch.from_numpy(known)] = vectors[torch.from_numpy(place[known].astype(np.int64))]
        return tensor

    def _get_tensor_size(self, attr: TensorAttr) -> tuple[int, ...]:
        n = self._nodes.count(attr.group_name)
        return (n,) if attr.attr_name == "n_id" else (n, self._widths[attr.group_name, attr.attr_name])

    def _put_tensor(self, tensor: Tensor, attr: TensorAttr) -> bool:
        return False  # PyG's way to say that it was not taken: graphs are written by `db`

    def _remove_tensor(self, attr: TensorAttr) -> bool:
        return False


class StoreEdges(GraphStore):  # type: ignore[misc]
    """PyG's `GraphStore` over the train interactions, facts and memberships of a store."""

    def __init__(self, store: db.store.GraphStore, nodes: StoredNodes) -> None:
        super().__init__()
        self._store, self._nodes = store, nodes
        found = set()
        for pattern, condition, relation, _ in _EDGES:
            tail = "'entity'" if "Hyperedge" in pattern else _NODE_KIND.format("b")
            rows = store.query(
                f"MATCH {pattern} WHERE {condition} RETURN DISTINCT {_NODE_KIND.format('a')} AS head, "
                f"{relation} AS relation, {tail} AS tail"
            ).to_pylist()
            found |= {(row["head"], row["relation"], row["tail"]) for row in rows}
        self.edge_types: list[EdgeType] = sorted(found)

    def get_all_edge_attrs(self) -> list[EdgeAttr]:
        """Return every edge type, and its reverse."""
        both = [*self.edge_types, *((tail, REVERSED + relation, head) for head, relation, tail in self.edge_types)]
        return [EdgeAttr(kind, "coo", size=(self._nodes.count(kind[0]), self._nodes.count(kind[2]))) for kind in both]

    def _get_edge_index(self, edge_attr: EdgeAttr) -> tuple[Tensor, Tensor] | None:
        first, relation, last = edge_attr.edge_type
        is_reversed = relation.startswith(REVERSED)
        wanted = (last, relation.removeprefix(REVERSED), first) if is_reversed else edge_attr.edge_type
        if wanted not in self.edge_types or edge_attr.layout.value != "coo":
            return None
        rows = pa.concat_tables([
            self._store.query(
                f"MATCH {pattern} WHERE {condition} AND {name} = $relation "
                f"RETURN DISTINCT a.entity_id AS head, {name} AS relation, b.{key} AS tail",
                {"relation": wanted[1]},
            ).cast(_EDGE_SCHEMA)
            for pattern, condition, name, key in _EDGES
        ])  # fmt: skip
        head_kind, head = self._nodes.locate(rows["head"])
        tail_kind, tail = self._nodes.locate(rows["tail"])
        chosen = (head_kind == KINDS.index(wanted[0])) & (tail_kind == KINDS.index(wanted[2]))
        order = np.lexsort((tail[chosen], head[chosen]))
        ends = torch.from_numpy(head[chosen][order]), torch.from_numpy(tail[chosen][order])
        return ends[::-1] if is_reversed else ends

    def _put_edge_index(self, edge_index: Any, edge_attr: EdgeAttr) -> bool:
        return False

    def _remove_edge_index(self, edge_attr: EdgeAttr) -> bool:
        return False


class StoreSampler(BaseSampler):  # type: ignore[misc]
    """Sample neighbours hop by hop; each hop asks the store for the edges of the nodes that are new in it.

    Of each node and edge type at most `fan_out[hop]` neighbours are drawn, without replacement. Equal seeds give equal
    samples. Edges point to the node that was asked about, as PyG's layers want it.

    Args:
        store: what is asked.
        nodes: of the same store.
        fan_out: most neighbours of a node by one edge type, for each hop.
        relations: only these, e.g. `("interacts",)`; None for all.
        seed: of the draws.
    """

    def __init__(
        self,
        store: db.store.GraphStore,
        nodes: StoredNodes,
        fan_out: tuple[int, ...],
        *,
        relations: tuple[str, ...] | None = None,
        seed: int = 0,
    ) -> None:
        if not fan_out or min(fan_out) < 1:
            msg = f"`fan_out` is {fan_out}; expected a number above 0 for each hop, e.g. (10, 5)"
            raise ConfigError(msg)
        self._store, self._nodes, self._fan_out, self._relations = store, nodes, fan_out, relations
        self._patterns = [edge for edge in _EDGES if relations is None or _holds(edge[2], relations)]
        self._generator = np.random.default_rng(seed)
        self.n_edges_read = 0

    def sample_from_nodes(self, index: NodeSamplerInput, **_: Any) -> HeteroSamplerOutput:
        """Sample around seed nodes of one kind; see `BaseSampler.sample_from_nodes`."""
        out = self.sample({index.input_type: index.node})
        out.metadata = (index.input_id, index.time)
        return out

    def sample_from_edges(self, index: EdgeSamplerInput, neg_sampling: Any = None) -> HeteroSamplerOutput:
        """Sample around both ends of seed edges; see `BaseSampler.sample_from_edges`.

        Raises:
            ConfigError: if negatives are asked for: they are drawn by who knows which items a user has.
        """
        if neg_sampling is not None:
            msg = f"`neg_sampling` is {neg_sampling}; the store's sampler draws none, give the negatives as edges"
            raise ConfigError(msg)
        first, _, last = index.input_type
        ends = {first: index.row, last: index.col} if first != last else {first: torch.cat([index.row, index.col])}
        out = self.sample(ends)
        places = [torch.searchsorted(out.node[k].sort().values, n) for k, n in ((first, index.row), (last, index.col))]
        local = torch.stack([out.node[k].argsort()[p] for k, p in zip((first, last), places, strict=True)])
        out.metadata = (index.input_id, local, index.label, None)
        return out

    def sample(self, seeds: Mapping[str, Tensor]) -> HeteroSamplerOutput:
        """Sample around seeds of several kinds; the distinct seeds come first among the nodes of their kind."""
        taken = {kind: _Numbering() for kind in KINDS}
        frontier = {kind: taken[kind].add(numbers.numpy()) for kind, numbers in seeds.items()}
        rows: dict[EdgeType, list[Ints]] = {}
        cols: dict[EdgeType, list[Ints]] = {}
        for fan_out in self._fan_out:
            reached: dict[str, list[Ints]] = {kind: [] for kind in KINDS}
            for kind, here, there in self._edges_of(frontier):
                kept = self._draw(here, fan_out)
                there_kind, _, here_kind = kind
                reached[there_kind].append(taken[there_kind].add(there[kept]))
                rows.setdefault(kind, []).append(taken[there_kind].place(there[kept]))
                cols.setdefault(kind, []).append(taken[here_kind].place(here[kept]))
            frontier = {kind: np.concatenate(new) for kind, new in reached.items() if new}
        return HeteroSamplerOutput(
            node={kind: torch.from_numpy(numbering.numbers()) for kind, numbering in taken.items() if len(numbering)},
            row={kind: torch.from_numpy(np.concatenate(parts)) for kind, parts in rows.items()},
            col={kind: torch.from_numpy(np.concatenate(parts)) for kind, parts in cols.items()},
            edge=dict.fromkeys(rows),
        )

    def _edges_of(self, frontier: Mapping[str, Ints]) -> Iterator[tuple[EdgeType, Ints, Ints]]:
        """Yield (edge type towards the frontier, number in the frontier, number of the neighbour)."""
        ids = [
            i for kind, numbers in frontier.items() for i in self._nodes.ids[kind].take(pa.array(numbers)).to_pylist()
        ]
        for pattern, condition, name, key in self._patterns if ids else ():
            for end, column in (("head", "a.entity_id"), ("tail", f"b.{key}")):
                found = self._store.query(
                    f"MATCH {pattern} WHERE {column} IN $ids AND {condition} "
                    f"RETURN DISTINCT a.entity_id AS head, {name} AS relation, b.{key} AS tail",
                    {"ids": ids},
                ).cast(_EDGE_SCHEMA)
                self.n_edges_read += len(found)
                yield from self._typed(found, "tail" if end == "head" else "head", end)

    def _typed(self, found: pa.Table, there: str, here: str) -> Iterator[tuple[EdgeType, Ints, Ints]]:
        found = found.sort_by([(column, "ascending") for column in ("head", "relation", "tail")])
        (here_kind, here_idx), (there_kind, there_idx) = (self._nodes.locate(found[end]) for end in (here, there))
        relation = found["relation"].to_numpy()
        for name in sorted(set(relation) if self._relations is None else set(relation) & set(self._relations)):
            for a, b in np.unique(np.stack([there_kind, here_kind])[:, relation == name], axis=1).T:
                chosen = (relation == name) & (there_kind == a) & (here_kind == b)
                edge = name if here == "tail" else REVERSED + name
                yield (KINDS[a], edge, KINDS[b]), here_idx[chosen], there_idx[chosen]

    def _draw(self, here: Ints, fan_out: int) -> Ints:
        """Choose at most `fan_out` rows of each value, each set of rows as likely as another."""
        order = np.lexsort((self._generator.random(len(here)), here))
        ordered = here[order]
        first = np.searchsorted(ordered, ordered)
        return np.sort(order[np.arange(len(here)) - first < fan_out])


def _holds(name: str, relations: tuple[str, ...]) -> bool:
    """Say whether the pattern whose relation is the expression `name` can have one of some relations."""
    bare = [relation.removeprefix(REVERSED) for relation in relations]
    if name == f"'{INTERACTS}'":
        return INTERACTS in bare
    is_member = [relation.startswith("member/") for relation in bare if relation != INTERACTS]
    return any(is_member) if name.startswith("'member/'") else not all(is_member)


class _Numbering:
    """Numbers in the order in which they first came."""

    def __init__(self) -> None:
        self._places: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._places)

    def add(self, numbers: Ints) -> Ints:
        """Take numbers in; returns those that are new."""
        new = [n for n in dict.fromkeys(numbers.tolist()) if n not in self._places]
        self._places |= {n: len(self._places) + place for place, n in enumerate(new)}
        return np.array(new, np.int64)

    def place(self, numbers: Ints) -> Ints:
        """Return the places of numbers that were taken in."""
        return np.array([self._places[n] for n in numbers.tolist()], np.int64)

    def numbers(self) -> Ints:
        """Return all, in order."""
        return np.array(list(self._places), np.int64)

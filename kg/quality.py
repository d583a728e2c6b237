"""Statistics of a graph: how much there is, how it is spread, and what covers what."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kg.graph import Graph
from kg.terms import ITEM, SOURCE_KINDS, USER

QUANTILES = (0.0, 0.25, 0.5, 0.75, 0.95, 1.0)


@dataclass(frozen=True)
class Description:
    """What a graph holds, as plain values.

    Attributes:
        tables: rows of each table.
        entity_types: entities of each type.
        relations: triples of each relation.
        hyperedge_relations: hyperedges of each relation.
        splits: interactions of each split.
        sources: sources of each kind.
        models: sources of each LLM.
        facts_by_kind: triples and hyperedges of each kind of source.
        degrees: `user_interactions`, `item_interactions`, `item_facts`, `entity_facts` -> quantile -> degree, zeros
            included; a fact counts once however many sources state it, and a membership counts as a fact.
        density: share of all user-item pairs that interact; 0 where there are no pairs.
        item_coverage: share of items with at least one fact.
        user_coverage: share of users with at least one fact.
    """

    tables: dict[str, int]
    entity_types: dict[str, int]
    relations: dict[str, int]
    hyperedge_relations: dict[str, int]
    splits: dict[str, int]
    sources: dict[str, int]
    models: dict[str, int]
    facts_by_kind: dict[str, int]
    degrees: dict[str, dict[str, float]]
    density: float
    item_coverage: float
    user_coverage: float

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)


def describe(graph: Graph) -> Description:
    """Count what a graph holds.

    Degrees are over all splits: this describes data, it feeds no model.
    """
    users, items = graph.ids_of(USER), graph.ids_of(ITEM)
    others = sorted(set(graph.entities["entity_id"].to_pylist()) - set(users) - set(items))
    facts = _distinct_ends(graph)
    user_degree = _degrees(users, graph.interactions["user_id"])
    item_degree = _degrees(items, graph.interactions["item_id"])
    user_facts, item_facts, other_facts = (_degrees(ids, facts) for ids in (users, items, others))
    n_pairs = len(users) * len(items)
    return Description(
        tables=graph.counts(),
        entity_types=_counted(graph.entities["type"]),
        relations=_counted(graph.triples["relation"]),
        hyperedge_relations=_counted(graph.hyperedges["relation"]),
        splits=_counted(graph.interactions["split"]),
        sources=_counted(graph.sources["kind"]),
        models=_counted(graph.sources["model"].drop_null()),
        facts_by_kind=_facts_by_kind(graph),
        degrees={
            "user_interactions": _quantiles(user_degree),
            "item_interactions": _quantiles(item_degree),
            "item_facts": _quantiles(item_facts),
            "entity_facts": _quantiles(other_facts),
        },
        density=len(graph.interactions) / n_pairs if n_pairs else 0.0,
        item_coverage=_share_positive(item_facts),
        user_coverage=_share_positive(user_facts),
    )


def _counted(column: pa.ChunkedArray) -> dict[str, int]:
    pairs = ((str(v["values"]), int(v["counts"])) for v in pc.value_counts(column).to_pylist())
    return dict(sorted(pairs, key=lambda pair: (-pair[1], pair[0])))


def _facts_by_kind(graph: Graph) -> dict[str, int]:
    counts = dict.fromkeys(SOURCE_KINDS, 0)
    sources = graph.sources["source"].combine_chunks()
    for table in (graph.triples, graph.hyperedges):
        place = pc.index_in(table["source"], value_set=sources)
        for kind, count in _counted(graph.sources["kind"].combine_chunks().take(place.combine_chunks())).items():
            counts[kind] += count
    return counts


def _distinct_ends(graph: Graph) -> pa.ChunkedArray:
    key = ["head", "relation", "tail"]
    triples = graph.triples.select(key).group_by(key).aggregate([])
    chunks = [c for column in (triples["head"], triples["tail"], graph.members["entity_id"]) for c in column.chunks]
    return pa.chunked_array(chunks, pa.string())


def _degrees(ids: Iterable[str], column: pa.ChunkedArray) -> np.ndarray[Any, np.dtype[np.int64]]:
    known = pa.array(list(ids), pa.string())
    place = pc.index_in(column, value_set=known).drop_null().to_numpy().astype(np.int64)
    return np.bincount(place, minlength=len(known))


def _quantiles(degrees: np.ndarray[Any, np.dtype[np.int64]]) -> dict[str, float]:
    if not len(degrees):
        return {}
    return {f"{q:g}": float(v) for q, v in zip(QUANTILES, np.quantile(degrees, QUANTILES), strict=True)}


def _share_positive(degrees: np.ndarray[Any, np.dtype[np.int64]]) -> float:
    return float((degrees > 0).mean()) if len(degrees) else 0.0

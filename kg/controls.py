"""Controls: graphs that differ from the real one in exactly one thing, so that a lift can be blamed on it."""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from kg.errors import SchemaError, did_you_mean
from kg.graph import Graph
from kg.tables import TABLES, empty_table
from kg.terms import ITEM, LLM, RULE, SOURCE_KINDS, USER

Ints = npt.NDArray[np.int64]
_N_ROUNDS = 20


def random_graph(graph: Graph, seed: int, source_kind: str = LLM) -> Graph:
    """Rewire the facts of one kind of source at random, keeping every degree: is it the facts, or only more edges?

    Within each relation, pairs of facts exchange their tails (double edge swaps) in rounds that touch every fact;
    a swap that would repeat a fact or make a self-loop is not done. Kept exactly: the number of distinct facts of the
    whole graph, the count of each relation, the number of facts of each (head, relation) and each (relation, tail),
    each head's confidences, interactions, texts and features. Members of hyperedges are exchanged likewise within
    (relation, role): sizes, weights, roles, positions and each entity's number of memberships are kept. In a hyperedge
    with exactly one user, the user stays and items are exchanged among that user's hyperedges only: which items a user
    had is the data's knowledge, how they hang together is the LLM's, and only the latter is to be random. What cannot
    move stays: a relation with one fact, one tail, or all possible pairs, and facts that another kind of source states
    too (they add no edge). Several sources of one fact become one row by noisy or, as in `CollaborativeKG`.

    Args:
        graph: a fused graph.
        seed: of the swaps; same graph and seed, same result, whatever the order of rows.
        source_kind: whose facts are rewired: `llm` (default), `dataset` or `rule`.

    Returns:
        The graph with those facts under the source `rule:random-SEED`.

    Raises:
        SchemaError: if `source_kind` is no kind of source.

    Source:
        Maslov & Sneppen, Science 2002 (degree-preserving rewiring); KG4RecEval, TOIS 2025 (random KG as a control).

    Deviations:
        Swaps are proposed in parallel over random pairings, rejected where two of one round collide.
    """
    rng = np.random.default_rng(seed)
    origin = f"rule:random-{seed}"
    of_kind = _sources_of(graph, source_kind)
    triples = _random_triples(graph.triples, of_kind, origin, rng)
    hyperedges, members = _random_hyperedges(graph, of_kind, origin, rng)
    changed = graph.replace(
        triples=triples,
        hyperedges=hyperedges,
        members=members,
        sources=_add_source(graph.sources, origin),
    )
    return _without_idle_sources(changed, of_kind)


def without_source_kind(graph: Graph, source_kind: str = LLM) -> Graph:
    """Drop what one kind of source says: its triples, hyperedges, texts, and the entities that only they introduced.

    Users, items and interactions stay, and so do entities that nothing referred to before. Features do not say which
    source they rest on: those of a dropped entity or hyperedge go, and those whose entity has texts of that kind only.

    Raises:
        SchemaError: if `source_kind` is no kind of source.
    """
    of_kind = _sources_of(graph, source_kind)
    kept = {n: _rows(getattr(graph, n), "source", of_kind, keep=False) for n in ("triples", "hyperedges", "texts")}
    edges = kept["hyperedges"]["hyperedge_id"].combine_chunks()
    members = _rows(graph.members, "hyperedge_id", edges, keep=True)
    used = _ids(kept["triples"]["head"], kept["triples"]["tail"], members["entity_id"], kept["texts"]["entity_id"])
    used_before = _ids(
        graph.triples["head"], graph.triples["tail"], graph.members["entity_id"], graph.texts["entity_id"]
    )
    gone = (used_before - used) - set(graph.ids_of(USER)) - set(graph.ids_of(ITEM))
    entities = _rows(graph.entities, "entity_id", _array(gone), keep=False)
    told = _ids(graph.texts["entity_id"]) - _ids(kept["texts"]["entity_id"])
    texts, features = _of_nodes(kept["texts"], entities, edges), _of_nodes(graph.features, entities, edges)
    return graph.replace(
        entities=entities,
        triples=kept["triples"],
        hyperedges=kept["hyperedges"],
        members=members,
        texts=texts,
        features=_rows(features, "entity_id", _array(told), keep=False),
        sources=_rows(graph.sources, "source", of_kind, keep=False),
    )


def without_facts(graph: Graph) -> Graph:
    """Keep only users, items, their interactions, texts and features: the no-graph control."""
    entities = _rows(graph.entities, "type", _array([USER, ITEM]), keep=True)
    none = pa.array([], pa.string())
    bare = graph.replace(
        entities=entities,
        triples=empty_table("triples"),
        hyperedges=empty_table("hyperedges"),
        members=empty_table("members"),
        texts=_of_nodes(graph.texts, entities, none),
        features=_of_nodes(graph.features, entities, none),
    )
    return _without_idle_sources(bare, graph.sources["source"].combine_chunks())


def shuffled_texts(graph: Graph, kind: str, seed: int) -> Graph:
    """Exchange the texts of one kind between entities of one type: is it what the text says, or only that there is one?

    All texts of that kind that an entity has move together, with their sources, along one random cycle through each
    type, so no entity keeps its own unless it is the only one of its type. Features must be encoded again from the
    result; those of the same kind are dropped so that none can be used by mistake.

    Raises:
        SchemaError: if no text is of that kind.
    """
    chosen = graph.texts.filter(pc.equal(graph.texts["kind"], kind))
    if not len(chosen):
        msg = f"no text is of kind `{kind}`; {did_you_mean(kind, pc.unique(graph.texts['kind']).to_pylist())}"
        raise SchemaError(msg)
    types = dict(zip(graph.entities["entity_id"].to_pylist(), graph.entities["type"].to_pylist(), strict=True))
    groups: dict[str, list[str]] = {}
    for node in sorted(_ids(chosen["entity_id"])):
        groups.setdefault(types.get(node, "hyperedge"), []).append(node)
    rng, moved = np.random.default_rng(seed), {}
    for _, nodes in sorted(groups.items()):
        order = rng.permutation(len(nodes))
        moved.update({nodes[a]: nodes[b] for a, b in zip(order, np.roll(order, 1), strict=True)})
    ids = pa.array([moved[i] for i in chosen["entity_id"].to_pylist()], pa.string())
    shuffled = chosen.set_column(0, chosen.schema.field(0), ids)
    rest = graph.texts.filter(pc.not_equal(graph.texts["kind"], kind))
    features = graph.features.filter(pc.not_equal(graph.features["kind"], kind))
    return graph.replace(texts=pa.concat_tables([rest, shuffled]), features=features)


def _sources_of(graph: Graph, kind: str) -> pa.Array:
    if kind not in SOURCE_KINDS:
        msg = f"`{kind}` is no kind of source; {did_you_mean(kind, SOURCE_KINDS)}"
        raise SchemaError(msg)
    return graph.sources.filter(pc.equal(graph.sources["kind"], kind))["source"].combine_chunks()


def _array(values: Iterable[str]) -> pa.Array:
    return pa.array(sorted(values), pa.string())


def _ids(*columns: pa.ChunkedArray) -> set[str]:
    return {i for column in columns for i in pc.unique(column).to_pylist()}


def _rows(table: pa.Table, column: str, values: pa.Array, *, keep: bool) -> pa.Table:
    inside = pc.is_in(table[column], value_set=values)
    return table.filter(inside if keep else pc.invert(inside))


def _of_nodes(table: pa.Table, entities: pa.Table, hyperedge_ids: pa.Array) -> pa.Table:
    nodes = pa.concat_arrays([entities["entity_id"].combine_chunks(), hyperedge_ids])
    return _rows(table, "entity_id", nodes, keep=True)


def _add_source(sources: pa.Table, name: str) -> pa.Table:
    row = pa.Table.from_pylist([{"source": name, "kind": RULE}], schema=TABLES["sources"].schema)
    return pa.concat_tables([_rows(sources, "source", _array([name]), keep=False), row])


def _without_idle_sources(graph: Graph, candidates: pa.Array) -> Graph:
    used = _ids(graph.triples["source"], graph.hyperedges["source"], graph.texts["source"])
    idle = _array(set(candidates.to_pylist()) - used)
    return graph.replace(sources=_rows(graph.sources, "source", idle, keep=False))


def _random_triples(triples: pa.Table, of_kind: pa.Array, origin: str, rng: np.random.Generator) -> pa.Table:
    rest = _rows(triples, "source", of_kind, keep=False)
    frame = _rows(triples, "source", of_kind, keep=True).to_pandas()
    if frame.empty:
        return triples
    key = ["head", "relation", "tail"]
    frame["doubt"] = 1.0 - frame["confidence"]
    facts = frame.groupby(key, as_index=False, sort=True)[["doubt"]].prod()
    known = pd.MultiIndex.from_frame(rest.select(key).to_pandas())
    free = ~pd.MultiIndex.from_frame(facts[key]).isin(known)
    fixed = pd.concat([rest.select(key).to_pandas(), facts.loc[~free, key]])
    facts.loc[free, "tail"] = _swap(facts.loc[free, key], fixed, rng)
    rewired = pa.table(
        {
            **{column: pa.array(facts[column], pa.string()) for column in key},
            "confidence": pa.array(1.0 - facts["doubt"], pa.float64()),
            "source": pa.array([origin] * len(facts), pa.string()),
        },
        schema=TABLES["triples"].schema,
    )
    return pa.concat_tables([rest, rewired])


def _random_hyperedges(
    graph: Graph, of_kind: pa.Array, origin: str, rng: np.random.Generator
) -> tuple[pa.Table, pa.Table]:
    chosen = _rows(graph.hyperedges, "source", of_kind, keep=True).sort_by("hyperedge_id")
    if not len(chosen):
        return graph.hyperedges, graph.members
    edges = chosen["hyperedge_id"].combine_chunks()
    key = [(column, "ascending") for column in TABLES["members"].key]
    members = _rows(graph.members, "hyperedge_id", edges, keep=True).sort_by(key)
    relation = dict(zip(edges.to_pylist(), chosen["relation"].to_pylist(), strict=True))
    frame = members.select(["hyperedge_id", "role", "entity_id"]).to_pandas()
    frame.columns = pd.Index(["head", "relation", "tail"])
    frame["relation"] = frame["head"].map(relation) + "\x1f" + frame["relation"] + _whose(graph, frame)
    exchanged = pa.array(_swap(frame, frame.iloc[:0], rng), pa.string())
    place = members.column_names.index("entity_id")
    members = members.set_column(place, members.schema.field(place), exchanged)
    relabelled = chosen.set_column(
        chosen.column_names.index("source"),
        chosen.schema.field("source"),
        pa.array([origin] * len(chosen), pa.string()),
    )
    return (
        pa.concat_tables([_rows(graph.hyperedges, "source", of_kind, keep=False), relabelled]),
        pa.concat_tables([_rows(graph.members, "hyperedge_id", edges, keep=False), members]),
    )


def _whose(graph: Graph, members: pd.DataFrame) -> "pd.Series[str]":
    """Return for each member (head = hyperedge, tail = entity) the user among whose hyperedges it may be exchanged.

    Users and items of a hyperedge with exactly one user belong to that user; others may go anywhere and get "".
    """
    kind = members["tail"].map(dict(zip(*(graph.entities[c].to_pylist() for c in ("entity_id", "type")), strict=True)))
    users = members.loc[kind == USER].drop_duplicates(["head", "tail"])
    alone = users[~users["head"].duplicated(keep=False)].set_index("head")["tail"]
    owner = "\x1f" + members["head"].map(alone)
    return owner.where(kind.isin((USER, ITEM)) & owner.notna(), "")


def _swap(facts: pd.DataFrame, fixed: pd.DataFrame, rng: np.random.Generator) -> npt.NDArray[np.object_]:
    """Return new tails for facts (head, relation, tail) so that none repeats another or one of `fixed`."""
    together = pd.concat([facts, fixed])
    nodes = pd.unique(pd.concat([together["head"], together["tail"]]))
    place = pd.Index(np.sort(nodes.astype(str)))
    head, tail = place.get_indexer(together["head"]), place.get_indexer(together["tail"])
    relation = together["relation"].to_numpy()
    swapped = tail[: len(facts)].astype(np.int64)
    own = relation[: len(facts)]
    for name in sorted(set(own)):
        rows = np.flatnonzero(own == name)
        others = len(facts) + np.flatnonzero(relation[len(facts) :] == name)
        taken = head[others] * len(place) + tail[others]
        swapped[rows] = _swap_tails(head[rows].astype(np.int64), swapped[rows], taken, len(place), rng)
    renamed: npt.NDArray[np.object_] = place.to_numpy(object)[swapped]
    return renamed


def _swap_tails(head: Ints, tail: Ints, taken: Ints, n_nodes: int, rng: np.random.Generator) -> Ints:
    tail = tail.copy()
    half = len(head) // 2
    for _ in range(_N_ROUNDS):
        order = rng.permutation(len(head))
        one, other = order[:half], order[half : 2 * half]
        proposed = np.stack([head[one] * n_nodes + tail[other], head[other] * n_nodes + tail[one]])
        present = np.concatenate([head * n_nodes + tail, taken])
        _, place, count = np.unique(proposed, return_inverse=True, return_counts=True)
        is_free = ~np.isin(proposed, present) & (count[place.reshape(proposed.shape)] == 1)
        is_loop = (head[one] == tail[other]) | (head[other] == tail[one])
        done = is_free.all(axis=0) & ~is_loop
        tail[one[done]], tail[other[done]] = tail[other[done]], tail[one[done]]
    return tail

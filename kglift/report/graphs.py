"""The graph in figures: counts, degrees, and one user's neighbourhood."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from kg.ckg import CollaborativeKG
from kg.graph import Graph
from kg.terms import INTERACTS, ITEM, LLM, SPLITS, TRAIN, USER
from kglift.labels import node_labels
from kglift.report.record import KG, KG_LLM
from kglift.sentences import relation_words

_N_ITEMS = 8
_SPOKE = "member/"
_N_OTHERS = 12
_FEW_LLM = 6
_VAGUE_TYPE = "Entity"


def describe_data(base: Graph) -> dict[str, Any]:
    """Count users, items and interactions of each split; density; the first and last time of each split."""
    frame = base.interactions.to_pandas()
    n_users, n_items = len(base.ids_of(USER)), len(base.ids_of(ITEM))
    splits = []
    for split in SPLITS:
        part = frame[frame["split"] == split]
        times = part["timestamp"].dropna()
        splits.append(
            {
                "split": split,
                "n_interactions": len(part),
                "n_users": int(part["user_id"].nunique()),
                "n_items": int(part["item_id"].nunique()),
                "first": None if times.empty else int(times.min()),
                "last": None if times.empty else int(times.max()),
            }
        )
    density = len(frame) / (n_users * n_items) if n_users * n_items else 0.0
    counts = {"n_users": n_users, "n_items": n_items, "n_interactions": len(frame)}
    return {**counts, "density": density, "splits": splits}


def describe_graphs(base: Graph, fused: Graph) -> dict[str, Any]:
    """Count nodes by type and facts by relation, without and with the LLM, and list degree distributions."""
    graphs = {KG: CollaborativeKG.from_graph(base), KG_LLM: CollaborativeKG.from_graph(fused)}
    return {
        "totals": {name: _totals(graph, ckg) for (name, ckg), graph in zip(graphs.items(), (base, fused), strict=True)},
        "by_type": _by_type(base, fused),
        "by_relation": _by_relation(fused),
        "degrees": [row for name, ckg in graphs.items() for row in _degrees(name, ckg)],
    }


def neighbourhood(fused: Graph, user_id: str) -> dict[str, Any]:
    """Return a small, readable part of the graph around one user.

    Items come from the user's train interactions, those in hyperedges with the user first, then those with the most
    facts of the LLM; other nodes are the user's hyperedges and those that join most of the items, with room kept for
    the LLM's. A hyperedge is one node with a spoke to each member.

    Returns:
        `user`, `nodes` (id, type, name, column: user, item or other, hint: the type or, where that says nothing, the
        commonest relation), `edges` (head, relation, tail, kind: interaction,
        dataset, rule or llm), `n_items` and `n_others`: how many there are in all.
    """
    facts = _facts(fused)
    types, names = node_labels(fused)
    train = fused.interactions_of(TRAIN).to_pandas()
    all_items = sorted(train.loc[train["user_id"] == user_id, "item_id"])
    own = set(facts.loc[(facts["head"] == user_id) & facts["relation"].str.startswith(_SPOKE), "tail"])
    joined = set(facts.loc[facts["tail"].isin(own), "head"])
    items = _most_told(facts, all_items, joined)[:_N_ITEMS]
    users, catalogue = set(fused.ids_of(USER)), set(fused.ids_of(ITEM))
    near = _around(facts, {user_id, *items}, users | catalogue)
    others = _joining(near, items, own)
    edges = [{"head": user_id, "relation": INTERACTS, "tail": i, "kind": "interaction"} for i in items]
    shown = near.loc[near["other"].isin(others), ["head", "relation", "tail", "kind"]]
    shown = shown.drop_duplicates(["head", "relation", "tail"])
    edges += [{str(k): v for k, v in row.items()} for row in shown.to_dict("records")]
    hints = _hints(near, types)
    nodes = [(user_id, "user"), *((i, "item") for i in items), *((o, "other") for o in others)]
    return {
        "user": user_id,
        "nodes": [
            {"id": i, "type": types[i], "name": names[i], "column": c, "hint": hints.get(i, types[i])} for i, c in nodes
        ],
        "edges": edges,
        "n_items": len(all_items),
        "n_others": int(near["other"].nunique()),
    }


def shown_user(fused: Graph, users: list[str]) -> str:
    """Return whose neighbourhood to draw: one in a hyperedge if there is any, best of all one of `users`.

    Without hyperedges it is the first of `users` or, where there is none, the user with the median number of train
    interactions.
    """
    joined = set(fused.members["entity_id"].to_pylist())
    counts = Counter(fused.interactions_of(TRAIN)["user_id"].to_pylist())
    ranked = [str(u) for _, u in sorted((n, str(u)) for u, n in counts.items())]
    half = len(ranked) // 2
    middle = [*ranked[half:], *reversed(ranked[:half])]
    candidates = [*users, *middle]
    return next((u for u in candidates if u in joined), candidates[0])


def _facts(graph: Graph) -> pd.DataFrame:
    """Return head, relation, tail and kind of source; members of hyperedges as spokes."""
    kinds = dict(zip(graph.sources["source"].to_pylist(), graph.sources["kind"].to_pylist(), strict=True))
    triples = graph.triples.select(["head", "relation", "tail", "source"]).to_pandas()
    triples["kind"] = triples["source"].map(kinds)
    owner = dict(zip(graph.hyperedges["hyperedge_id"].to_pylist(), graph.hyperedges["source"].to_pylist(), strict=True))
    members = graph.members.to_pandas()
    spokes = pd.DataFrame(
        {
            "head": members["entity_id"],
            "relation": _SPOKE + members["role"].astype(str),
            "tail": members["hyperedge_id"],
            "kind": members["hyperedge_id"].map(owner).map(kinds),
        }
    )
    facts: pd.DataFrame = pd.concat([triples[["head", "relation", "tail", "kind"]], spokes], ignore_index=True)
    return facts


def _around(facts: pd.DataFrame, inner: set[str], placed: set[str]) -> pd.DataFrame:
    """Return the facts between `inner` nodes and nodes not in `placed`, whichever is the head, with both named."""
    out = facts[facts["head"].isin(inner) & ~facts["tail"].isin(placed)]
    back = facts[facts["tail"].isin(inner) & ~facts["head"].isin(placed)]
    return pd.concat(
        [out.assign(inner=out["head"], other=out["tail"]), back.assign(inner=back["tail"], other=back["head"])]
    )


def _hints(near: pd.DataFrame, types: Mapping[str, str]) -> dict[str, str]:
    """Return, for nodes of the general type, the words of the relation that most facts around them have."""
    vague = near[near["other"].map(types) == _VAGUE_TYPE].sort_values("relation")
    commonest = vague.groupby("other")["relation"].agg(lambda names: Counter(names).most_common(1)[0][0])
    return {str(node): relation_words(relation) for node, relation in commonest.items()}


def _most_told(facts: pd.DataFrame, items: list[str], first: set[str]) -> list[str]:
    told = pd.concat([facts[facts[end].isin(items)].assign(item=facts[end]) for end in ("head", "tail")])
    by_llm = Counter(told.loc[told["kind"] == LLM, "item"])
    by_any = Counter(told["item"])
    return sorted(items, key=lambda i: (i not in first, -min(by_llm[i], _FEW_LLM), -min(by_any[i], _N_OTHERS), i))


def _joining(near: pd.DataFrame, items: list[str], first: set[str]) -> list[str]:
    """Choose `first` and the nodes that join most of the shown ones, up to half the LLM's, with few crossings.

    A node comes at the mean place of the items it joins (barycentre rule).
    """
    reach = near.groupby("other")["inner"].nunique()
    ranked = sorted(reach.index, key=lambda t: (t not in first, -reach[t], t))
    llm_only = set(near["other"]) - set(near.loc[near["kind"] != LLM, "other"])
    chosen = [t for t in ranked if t in llm_only][: _N_OTHERS // 2]
    chosen += [t for t in ranked if t not in llm_only][: _N_OTHERS - len(chosen)]
    places = near["inner"].map({item: float(i) for i, item in enumerate(items)})
    place = places.groupby(near["other"]).mean().fillna(-1.0)
    return sorted(chosen, key=lambda t: (place[t], t))


def _totals(graph: Graph, ckg: CollaborativeKG) -> dict[str, int]:
    return {
        "nodes": ckg.n_nodes,
        "relations": ckg.n_relations - 1,
        "facts": len(ckg.triples),
        "triples": len(graph.triples.group_by(["head", "relation", "tail"]).aggregate([])),
        "hyperedges": len(graph.hyperedges),
        "train_interactions": len(ckg.interactions[TRAIN]),
    }


def _by_type(base: Graph, fused: Graph) -> list[dict[str, Any]]:
    before, after = Counter(node_labels(base)[0].values()), Counter(node_labels(fused)[0].values())
    ranked = sorted(after, key=lambda t: (-after[t], t))
    return [{"type": t, KG: before[t], KG_LLM: after[t]} for t in ranked]


def _by_relation(fused: Graph) -> list[dict[str, Any]]:
    """Count distinct facts by relation, those that the LLM uses first: stated without it, by both, by it alone."""
    facts = _facts(fused)
    facts["by_llm"], facts["by_others"] = facts["kind"] == LLM, facts["kind"] != LLM
    distinct = facts.groupby(["relation", "head", "tail"], as_index=False)[["by_llm", "by_others"]].any()
    distinct["both"] = distinct["by_llm"] & distinct["by_others"]
    counts = distinct.groupby("relation").agg(
        total=("both", "size"), by_llm=("by_llm", "sum"), by_others=("by_others", "sum"), both=("both", "sum")
    )
    counts["is_new"] = counts["by_llm"] > 0
    ranked = counts.sort_values(["is_new", "total"], ascending=False, kind="stable").reset_index()
    return [
        {
            "relation": row["relation"],
            "total": int(row["total"]),
            "without_llm": int(row["by_others"] - row["both"]),
            "both": int(row["both"]),
            "llm_only": int(row["by_llm"] - row["both"]),
        }
        for row in ranked.to_dict("records")
    ]


def _degrees(name: str, ckg: CollaborativeKG) -> list[dict[str, Any]]:
    """Return, for each part of the nodes, the share that has at least so many edges; nodes without edges left out."""
    (heads, _), _ = ckg.edges()
    degree = np.bincount(heads, minlength=ckg.n_nodes)
    ends = (0, ckg.n_users, ckg.n_users + ckg.n_items, ckg.n_nodes)
    rows = []
    for part, start, end in zip(("users", "items", "other nodes"), ends, ends[1:], strict=False):
        values, counts = np.unique(degree[start:end][degree[start:end] > 0], return_counts=True)
        if len(values):
            share = np.cumsum(counts[::-1])[::-1] / counts.sum()
            rows.append({"graph": name, "nodes": part, "degree": values.tolist(), "share": share.tolist()})
    return rows

"""Small graphs with everything that can go wrong in them: parallel edges, confidences, nodes without an edge."""

import numpy as np

from kg.ckg import CollaborativeKG
from kg.ids import IdMap


def random_ckg(seed: int = 0, n_users: int = 7, n_items: int = 9, n_entities: int = 5) -> CollaborativeKG:
    """Half of all pairs interact, in three splits; facts run between any two nodes, some twice by two relations."""
    rng = np.random.default_rng(seed)
    n_nodes = n_users + n_items + n_entities
    width = len(str(n_nodes))
    names = [
        f"{kind}:{k:0{width}}" for kind, n in (("u", n_users), ("i", n_items), ("x", n_entities)) for k in range(n)
    ]
    pairs = np.argwhere(rng.random((n_users, n_items)) < 0.6)
    pairs[:, 1] += n_users
    split = rng.choice(3, len(pairs), p=[0.6, 0.2, 0.2])
    split[:2] = 0
    ends = rng.integers(n_users, n_nodes, (14, 2))
    triples = np.unique(np.concatenate([_facts(ends, rng.integers(1, 4, 14)), _facts(ends[:4], np.full(4, 2))]), axis=0)
    confidence = rng.uniform(0.2, 1.0, len(triples))
    interactions = {name: pairs[split == k] for k, name in enumerate(("train", "valid", "test"))}
    relations = ("interacts", "a", "b", "c")
    return CollaborativeKG(IdMap(tuple(names)), n_users, n_items, relations, interactions, triples, confidence)


def checkerboard(n: int = 10) -> CollaborativeKG:
    """Even users have the even items, odd users the odd; (0, 0) is withheld, and item 1 is everybody's but user 0's."""
    pairs = np.array([(u, n + i) for u in range(n) for i in range(n) if (u + i) % 2 == 0 or i == 1])
    held = (pairs == (0, n)).all(axis=1)
    common = (pairs == (0, n + 1)).all(axis=1)
    none = np.empty((0, 2), np.int64)
    nodes = IdMap(tuple([f"u:{k:02}" for k in range(n)] + [f"i:{k:02}" for k in range(n)]))
    interactions = {"train": pairs[~held & ~common], "valid": none, "test": pairs[held]}
    no_facts = np.empty((0, 3), np.int64)
    return CollaborativeKG(nodes, n, n, ("interacts",), interactions, no_facts, np.empty(0))


def relabelled(ckg: CollaborativeKG, seed: int = 0) -> tuple[CollaborativeKG, np.ndarray, np.ndarray]:
    """The same graph under other indices; returns new index of each old user and of each old item, from 0."""
    rng = np.random.default_rng(seed)
    users, items = rng.permutation(ckg.n_users), rng.permutation(ckg.n_items)
    n_fixed = ckg.n_users + ckg.n_items
    new = np.concatenate([users, ckg.n_users + items, np.arange(n_fixed, ckg.n_nodes)])
    names = np.empty(ckg.n_nodes, dtype=object)
    names[new] = ckg.nodes.ids
    triples = ckg.triples.copy()
    triples[:, [0, 2]] = new[triples[:, [0, 2]]]
    order = np.lexsort(triples.T[::-1])
    splits = {k: new[v][np.lexsort(new[v].T[::-1])] for k, v in ckg.interactions.items()}
    moved = CollaborativeKG(
        IdMap(tuple(names)),
        ckg.n_users,
        ckg.n_items,
        ckg.relations,
        splits,
        triples[order],
        ckg.confidence[order],
    )
    return moved, users, items


def _facts(ends: np.ndarray, relation: np.ndarray) -> np.ndarray:
    return np.stack([ends[:, 0], relation, ends[:, 1]], axis=1)

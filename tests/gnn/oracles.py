"""Slow, dense, float64 versions written from the equations, not from the code."""

import math

import numpy as np

from kg.ckg import CollaborativeKG

Edge = tuple[int, int, int, float]


def edges(ckg: CollaborativeKG) -> list[Edge]:
    """Every edge (head, relation, tail, confidence), both directions."""
    forward = [(int(u), 0, int(i), 1.0) for u, i in ckg.interactions["train"]]
    forward += [(int(h), int(r), int(t), float(c)) for (h, r, t), c in zip(ckg.triples, ckg.confidence, strict=True)]
    return forward + [(t, r + ckg.n_relations, h, c) for h, r, t, c in forward]


def normalised(ckg: CollaborativeKG) -> np.ndarray:
    """D^-1/2 A D^-1/2 with A the summed confidences of each pair."""
    a = np.zeros((ckg.n_nodes, ckg.n_nodes))
    for head, _, tail, confidence in edges(ckg):
        a[head, tail] += confidence
    degree = a.sum(axis=1)
    scale = np.array([1 / math.sqrt(d) if d > 0 else 0.0 for d in degree])
    return scale[:, None] * a * scale[None, :]


def layer_mean(s: np.ndarray, x: np.ndarray, n_layers: int) -> np.ndarray:
    """The mean of x, Sx, SSx, ..."""
    layers = [x]
    for _ in range(n_layers):
        layers.append(s @ layers[-1])
    return np.mean(layers, axis=0)


def kgat_attention(ckg: CollaborativeKG, parameters: dict[str, np.ndarray]) -> dict[tuple[int, int, int], float]:
    """Equations 4 and 5, an edge at a time."""
    e, r_table, w = (parameters[k] for k in ("embedding", "relation", "projection"))
    lifted, total = {}, np.zeros(ckg.n_nodes)
    for h, r, t, c in edges(ckg):
        lifted[h, r, t] = c * math.exp((e[t] @ w[r]) @ np.tanh(e[h] @ w[r] + r_table[r]))
        total[h] += lifted[h, r, t]
    return {(h, r, t): value / total[h] for (h, r, t), value in lifted.items()}


def kgat_walk(ckg: CollaborativeKG) -> dict[tuple[int, int, int], float]:
    """The random walk within each relation, before any attention."""
    total: dict[tuple[int, int], float] = {}
    for h, r, _, c in edges(ckg):
        total[h, r] = total.get((h, r), 0.0) + c
    return {(h, r, t): c / total[h, r] for h, r, t, c in edges(ckg)}


def kgat_forward(
    ckg: CollaborativeKG, parameters: dict[str, np.ndarray], attention: dict[tuple[int, int, int], float], n_layers: int
) -> np.ndarray:
    """Equations 3, 8 and 11."""
    a = np.zeros((ckg.n_nodes, ckg.n_nodes))
    for (h, _, t), value in attention.items():
        a[h, t] += value
    x = parameters["embedding"]
    parts = [x]
    for layer in range(n_layers):
        near = a @ x
        added = (x + near) @ parameters[f"add.{layer}.weight"].T + parameters[f"add.{layer}.bias"]
        multiplied = (x * near) @ parameters[f"multiply.{layer}.weight"].T + parameters[f"multiply.{layer}.bias"]
        x = np.where(added > 0, added, 0.2 * added) + np.where(multiplied > 0, multiplied, 0.2 * multiplied)
        parts.append(x / np.linalg.norm(x, axis=1, keepdims=True))
    return np.concatenate(parts, axis=1)


def ranking(scores: list[float], masked: set[int]) -> list[int]:
    """Items by falling score, ties by index, without the masked."""
    return sorted((i for i in range(len(scores)) if i not in masked), key=lambda i: (-scores[i], i))


def metrics(ranked: list[int], relevant: set[int], k: int) -> dict[str, float]:
    """One user's metrics, from the definitions."""
    first = ranked[:k]
    places = [rank for rank, item in enumerate(first, start=1) if item in relevant]
    ideal = sum(1 / math.log2(rank + 1) for rank in range(1, min(k, len(relevant)) + 1))
    return {
        "recall": len(places) / len(relevant),
        "precision": len(places) / k,
        "hit": float(bool(places)),
        "mrr": 1 / places[0] if places else 0.0,
        "ndcg": sum(1 / math.log2(rank + 1) for rank in places) / ideal,
    }

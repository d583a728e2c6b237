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


def degrees(ckg: CollaborativeKG) -> tuple[np.ndarray, np.ndarray]:
    """A with the summed confidences of each pair, and its row sums."""
    a = np.zeros((ckg.n_nodes, ckg.n_nodes))
    for head, _, tail, confidence in edges(ckg):
        a[head, tail] += confidence
    return a, a.sum(axis=1)


def lightgcnpp(ckg: CollaborativeKG, x: np.ndarray, powers: tuple[float, float, float], n_layers: int) -> np.ndarray:
    """LightGCN++ with powers (alpha, beta, gamma), a node at a time."""
    alpha, beta, gamma = powers
    a, degree = degrees(ckg)
    layers = [x]
    for _ in range(n_layers):
        y = np.zeros_like(x)
        for u, i in np.argwhere(a):
            direction = layers[-1][i] / np.linalg.norm(layers[-1][i])
            y[u] += a[u, i] * direction / (degree[u] ** alpha * degree[i] ** beta)
        layers.append(y)
    return gamma * x + (1 - gamma) * np.mean(layers[1:], axis=0)


def xsimgcl(s: np.ndarray, x: np.ndarray, noise: list[np.ndarray]) -> list[np.ndarray]:
    """E^(1) .. E^(L), where `noise` holds each layer's vectors, of the length that they shall have."""
    layers = [x]
    for drawn in noise:
        smooth = s @ layers[-1]
        layers.append(smooth + np.sign(smooth) * drawn)
    return layers[1:]


def info_nce(view: np.ndarray, other: np.ndarray, temperature: float) -> float:
    """The mean over i of -ln of i's share in the sum over j of exp(cos(z_i, z'_j) / tau)."""
    terms = []
    for i in range(len(view)):
        alike = [v @ view[i] / np.linalg.norm(v) / np.linalg.norm(view[i]) / temperature for v in other]
        terms.append(math.log(sum(math.exp(x) for x in alike)) - alike[i])
    return float(np.mean(terms))


def gfcf(x: np.ndarray, n_vectors: int, alpha: float) -> np.ndarray:
    """X (X~^T X~ + alpha D_I^-1/2 V V^T D_I^1/2) for all users, with V from the eigenvectors of the item graph."""
    by_user, by_item = (np.diag([d**-0.5 if d else 0.0 for d in x.sum(axis)]) for axis in (1, 0))
    normal = by_user @ x @ by_item
    vectors = np.linalg.eigh(normal.T @ normal)[1][:, ::-1][:, :n_vectors]
    ideal = by_item @ vectors @ vectors.T @ np.diag(x.sum(0) ** 0.5)
    return x @ (normal.T @ normal + alpha * ideal)


def kgin_intents(parameters: dict[str, np.ndarray]) -> list[np.ndarray]:
    """Equations 1 and 2, an intent at a time."""
    return [np.exp(w) / np.exp(w).sum() @ parameters["relation"] for w in parameters["intent"]]


def kgin(ckg: CollaborativeKG, parameters: dict[str, np.ndarray], n_layers: int) -> np.ndarray:
    """Equations 7, 8, 10, 11 and 13, an edge at a time; facts of users weigh like their items."""
    intents, n = kgin_intents(parameters), ckg.n_relations
    x = total = parameters["embedding"]
    for _ in range(n_layers):
        y, weight = np.zeros_like(x), np.zeros(ckg.n_nodes)
        for h, r, t, c in edges(ckg):
            if r == n:
                continue
            if r == 0:
                lifted = [math.exp(p @ x[h]) for p in intents]
                factor = sum(e * p for e, p in zip(lifted, intents, strict=True)) / sum(lifted)
            else:
                factor = parameters["relation"][r - 1 if r < n else r - 2]
            y[h] += c * factor * x[t]
            weight[h] += c
        x = y / np.where(weight > 0, weight, 1.0)[:, None]
        total = total + x
    return total


def distance_correlation(x: np.ndarray, y: np.ndarray) -> float:
    """Of two vectors, their coordinates taken as samples: all distances, centred an entry at a time."""

    def centred(v: np.ndarray) -> np.ndarray:
        a = np.array([[abs(p - q) for q in v] for p in v])
        return np.array(
            [[a[j, k] - a[j].mean() - a[:, k].mean() + a.mean() for k in range(len(v))] for j in range(len(v))]
        )

    a, b = centred(x), centred(y)
    covariance, own, others = (math.sqrt(max((p * q).mean(), 0.0)) for p, q in ((a, b), (a, a), (b, b)))
    return covariance / math.sqrt(own * others)

"""What serving needs of a trained model, as Parquet: vectors, and what the graph knows about each node."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import scipy.sparse

from kg.ckg import CollaborativeKG
from kg.terms import TRAIN, VALID

MODEL_FORMAT = "kglift-model"
Vectors = npt.NDArray[np.float32]


def write_vectors(directory: Path, ckg: CollaborativeKG, users: Vectors, items: Vectors) -> None:
    """Write `users.parquet`, `items.parquet` and `entities.parquet`.

    Each has an id, `vector` and `degree` (the summed confidences of the node's edges, 0 where it has none). Users and
    items have `n_train`, their train interactions; users have `seen`, the rows of `items.parquet` that they had in
    train and valid. An entity has the vector that one step of LightGCN's propagation gives it, whatever the model,

        e_x = sum over the users and items v next to x of  c_xv / sqrt(d_x d_v) * e_v

    so that a user or item that comes later can be placed by what it is next to. Entities next to none are left out.

    Args:
        directory: where to write.
        ckg: the graph that the model was trained on.
        users: (n_users, d), whose dot products with `items` are the scores.
        items: (n_items, d).
    """
    adjacency = _adjacency(ckg)
    degree = adjacency.sum(axis=1)
    scale = np.divide(1.0, np.sqrt(degree), out=np.zeros_like(degree), where=degree > 0)
    known = np.concatenate([users, items])
    parts = np.split(np.arange(ckg.n_nodes), [len(users), len(known)])
    near = adjacency[len(known) :, : len(known)]
    reached = parts[2][np.diff(near.indptr) > 0]
    entities = scale[reached, None] * (near[reached - len(known)] @ (scale[: len(known), None] * known))
    train = [np.bincount(i, minlength=len(part)) for i, part in zip(ckg.user_items(TRAIN), parts, strict=False)]
    tables = {
        "users": (parts[0], users, {"n_train": pa.array(train[0], pa.int32()), "seen": _seen(ckg)}),
        "items": (parts[1], items, {"n_train": pa.array(train[1], pa.int32())}),
        "entities": (reached, entities, {}),
    }
    for (name, (nodes, vectors, more)), kind in zip(tables.items(), ("user", "item", "entity"), strict=True):
        columns = {f"{kind}_id": ckg.nodes.to_ids(nodes), "vector": _vector_column(vectors)}
        table = pa.table({**columns, "degree": pa.array(degree[nodes], pa.float32()), **more})
        pq.write_table(table, directory / f"{name}.parquet")


def _adjacency(ckg: CollaborativeKG) -> scipy.sparse.csr_array:
    """Return the summed confidence of each pair of nodes, train interactions counting 1."""
    (head, tail), _ = ckg.edges()
    confidence = np.tile(np.concatenate([np.ones(len(ckg.interactions[TRAIN])), ckg.confidence]), 2)
    adjacency = scipy.sparse.csr_array((confidence, (head, tail)), shape=(ckg.n_nodes, ckg.n_nodes))
    adjacency.eliminate_zeros()  # a fact of confidence 0 is no edge
    return adjacency


def _seen(ckg: CollaborativeKG) -> pa.ListArray:
    pairs = np.concatenate([ckg.interactions[TRAIN], ckg.interactions[VALID]])
    pairs = pairs[np.lexsort(pairs.T[::-1])]
    ends = np.concatenate([[0], np.cumsum(np.bincount(pairs[:, 0], minlength=ckg.n_users))])
    return pa.ListArray.from_arrays(pa.array(ends, pa.int32()), pa.array(pairs[:, 1] - ckg.n_users, pa.int32()))


def _vector_column(vectors: Vectors) -> pa.Array:
    rows = np.ascontiguousarray(vectors, np.float32)
    return pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), rows.shape[1])

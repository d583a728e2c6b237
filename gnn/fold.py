"""Users and items that came after the training: vectors by what they are next to."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import scipy.sparse

from gnn.errors import InputError
from gnn.recommendations import Ints
from gnn.serve import Nodes, VectorIndex
from kg.errors import first_five
from kg.ids import IdMap

_Floats = npt.NDArray[np.float64]


def fold_in(
    index: VectorIndex,
    kind: Literal["user", "item"],
    ids: Sequence[str],
    *,
    interactions: pa.Table | None = None,
    facts: pa.Table | None = None,
) -> VectorIndex:
    """Add users or items that the model has not seen, by one step of propagation from what they are next to.

        e_x = sum over its neighbours v of  c_xv / sqrt(d_x (d_v + c_xv)) * e_v

    d_x is the sum of the new node's c, d_v that of its neighbour as it was trained. Of an id without a known neighbour
    nothing is known: a user gets what is popular, an item is not recommended.

    Args:
        index: what the model serves.
        kind: what the new ids are.
        ids: the new ids.
        interactions: user_id, item_id, each once; each counts 1, and a user is not recommended these items.
        facts: head, tail, confidence; the rows of a pair add up. Ends that the index does not know are passed over.

    Returns:
        An index with the new users or items behind those that were there.

    Raises:
        InputError: for an id that is known, another `kind`, a column that is missing, or a confidence outside [0, 1].

    Source:
        He et al., SIGIR 2020 (LightGCN), equation 3, for a node whose own embedding is 0.

    Deviations:
        The neighbours' final vectors stand for those of each layer, and what the new node would change in its
        neighbours is left out.
    """
    if kind not in ("user", "item"):
        msg = f"`kind` is `{kind}`; expected `user` or `item`"
        raise InputError(msg)
    nodes = index.users if kind == "user" else index.items
    known = [name for name in ids if name in nodes.ids]
    if known:
        msg = f"{len(known)} ids are in the index already: {first_five(known)}; leave them out"
        raise InputError(msg)
    edges = _edges(interactions, facts)
    degree, total = np.zeros(len(ids)), np.zeros((len(ids), index.items.vectors.shape[1]))
    for part in (index.users, index.items, index.entities):
        near = _between(edges, ids, part.ids)
        degree += near.sum(axis=1)
        near.data /= np.sqrt(part.degree[near.indices] + near.data)
        total += near @ part.vectors
    total[degree > 0] /= np.sqrt(degree[degree > 0, None])
    joined = _joined(nodes, ids, total, degree)
    larger = replace(index, users=joined) if kind == "user" else replace(index, items=joined)
    return replace(larger, seen=_seen(larger, interactions))


def _edges(interactions: pa.Table | None, facts: pa.Table | None) -> tuple[list[str], list[str], _Floats]:
    """Return both ends and the weight of every edge, in both directions."""
    heads: list[str] = []
    tails: list[str] = []
    weights = [np.empty(0)]
    for table, columns in ((interactions, ("user_id", "item_id")), (facts, ("head", "tail", "confidence"))):
        if table is None:
            continue
        missing = [column for column in columns if column not in table.column_names]
        if missing:
            msg = f"the rows lack the column {first_five(missing)}; expected {', '.join(columns)}"
            raise InputError(msg)
        heads += table[columns[0]].to_pylist()
        tails += table[columns[1]].to_pylist()
        weights.append(_confidences(table) if "confidence" in columns else np.ones(len(table)))
    return heads + tails, tails + heads, np.tile(np.concatenate(weights), 2)


def _confidences(facts: pa.Table) -> _Floats:
    values = np.asarray(facts["confidence"].to_numpy(), np.float64)
    bad = np.flatnonzero(~((values >= 0) & (values <= 1)))  # a NaN compares false, so it is bad
    if len(bad):
        msg = f"the confidence of fact {int(bad[0])} is {values[bad[0]]}; expected a number in [0, 1]"
        raise InputError(msg)
    return values


def _between(
    edges: tuple[list[str], list[str], _Floats], ids: Sequence[str], neighbours: IdMap
) -> scipy.sparse.csr_array:
    """Return the summed weights between new ids and the nodes of one kind."""
    row, column = (pa.array(e, pa.string()) for e in edges[:2])
    places = [_places(row, ids), _places(column, neighbours.ids)]
    kept = (places[0] >= 0) & (places[1] >= 0) & (edges[2] > 0)
    shape = (len(ids), len(neighbours))
    near = scipy.sparse.csr_array((edges[2][kept], (places[0][kept], places[1][kept])), shape=shape)
    near.sum_duplicates()
    return near


def _places(names: pa.Array, known: Sequence[str]) -> Ints:
    found = pc.index_in(names, value_set=pa.array(known, pa.string()))
    return np.asarray(found.fill_null(-1), np.int64)


def _joined(nodes: Nodes, ids: Sequence[str], vectors: _Floats, degree: _Floats) -> Nodes:
    return Nodes(
        IdMap((*nodes.ids.ids, *ids)),
        np.concatenate([nodes.vectors, vectors.astype(np.float32)]),
        np.concatenate([nodes.degree, degree.astype(np.float32)]),
        np.concatenate([nodes.n_train, np.zeros(len(ids), np.int32)]),
    )


def _seen(index: VectorIndex, interactions: pa.Table | None) -> tuple[Ints, Ints]:
    """Return what the users of an index had, those that were added to it too, with some interactions more."""
    starts, items = index.seen
    pairs = [np.stack([np.repeat(np.arange(len(starts) - 1), np.diff(starts)), items])]
    if interactions is not None:
        added = [n.rows(interactions[c].to_pylist()) for n, c in ((index.users, "user_id"), (index.items, "item_id"))]
        pairs.append(np.stack(added)[:, (np.stack(added) >= 0).all(axis=0)])
    user, item = np.concatenate(pairs, axis=1)
    order = np.argsort(user, kind="stable")
    counts = np.bincount(user, minlength=len(index.users.ids))
    return np.concatenate([[0], np.cumsum(counts)]), item[order]

"""The table of recommendations: its columns, how it is made of scores, how it is written while it is made."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from gnn.errors import InputError
from gnn.parquet import parquet_writer
from kg.progress import Progress, silent

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]

VECTORS, GRAPH, POPULARITY, SCORES = range(4)
WHY = ("vectors", "graph", "popularity", "scores")
"""Where a score is from: `vectors`, user and item were learned from their train interactions; `graph`, one of them had
none and is known by its facts; `popularity`, nothing is known of the user, and the score is how many users have the
item; `scores`, by a model that has no vectors."""

RECOMMENDATIONS = pa.schema(
    {"user_id": pa.string(), "item_id": pa.string(), "rank": pa.int32(), "score": pa.float32(), "why": pa.string()}
)


def best_places(scores: Floats, k: int) -> tuple[Ints, Ints, Ints]:
    """Return (row, column, rank from 1) of the k best of each row, best first, ties by lower column; -inf is left out.

    Args:
        scores: (n, m) without NaN.
        k: at least 1; a row with fewer finite scores gives fewer.
    """
    n_columns = scores.shape[1]
    wanted = scores > -np.inf
    if k < n_columns:
        wanted &= scores >= np.partition(scores, n_columns - k, axis=1)[:, n_columns - k, None]
    row, column = np.nonzero(wanted)
    order = np.lexsort((column, -scores[row, column], row))
    row, column = row[order], column[order]
    rank = np.arange(1, len(row) + 1) - np.searchsorted(row, row)
    chosen = rank <= k
    return row[chosen], column[chosen], rank[chosen]


def recommendation_table(
    users: pa.Array, items: pa.Array, rank: npt.ArrayLike, score: npt.ArrayLike, why: npt.ArrayLike
) -> pa.Table:
    """Make a table of recommendations out of its columns; `why` as places in `WHY`."""
    words = pa.array(WHY).take(pa.array(why))
    return pa.table([users, items, pa.array(rank, pa.int32()), pa.array(score, pa.float32()), words], RECOMMENDATIONS)


def write_recommendations(
    tables: Iterable[pa.Table], path: Path, n_users: int, progress: Progress = silent
) -> dict[str, int]:
    """Write recommendations to a Parquet file as they come, so that no more than a tile is held.

    Args:
        tables: as `recommend_in_tiles` gives them.
        path: the file to make.
        n_users: for whom they are, for the progress.
        progress: told after each table how many users have been served.

    Returns:
        How many recommendations were made, for each reason in `WHY` that occurs.

    Raises:
        WriteError: if the place is taken, or the disk is full or read-only.
    """
    counts: dict[str, int] = {}
    done = 0
    with parquet_writer(path, RECOMMENDATIONS) as writer:
        for table in tables:
            writer.write_table(table)
            for row in pc.value_counts(table["why"]).to_pylist():
                counts[row["values"]] = counts.get(row["values"], 0) + row["counts"]
            done += len(pc.unique(table["user_id"]))
            progress(done, n_users)
    return counts


def read_ids(path: Path) -> list[str]:
    """Read a list of ids, one on each line; empty lines are skipped.

    Raises:
        InputError: if the file cannot be read as text or names nothing.
    """
    try:
        ids = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no UTF-8 text"
        msg = f"cannot read ids from `{path}`: {reason}; give a text file with an id on each line"
        raise InputError(msg) from error
    if not ids:
        msg = f"`{path}` names no id; give a text file with an id on each line"
        raise InputError(msg)
    return ids


def check_k(k: int) -> None:
    """Check how many items are asked for.

    Raises:
        InputError: if `k` is below 1.
    """
    if k < 1:
        msg = f"`k` is {k}; expected at least 1"
        raise InputError(msg)

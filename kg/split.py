"""Splits: which interactions a model learns from, which choose it, which judge it."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from kg.errors import ConfigError, SplitError, first_five
from kg.graph import Graph
from kg.terms import SPLITS, TEST, TRAIN, UNSPLIT, VALID

Ints = npt.NDArray[np.int64]
_TRAIN, _VALID, _TEST = range(3)


@dataclass(frozen=True)
class SplitConfig:
    """How to split.

    Attributes:
        method: `time` cuts all users at the same two moments, so that nothing learned lies after anything judged.
            `leave_last_out` keeps each user's last interaction for test and the one before for valid; another user's
            later interactions stay in train, so the future leaks. `ratio` cuts each user's interactions by share, with
            the same leak, and with `order="random"` the user's own future leaks too. `given` keeps what the data set
            says. Prefer `time` where there are timestamps; the others exist because papers use them.
        valid: share of interactions for validation, in [0, 1); 0 makes none. `leave_last_out` takes one for each
            user, or none if 0.
        test: share of interactions for test, in (0, 1).
        order: what "last" means for one user: by `time` (ties by item id) or `random`, from the seed.
        seed: of the random order.
        min_interactions: users with fewer keep all of theirs in train; unused by `time` and `given`.

    Raises:
        ConfigError: if a value is out of range or two contradict each other.
    """

    method: Literal["time", "leave_last_out", "ratio", "given"] = "time"
    valid: float = 0.1
    test: float = 0.1
    order: Literal["time", "random"] = "time"
    seed: int = 0
    min_interactions: int = 3

    def __post_init__(self) -> None:
        """Check ranges."""
        if not (0.0 <= self.valid < 1.0 and 0.0 < self.test < 1.0 and self.valid + self.test < 1.0):
            msg = (
                f"valid={self.valid} and test={self.test} leave no share for train; "
                "expected 0 <= valid, 0 < test and valid + test < 1"
            )
            raise ConfigError(msg)
        if self.min_interactions < 1:
            msg = f"min_interactions is {self.min_interactions}; expected at least 1"
            raise ConfigError(msg)
        if self.method == "time" and self.order == "random":
            msg = "method `time` cuts by timestamp and cannot have order `random`; choose method `ratio`"
            raise ConfigError(msg)


def split(graph: Graph, config: SplitConfig | None = None) -> Graph:
    """Give every interaction its split; the order of rows does not matter, and rows keep their places.

    Args:
        graph: with interactions; an earlier split is replaced, except by `given`.
        config: see `SplitConfig`, which says what each method leaks; by default global by time.

    Returns:
        The same graph with the column `split` filled.

    Raises:
        SplitError: if a part that was asked for is empty, a timestamp that is needed is missing, or nothing was given.
    """
    config = config or SplitConfig()
    if config.method == "given":
        _check_given(graph.interactions)
        return graph
    _check_timestamps(graph.interactions, config)
    parts = _by_time(graph.interactions, config) if config.method == "time" else _by_user(graph.interactions, config)
    _check_parts(parts, config)
    names = pa.array(SPLITS, pa.string()).take(pa.array(parts))
    place = graph.interactions.column_names.index("split")
    return graph.replace(interactions=graph.interactions.set_column(place, "split", names))


def _by_time(interactions: pa.Table, config: SplitConfig) -> Ints:
    moments = interactions["timestamp"].to_numpy()
    ordered = np.sort(moments)
    n_train = round(len(ordered) * (1.0 - config.valid - config.test))
    n_kept = round(len(ordered) * (1.0 - config.test))
    # A moment on the cut goes whole to the later part: no training interaction is as late as a judged one.
    valid_from, test_from = ordered[min(n_train, len(ordered) - 1)], ordered[min(n_kept, len(ordered) - 1)]
    return np.where(moments >= test_from, _TEST, np.where(moments >= valid_from, _VALID, _TRAIN)).astype(np.int64)


def _by_user(interactions: pa.Table, config: SplitConfig) -> Ints:
    order, user = _user_order(interactions, config)
    n_of = np.bincount(user)
    first = np.concatenate([[0], np.cumsum(n_of)[:-1]])
    from_end = (n_of[user] - 1) - (np.arange(len(user)) - first[user])  # 0 = the user's last
    if config.method == "leave_last_out":
        n_test, n_valid = np.ones_like(n_of), np.full_like(n_of, config.valid > 0)
    else:
        n_test = np.floor(n_of * config.test + 0.5).astype(np.int64)
        n_valid = np.floor(n_of * config.valid + 0.5).astype(np.int64)
    n_test = np.minimum(n_test, n_of - 1)
    n_valid = np.minimum(n_valid, n_of - 1 - n_test)
    kept = n_of < config.min_interactions
    n_test[kept] = n_valid[kept] = 0
    part = np.where(from_end < n_test[user], _TEST, np.where(from_end < n_test[user] + n_valid[user], _VALID, _TRAIN))
    parts = np.empty(len(user), np.int64)
    parts[order] = part
    return parts


def _user_order(interactions: pa.Table, config: SplitConfig) -> tuple[Ints, Ints]:
    """Return the rows ordered by user and, within each, from first to last; and each ordered row's user number."""
    keys = ["user_id", "item_id"] if config.order == "random" else ["user_id", "timestamp", "item_id"]
    order = pc.sort_indices(interactions, sort_keys=[(key, "ascending") for key in keys]).to_numpy().astype(np.int64)
    user = interactions["user_id"].combine_chunks().take(pa.array(order)).dictionary_encode().indices.to_numpy()
    if config.order == "random":
        draw = np.random.default_rng(config.seed).random(len(order))
        order = order[np.lexsort((draw, user))]
    return order, user.astype(np.int64)


def _check_given(interactions: pa.Table) -> None:
    n_unsplit = pc.sum(pc.equal(interactions["split"], UNSPLIT)).as_py() or 0
    if n_unsplit:
        msg = (
            f"{n_unsplit} of {len(interactions)} interactions come without a split, so `given` has nothing to keep; "
            "choose method `time`, `leave_last_out` or `ratio`"
        )
        raise SplitError(msg)
    missing = [part for part in (TRAIN, TEST) if not pc.any(pc.equal(interactions["split"], part)).as_py()]
    if missing:
        msg = f"the given split has nothing in {first_five(missing)}; choose method `time`, `leave_last_out` or `ratio`"
        raise SplitError(msg)


def _check_timestamps(interactions: pa.Table, config: SplitConfig) -> None:
    if not len(interactions):
        msg = "there are no interactions to split; give a data set that has some"
        raise SplitError(msg)
    n_missing = interactions["timestamp"].null_count
    if config.order == "time" and n_missing:
        msg = (
            f"{n_missing} of {len(interactions)} interactions have no timestamp, which method `{config.method}` needs; "
            "map the timestamp column, drop those rows, or choose method `ratio` with order `random`"
        )
        raise SplitError(msg)


def _check_parts(parts: Ints, config: SplitConfig) -> None:
    sizes = np.bincount(parts, minlength=3)
    wanted = {TRAIN: True, VALID: config.valid > 0, TEST: True}
    empty = [name for name, size in zip(SPLITS, sizes, strict=True) if wanted[name] and not size]
    if not empty:
        return
    advice = (
        "many interactions share the timestamp at the cut: use larger shares or method `leave_last_out`"
        if config.method == "time"
        else f"lower min_interactions ({config.min_interactions}) or use larger shares"
    )
    msg = (
        f"method `{config.method}` with valid={config.valid}, test={config.test} leaves {first_five(empty)} empty "
        f"(of {len(parts)} interactions); {advice}"
    )
    raise SplitError(msg)

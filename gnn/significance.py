"""Is one model better than another, or is it chance: intervals and tests over users."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from scipy import stats

from gnn.errors import InputError
from kg.errors import did_you_mean, first_five

Values = npt.ArrayLike
_CHUNK = 64
COMPARISON = pa.schema(
    [(name, pa.string()) for name in ("metric", "model", "against")]
    + [(name, pa.float64()) for name in ("mean", "mean_against", "difference", "low", "high", "p_value", "p_adjusted")]
    + [("n_users", pa.int64())]
)
"""Columns of what `compare` returns."""


@dataclass(frozen=True)
class PairedTest:
    """What a paired comparison of two models over users says.

    Attributes:
        difference: mean of a - b.
        low: lower end of its 95 % bootstrap interval.
        high: upper end.
        p_value: two-sided, of the hypothesis that the mean difference is 0.
        n: number of users.
    """

    difference: float
    low: float
    high: float
    p_value: float
    n: int


def bootstrap_interval(
    values: Values, *, level: float = 0.95, n_resamples: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """Return the percentile bootstrap interval of the mean over users.

    Args:
        values: (n,) one value for each user.
        level: share of resamples between the two ends.
        n_resamples: how many samples of n users are drawn with replacement.
        seed: of the draws.

    Raises:
        InputError: if there is no value, one is not finite, or `level` is not in (0, 1).

    Source:
        Efron and Tibshirani, An Introduction to the Bootstrap, 1993, section 13.3; `scipy.stats.bootstrap`.

    Deviations:
        None.
    """
    array = _checked(values)
    if not 0 < level < 1:
        msg = f"`level` is {level}; expected a number between 0 and 1"
        raise InputError(msg)
    if len(array) == 1:  # scipy wants two
        return float(array[0]), float(array[0])
    found = stats.bootstrap(
        (array,),
        np.mean,
        n_resamples=n_resamples,
        batch=_CHUNK,
        confidence_level=level,
        method="percentile",
        random_state=np.random.default_rng(seed),
    )
    low, high = found.confidence_interval
    return float(low), float(high)


def paired_test(a: Values, b: Values, *, seed: int = 0) -> PairedTest:
    """Compare two models by a paired t-test over users, with a bootstrap interval of the mean difference.

    Args:
        a: (n,) one value for each user, e.g. ndcg@20; average over seeds beforehand.
        b: (n,) the other model's, same users in the same order.
        seed: of the bootstrap.

    Raises:
        InputError: if the two do not have the same users, there are fewer than two, or a value is not finite.

    Source:
        Smucker, Allan and Carterette, CIKM 2007: the paired t-test agrees with the randomisation test on mean metrics
        over topics and is preferred to the sign and Wilcoxon tests; `scipy.stats.ttest_rel`.

    Deviations:
        Where all differences are equal the t statistic is undefined; p is 1 for differences of 0, else 0.
    """
    first, second = _checked(a), _checked(b)
    if first.shape != second.shape or len(first) < 2:
        msg = f"got {len(first)} and {len(second)} values; a paired test needs the same users in both, at least 2"
        raise InputError(msg)
    difference = first - second
    low, high = bootstrap_interval(difference, seed=seed)
    if np.ptp(difference) == 0:
        p_value = 1.0 if difference[0] == 0 else 0.0
    else:
        p_value = float(stats.ttest_rel(first, second).pvalue)
    return PairedTest(float(difference.mean()), low, high, p_value, len(difference))


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values for how many comparisons were made, so that the chance of one false claim stays below the level.

    p~(i) = max over j <= i of min(1, (m - j + 1) * p(j)), with p(1) <= ... <= p(m).

    Args:
        p_values: m of them, in any order.

    Returns:
        The adjusted p-values, in the same order.

    Raises:
        InputError: if one is not in [0, 1].

    Source:
        Holm, Scandinavian Journal of Statistics 1979.

    Deviations:
        None.
    """
    array = np.asarray(p_values, np.float64)
    if not ((array >= 0) & (array <= 1)).all():
        msg = f"p-values are {list(p_values)}; expected numbers in [0, 1]"
        raise InputError(msg)
    order = np.argsort(array, kind="stable")
    stepped = np.minimum(1.0, array[order] * np.arange(len(array), 0, -1))
    adjusted = np.empty_like(array)
    adjusted[order] = np.maximum.accumulate(stepped)
    return [float(p) for p in adjusted]


def compare(per_user: Mapping[str, pa.Table], metrics: Sequence[str] = ()) -> pa.Table:
    """Compare the first of some models with each of the others, user by user.

    Holm's correction runs over all tests of one metric: metrics of the same ranking are no independent claims.

    Args:
        per_user: name -> user_id and a column for each metric, as `gnn.evaluate` gives it; in any order of users.
        metrics: columns to compare; () for all that the first has.

    Returns:
        A row for each metric and other model: metric, model (the first), against, the two means, their difference with
        its 95 % bootstrap interval, p_value, p_adjusted, n_users.

    Raises:
        InputError: if there is nothing to compare with, a metric is unknown, or the users differ.
    """
    if len(per_user) < 2:
        msg = f"got {len(per_user)} table of users; expected at least 2, the model and what it is compared with"
        raise InputError(msg)
    (model, ours), *others = per_user.items()
    chosen = list(metrics) or _metrics_of(ours)
    users, rows = _users_of(model, ours), []
    for metric in chosen:
        values = _of_users(model, ours, users, metric)
        tests = [paired_test(values, _of_users(name, table, users, metric)) for name, table in others]
        adjusted = holm([test.p_value for test in tests])
        for (name, _), test, p in zip(others, tests, adjusted, strict=True):
            mean = float(values.mean())
            means = {"mean": mean, "mean_against": mean - test.difference, "difference": test.difference}
            chance = {"low": test.low, "high": test.high, "p_value": test.p_value, "p_adjusted": p}
            rows.append({"metric": metric, "model": model, "against": name, **means, **chance, "n_users": test.n})
    return pa.Table.from_pylist(rows, COMPARISON)


def _metrics_of(table: pa.Table) -> list[str]:
    return [field.name for field in table.schema if pa.types.is_floating(field.type)]


def _users_of(name: str, table: pa.Table) -> pa.Array:
    users = pc.unique(table["user_id"])
    if len(users) != len(table):
        msg = f"`{name}` has {len(table)} rows for {len(users)} users; expected one each: average over seeds first"
        raise InputError(msg)
    return users.sort()


def _of_users(name: str, table: pa.Table, users: pa.Array, metric: str) -> npt.NDArray[np.float64]:
    """Return a metric's values in the order of `users`."""
    if metric not in _metrics_of(table):
        msg = f"`{name}` has no metric `{metric}`; {did_you_mean(metric, _metrics_of(table))}"
        raise InputError(msg)
    own = _users_of(name, table)
    if own != users:
        missing = [users.filter(pc.invert(pc.is_in(users, own))), own.filter(pc.invert(pc.is_in(own, users)))]
        lacks, more = (f"{len(ids)} ({first_five(ids.to_pylist())})" if len(ids) else "0" for ids in missing)
        msg = f"`{name}` is of other users: it lacks {lacks} and has {more} more; evaluate both on the same split"
        raise InputError(msg)
    values: npt.NDArray[np.float64] = table[metric].to_numpy()[pc.index_in(users, table["user_id"].combine_chunks())]
    return values


def _checked(values: Values) -> npt.NDArray[np.float64]:
    array = np.asarray(values, np.float64).ravel()
    if not len(array) or not np.isfinite(array).all():
        n_bad = int((~np.isfinite(array)).sum())
        msg = f"got {len(array)} values, {n_bad} of them not finite; expected one number for each user"
        raise InputError(msg)
    return array

"""Is one model better than another, or is it chance: intervals and tests over users."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from gnn.errors import InputError

Values = npt.ArrayLike
_CHUNK = 64


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
        Efron and Tibshirani, An Introduction to the Bootstrap, 1993, section 13.3.

    Deviations:
        None.
    """
    array = _checked(values)
    if not 0 < level < 1:
        msg = f"`level` is {level}; expected a number between 0 and 1"
        raise InputError(msg)
    generator = np.random.default_rng(seed)
    means = np.concatenate(
        [
            array[generator.integers(len(array), size=(min(_CHUNK, n_resamples - start), len(array)))].mean(axis=1)
            for start in range(0, n_resamples, _CHUNK)
        ]
    )
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
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


def _checked(values: Values) -> npt.NDArray[np.float64]:
    array = np.asarray(values, np.float64).ravel()
    if not len(array) or not np.isfinite(array).all():
        n_bad = int((~np.isfinite(array)).sum())
        msg = f"got {len(array)} values, {n_bad} of them not finite; expected one number for each user"
        raise InputError(msg)
    return array

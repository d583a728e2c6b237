"""Intervals and tests over users."""

import numpy as np
import pytest
from scipy import stats

from gnn.errors import InputError
from gnn.significance import bootstrap_interval, holm, paired_test

RNG = np.random.default_rng(0)
A = RNG.random(200)
NOISE = RNG.normal(0, 0.05, 200)


def test_the_bootstrap_agrees_with_the_normal_interval_and_with_itself() -> None:
    low, high = bootstrap_interval(A)
    half = 1.96 * A.std() / np.sqrt(len(A))
    assert (low, high) == pytest.approx((A.mean() - half, A.mean() + half), abs=0.1 * half)
    assert bootstrap_interval(A) == (low, high)
    narrow = bootstrap_interval(A, level=0.5)
    assert low < narrow[0] < A.mean() < narrow[1] < high


def test_the_bootstrap_covers_the_truth_about_as_often_as_it_says() -> None:
    inside = 0
    for trial in range(200):
        low, high = bootstrap_interval(np.random.default_rng(trial).random(50), n_resamples=300)
        inside += low <= 0.5 <= high
    assert 180 <= inside <= 199


def test_a_real_difference_is_found_and_none_is_not() -> None:
    found = paired_test(A + 0.05 + NOISE, A)
    assert found.p_value < 1e-6
    assert 0 < found.low < found.difference < found.high
    assert found.n == 200
    none = paired_test(A + NOISE - NOISE.mean(), A)
    assert none.p_value > 0.5
    assert none.low < 0 < none.high


def test_the_paired_test_is_symmetric_and_scipys() -> None:
    one, other = paired_test(A, A + NOISE), paired_test(A + NOISE, A)
    assert one.p_value == other.p_value == pytest.approx(stats.ttest_rel(A, A + NOISE).pvalue)
    assert one.difference == pytest.approx(-other.difference)


def test_equal_models_have_p_1_and_a_constant_shift_p_0() -> None:
    assert paired_test(A, A).p_value == 1.0
    assert paired_test(np.full(4, 0.75), np.full(4, 0.5)).p_value == 0.0


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_bad_values_are_refused() -> None:
    with pytest.raises(InputError, match="got 2 values, 1 of them not finite"):
        bootstrap_interval([0.1, np.nan])
    with pytest.raises(InputError, match="got 0 values"):
        bootstrap_interval([])
    with pytest.raises(InputError, match=r"`level` is 1\.5"):
        bootstrap_interval(A, level=1.5)
    with pytest.raises(InputError, match="got 3 and 2 values"):
        paired_test(A[:3], A[:2])
    with pytest.raises(InputError, match=r"p-values are \[0\.1, 2\.0\]"):
        holm([0.1, 2.0])

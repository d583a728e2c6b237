"""Intervals and tests over users."""

import numpy as np
import pyarrow as pa
import pytest
from scipy import stats

from gnn.errors import InputError
from gnn.significance import bootstrap_interval, compare, holm, paired_test

RNG = np.random.default_rng(0)
A = RNG.random(200)
NOISE = RNG.normal(0, 0.05, 200)


def test_the_bootstrap_agrees_with_the_normal_interval_and_with_itself() -> None:
    low, high = bootstrap_interval(A)
    half = 1.96 * A.std() / np.sqrt(len(A))
    assert (low, high) == pytest.approx((A.mean() - half, A.mean() + half), abs=0.1 * half)
    assert bootstrap_interval(A) == (low, high)
    assert bootstrap_interval(A[:1]) == (A[0], A[0])
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


def per_user(values: np.ndarray, order: np.ndarray | None = None, **others: np.ndarray) -> pa.Table:
    table = pa.table({"user_id": [f"u:{k:03}" for k in range(len(values))], "ndcg@20": values, **others})
    return table if order is None else table.take(order)


def test_a_model_is_compared_with_each_other_user_by_user_whatever_their_order() -> None:
    shuffled = RNG.permutation(200)
    tables = {"ours": per_user(A + 0.05 + NOISE), "same": per_user(A + NOISE, shuffled), "worse": per_user(A, shuffled)}
    rows = compare(tables).to_pylist()
    assert [(r["model"], r["against"], r["metric"]) for r in rows] == [
        ("ours", "same", "ndcg@20"),
        ("ours", "worse", "ndcg@20"),
    ]
    tests = [paired_test(A + 0.05 + NOISE, other) for other in (A + NOISE, A)]
    for row, test in zip(rows, tests, strict=True):
        assert row["difference"] == pytest.approx(test.difference)
        assert (row["low"], row["high"]) == pytest.approx((test.low, test.high))
        assert row["mean"] - row["mean_against"] == pytest.approx(test.difference)
        assert row["n_users"] == 200
    assert [r["p_adjusted"] for r in rows] == pytest.approx(holm([r["p_value"] for r in rows]))


def test_holm_runs_over_the_comparisons_of_one_metric() -> None:
    other = {"recall@20": A[::-1].copy()}
    tables = {n: per_user(A + shift * NOISE, **other) for n, shift in (("a", 0), ("b", 1), ("c", 2))}
    rows = compare(tables).to_pylist()
    assert [r["metric"] for r in rows] == ["ndcg@20", "ndcg@20", "recall@20", "recall@20"]
    for first in (0, 2):
        pair = rows[first : first + 2]
        assert [r["p_adjusted"] for r in pair] == holm([r["p_value"] for r in pair])
    assert compare(tables, ["recall@20"]).to_pylist() == rows[2:]


def test_what_cannot_be_compared_is_refused() -> None:
    ours = per_user(A)
    with pytest.raises(InputError, match="got 1 table of users; expected at least 2"):
        compare({"a": ours})
    with pytest.raises(InputError, match="`a` has no metric `ndcg@2`; did you mean `ndcg@20`"):
        compare({"a": ours, "b": ours}, ["ndcg@2"])
    with pytest.raises(
        InputError, match=r"`b` is of other users: it lacks 3 \(`u:000`, `u:001`, `u:002`\) and has 0 more"
    ):
        compare({"a": ours, "b": ours[3:]})
    with pytest.raises(InputError, match="`b` has 400 rows for 200 users; expected one each: average over seeds"):
        compare({"a": ours, "b": pa.concat_tables([ours, ours])})

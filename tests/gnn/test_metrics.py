"""The metrics are their written definition."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gnn.errors import InputError
from gnn.metrics import METRICS, ndcg_at_k, ndcg_kgat_legacy, recall_at_k
from tests.gnn import oracles

RELEVANT = st.sets(st.integers(0, 29), min_size=1, max_size=25)


@given(st.permutations(range(30)), RELEVANT, st.integers(1, 20))
def test_every_metric_equals_its_definition(ranked: list[int], relevant: set[int], k: int) -> None:
    hits = np.array([[item in relevant for item in ranked[:20]]])
    n_relevant = np.array([len(relevant)])
    values = {name: metric(hits, n_relevant, k)[0] for name, metric in METRICS.items()}
    assert values == pytest.approx(oracles.metrics(ranked, relevant, k))
    assert all(0 <= value <= 1 for value in values.values())


@given(st.permutations(range(30)), RELEVANT, st.integers(2, 20))
def test_moving_a_hit_up_never_lowers_a_metric(ranked: list[int], relevant: set[int], k: int) -> None:
    places = [p for p in range(1, 20) if ranked[p] in relevant]
    better = list(ranked)
    for p in places[:1]:
        better[p - 1], better[p] = better[p], better[p - 1]
    for metric in METRICS.values():
        before, after = (
            metric(np.array([[i in relevant for i in r[:20]]]), np.array([len(relevant)]), k) for r in (ranked, better)
        )
        assert after[0] >= before[0] - 1e-12


def test_values_worked_out_by_hand() -> None:
    hits = np.array([[True, False, True, False]])
    assert recall_at_k(hits, np.array([4]), 3)[0] == 0.5
    expected = (1 + 1 / np.log2(4)) / (1 + 1 / np.log2(3) + 1 / np.log2(4))
    assert ndcg_at_k(hits, np.array([4]), 3)[0] == pytest.approx(expected)


def test_the_ndcg_of_kgat_divides_by_the_hits_that_were_retrieved() -> None:
    one_of_ten = np.array([[True, False, False], [False, False, False]])
    n_relevant = np.array([10, 10])
    assert ndcg_kgat_legacy(one_of_ten, n_relevant, 3).tolist() == [1.0, 0.0]
    assert ndcg_at_k(one_of_ten, n_relevant, 3)[0] == pytest.approx(1 / (1 + 1 / np.log2(3) + 0.5))
    late = np.array([[False, False, True, True]])
    assert ndcg_kgat_legacy(late, np.array([2]), 3)[0] == pytest.approx(0.5 / (1 + 1 / np.log2(3)))


def test_a_cut_off_beyond_the_ranking_is_refused() -> None:
    with pytest.raises(InputError, match="k is 5; expected 1 to 4"):
        recall_at_k(np.zeros((1, 4), bool), np.array([1]), 5)
    with pytest.raises(InputError, match="k is 0"):
        recall_at_k(np.zeros((1, 4), bool), np.array([1]), 0)

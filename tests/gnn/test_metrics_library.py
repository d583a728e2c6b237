"""Our metrics are those of ranx, a library for ranking evaluation, on rankings with ties."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from gnn.evaluate import evaluate
from gnn.metrics import METRICS
from tests.gnn.graphs import random_ckg
from tests.gnn.test_evaluate import Given, Vectors, sets_of

THEIR_NAMES = {"recall": "recall", "ndcg": "ndcg", "precision": "precision", "hit": "hit_rate", "mrr": "mrr"}
KS = (1, 3, 10, 40)


@pytest.mark.slow  # ranx compiles itself when it is first used: a minute, once
@pytest.mark.filterwarnings("ignore:unsafe cast")
@given(
    st.sampled_from([Given, Vectors]),
    st.integers(0, 2**32 - 1),
    st.integers(1, 12),
    st.integers(2, 30),
    st.integers(1, 4),
)
@settings(max_examples=40, deadline=None)
def test_every_metric_equals_ranx_under_ties(
    kind: type[Given], seed: int, n_users: int, n_items: int, n_levels: int
) -> None:
    """Scores are integers below `n_levels`, so most items are tied, and k goes beyond the number of items.

    Ties are the one thing that has no common definition: ranx leaves them to an unstable sort, here the lower item
    index wins. So ranx gets score * n_items - item: it orders distinct scores alike and states our rule for ties.
    """
    import ranx

    ckg = random_ckg(seed, n_users=n_users, n_items=n_items)
    table = np.random.default_rng(seed).integers(0, n_levels, (n_users, n_items))
    relevant, masked = sets_of(ckg, "test"), sets_of(ckg, "train", "valid")
    assume(relevant and len(ckg.interactions["train"]))
    name = [f"{user:02}" for user in range(n_users)]
    run = {
        name[user]: {
            f"i{item}": float(table[user, item] * n_items - item)
            for item in range(n_items)
            if item not in masked.get(user, set())
        }
        for user in relevant
    }
    qrels = {name[user]: {f"i{item}": 1 for item in items} for user, items in relevant.items()}
    wanted = [f"{theirs}@{k}" for theirs in THEIR_NAMES.values() for k in KS]
    expected = ranx.evaluate(ranx.Qrels(qrels), ranx.Run(run), wanted, return_mean=False)
    got = evaluate(kind(table, ckg), ckg, ks=KS).per_user
    for ours, theirs in THEIR_NAMES.items():
        for k in KS:
            np.testing.assert_allclose(got[f"{ours}@{k}"], expected[f"{theirs}@{k}"], atol=1e-12, err_msg=f"{ours}@{k}")


def test_every_metric_of_ours_is_checked_against_the_library() -> None:
    assert set(THEIR_NAMES) == set(METRICS)

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kg.errors import ConfigError, SplitError
from kg.graph import Graph
from kg.split import SplitConfig, split
from kg.terms import TEST, TRAIN, VALID
from tests.toy import toy_graph

USER_METHODS = [
    SplitConfig(method="leave_last_out"),
    SplitConfig(method="ratio", valid=0.2, test=0.3),
    SplitConfig(method="ratio", valid=0.2, test=0.3, order="random", seed=5),
    SplitConfig(method="leave_last_out", order="random", seed=5),
]


def data_set(rows: list[tuple[int, int, int | None]]) -> Graph:
    users = [{"entity_id": f"u{u}", "type": "User", "name": str(u)} for u in sorted({r[0] for r in rows})]
    items = [{"entity_id": f"i{i}", "type": "Item", "name": str(i)} for i in sorted({r[1] for r in rows})]
    interactions = [
        {"user_id": f"u{u}", "item_id": f"i{i}", "timestamp": t, "value": None, "split": "unsplit"} for u, i, t in rows
    ]
    return Graph.from_rows(entities=users + items, interactions=interactions)


def moments(graph: Graph, part: str) -> list[int]:
    return graph.interactions_of(part)["timestamp"].to_pylist()


def pairs(graph: Graph, part: str) -> set[tuple[str, str]]:
    rows = graph.interactions_of(part)
    return set(zip(rows["user_id"].to_pylist(), rows["item_id"].to_pylist(), strict=True))


logs = st.lists(
    st.tuples(st.integers(0, 5), st.integers(0, 9), st.integers(0, 40)),
    min_size=20,
    max_size=60,
    unique_by=lambda row: row[:2],
)


@given(logs)
@settings(deadline=None, max_examples=40)
def test_by_time_nothing_learned_is_as_late_as_anything_judged(rows: list[tuple[int, int, int]]) -> None:
    try:
        done = split(data_set(rows), SplitConfig(valid=0.2, test=0.2))
    except SplitError:
        return
    assert max(moments(done, TRAIN)) < min(moments(done, VALID))
    assert max(moments(done, VALID)) < min(moments(done, TEST))


def test_by_time_takes_the_shares_that_were_asked_for() -> None:
    done = split(data_set([(n % 7, n, n) for n in range(100)]), SplitConfig(valid=0.15, test=0.25))
    assert [len(done.interactions_of(p)) for p in (TRAIN, VALID, TEST)] == [60, 15, 25]


def test_a_moment_on_the_cut_goes_whole_to_the_later_part() -> None:
    done = split(data_set([(0, n, t) for n, t in enumerate([1, 2, 3, 7, 7, 7, 7, 8, 9, 9])]), SplitConfig(valid=0.3))
    assert (moments(done, TRAIN), moments(done, VALID)) == ([1, 2, 3], [7, 7, 7, 7, 8])


@pytest.mark.parametrize("config", USER_METHODS, ids=lambda c: f"{c.method}-{c.order}")
@given(rows=logs)
@settings(deadline=None, max_examples=25)
def test_each_user_is_cut_the_same_whatever_the_order_of_rows(
    config: SplitConfig, rows: list[tuple[int, int, int]]
) -> None:
    try:
        done = split(data_set(rows), config)
    except SplitError:
        return
    assert split(data_set(rows[::-1]), config).equals(done)
    learned, valid, test = (pairs(done, part) for part in (TRAIN, VALID, TEST))
    assert len(learned) + len(valid) + len(test) == len(rows)
    assert {u for u, _ in valid | test} <= {u for u, _ in learned}
    if config.order == "time":
        time = {(f"u{u}", f"i{i}"): t for u, i, t in rows}
        for user, item in learned:
            assert all(time[user, item] <= time[other] for other in valid | test if other[0] == user)


def test_leave_last_out_judges_the_last_and_validates_the_one_before() -> None:
    given_split = toy_graph()
    assert split(given_split, SplitConfig(method="leave_last_out")).equals(given_split)


def test_a_share_of_zero_makes_no_validation_part() -> None:
    for method in ("time", "leave_last_out", "ratio"):
        done = split(toy_graph(), SplitConfig(method=method, valid=0.0, test=0.25))  # type: ignore[arg-type]
        assert not len(done.interactions_of(VALID))
        assert len(done.interactions_of(TEST)) == 6


def test_rows_keep_their_places_and_only_the_split_changes() -> None:
    graph = toy_graph()
    order = pa.array(np.random.default_rng(0).permutation(len(graph.interactions)))
    shuffled = graph.replace(interactions=graph.interactions.take(order))
    done = split(shuffled, SplitConfig(method="ratio", valid=0.25, test=0.25))
    assert done.interactions.drop_columns("split").equals(shuffled.interactions.drop_columns("split"))


def test_users_with_few_interactions_stay_in_train() -> None:
    rows = [(0, n, n) for n in range(5)] + [(1, n, n) for n in range(4)]
    done = split(data_set(rows), SplitConfig(method="leave_last_out", min_interactions=5))
    assert {u for u, _ in pairs(done, TEST) | pairs(done, VALID)} == {"u0"}


def test_random_order_follows_the_seed() -> None:
    graph = data_set([(n % 4, n, None) for n in range(60)])

    def test_part(seed: int) -> set[tuple[str, str]]:
        return pairs(split(graph, SplitConfig(method="ratio", order="random", seed=seed)), TEST)

    assert test_part(1) == test_part(1) != test_part(2)


def test_given_keeps_the_split_of_the_data_set() -> None:
    assert split(toy_graph(), SplitConfig(method="given")).equals(toy_graph())


@pytest.mark.parametrize("part", [TRAIN, TEST])
def test_a_given_split_without_a_part_is_refused(part: str) -> None:
    graph = toy_graph()
    rest = graph.interactions.filter(pc.not_equal(graph.interactions["split"], part))
    with pytest.raises(SplitError, match=f"the given split has nothing in `{part}`; choose method"):
        split(graph.replace(interactions=rest), SplitConfig(method="given"))


def test_given_without_a_split_is_refused() -> None:
    with pytest.raises(SplitError, match="2 of 2 interactions come without a split"):
        split(data_set([(0, 1, 1), (0, 2, 2)]), SplitConfig(method="given"))


def test_missing_timestamps_are_refused_where_time_is_needed() -> None:
    graph = data_set([(0, 1, 1), (0, 2, None), (0, 3, 3)])
    for method in ("time", "leave_last_out", "ratio"):
        with pytest.raises(SplitError, match=f"1 of 3 interactions have no timestamp, which method `{method}` needs"):
            split(graph, SplitConfig(method=method))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("config", "text"),
    [
        (SplitConfig(valid=0.3, test=0.3), "leaves `train`, `valid` empty .* share the timestamp at the cut"),
        (SplitConfig(method="leave_last_out", min_interactions=9), "leaves `valid`, `test` empty .* min_interactions"),
        (SplitConfig(method="ratio"), "leaves `valid`, `test` empty .* use larger shares"),
    ],
)
def test_an_empty_part_is_named_with_what_to_change(config: SplitConfig, text: str) -> None:
    with pytest.raises(SplitError, match=text):
        split(data_set([(u, i, 7) for u in range(3) for i in range(4)]), config)


def test_nothing_to_split_is_refused() -> None:
    with pytest.raises(SplitError, match="no interactions to split"):
        split(Graph.from_tables())


@pytest.mark.parametrize(("valid", "test"), [(0.5, 0.5), (-0.1, 0.2), (0.1, 0.0)])
def test_shares_that_leave_no_train_are_refused(valid: float, test: float) -> None:
    with pytest.raises(ConfigError, match=f"valid={valid} and test={test} leave no share"):
        SplitConfig(valid=valid, test=test)


def test_contradicting_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match="`time` cuts by timestamp and cannot have order `random`"):
        SplitConfig(method="time", order="random")
    with pytest.raises(ConfigError, match="min_interactions is 0"):
        SplitConfig(min_interactions=0)

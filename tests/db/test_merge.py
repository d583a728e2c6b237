"""What a write changes, row by row."""

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from db.merge import delta, digest_key, row_key
from db.model import stored_tables
from tests.toy import toy_graph

_VALUES = st.none() | st.text(st.sampled_from("a|\\pn\n"), max_size=4)


@given(st.lists(st.tuples(_VALUES, _VALUES), min_size=2, max_size=8))
def test_equal_keys_mean_equal_rows(rows: list[tuple[str | None, str | None]]) -> None:
    table = pa.table(
        {"a": pa.array([a for a, _ in rows], pa.string()), "b": pa.array([b for _, b in rows], pa.string())}
    )
    assert len(set(row_key(table, ("a", "b")).to_pylist())) == len(set(rows))
    assert len(set(digest_key(table, ("a", "b")).to_pylist())) == len(set(rows))


def test_a_graph_compared_with_itself_changes_nothing() -> None:
    for name, table in stored_tables(toy_graph()).items():
        change = delta(name, table, table)
        assert (len(change.absent), len(change.changed)) == (0, 0), name


def test_new_and_changed_rows_are_told_apart() -> None:
    stored = pa.table({"entity_id": ["a", "b", "c"], "kind": ["k"] * 3, "vector": _vectors([[1.0], [2.0, 3.0], []])})
    incoming = pa.table(
        {"entity_id": ["c", "d", "b", "a"], "kind": ["k"] * 4, "vector": _vectors([[], [9.0], [2.0, 4.0], [1.0]])}
    )
    change = delta("features", stored, incoming)
    assert change.absent["entity_id"].to_pylist() == ["d"]
    assert change.changed["entity_id"].to_pylist() == ["b"]


def test_a_null_that_becomes_a_value_is_a_change() -> None:
    columns = {"entity_id": ["a", "b", "c"], "type": ["T"] * 3, "name": ["n"] * 3}
    stored = pa.table({**columns, "text": pa.array([None, "x", None], pa.string())})
    incoming = pa.table({**columns, "text": pa.array(["x", None, None], pa.string())})
    assert delta("entities", stored, incoming).changed["entity_id"].to_pylist() == ["a", "b"]


def _vectors(values: list[list[float]]) -> pa.Array:
    return pa.array(values, pa.list_(pa.float32()))

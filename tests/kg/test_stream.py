"""The streaming reader gives the graph that the plain one gives, or its error."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kg.ckg import CollaborativeKG
from kg.errors import HalfWrittenError, KgError, SplitError
from kg.files import GRAPH_FORMAT, atomic_directory, read_graph, write_graph, write_manifest
from kg.graph import Graph
from kg.stream import read_ckg
from kg.terms import SPLITS
from tests.kg.random_graphs import TEXTS
from tests.toy import toy_graph

ROWS = [
    ("u1", "i2", "test"),
    ("u0", "i1", "train"),
    ("u1", "i0", "train"),
    ("u0", "i0", "valid"),
    ("u1", "i1", "train"),
]


def graph_of(users: list[str], items: list[str]) -> Graph:
    kinds = {**dict.fromkeys(users, "User"), **dict.fromkeys(items, "Item")}
    return Graph.from_rows(entities=[{"entity_id": i, "type": kind, "name": i} for i, kind in kinds.items()])


def write_raw(graph: Graph, interactions: pa.Table, path: Path, **options: Any) -> None:
    """Write a directory with interactions as they are: in any order, right or wrong."""
    with atomic_directory(path, overwrite=True) as partial:
        for name, table in {**graph.tables(), "interactions": interactions}.items():
            pq.write_table(table, partial / f"{name}.parquet", **options)
        write_manifest(partial, GRAPH_FORMAT, counts=graph.counts())


def table_of(rows: list[tuple[Any, ...]]) -> pa.Table:
    columns = zip(*rows, strict=True) if rows else [(), (), ()]
    names = ("user_id", "item_id", "split")
    return pa.table({name: pa.array(column, pa.string()) for name, column in zip(names, columns, strict=True)})


def assert_same(one: CollaborativeKG, other: CollaborativeKG) -> None:
    about = ("nodes", "n_users", "n_items", "relations")
    assert [getattr(one, name) for name in about] == [getattr(other, name) for name in about]
    for name in SPLITS:
        np.testing.assert_array_equal(one.interactions[name], other.interactions[name])
        assert one.interactions[name].dtype == np.int64
    np.testing.assert_array_equal(one.triples, other.triples)
    np.testing.assert_array_equal(one.confidence, other.confidence)


@given(st.lists(TEXTS, min_size=2, max_size=9, unique=True), st.data())
@settings(deadline=None, max_examples=40)
def test_any_interactions_in_any_order_give_the_same_graph(
    tmp_path_factory: pytest.TempPathFactory, ids: list[str], data: st.DataObject
) -> None:
    n_users = data.draw(st.integers(1, len(ids) - 1))
    users, items = ids[:n_users], ids[n_users:]
    pairs = data.draw(
        st.lists(st.tuples(st.sampled_from(users), st.sampled_from(items)), min_size=1, max_size=20, unique=True)
    )
    splits = data.draw(st.lists(st.sampled_from(SPLITS), min_size=len(pairs), max_size=len(pairs)))
    rows = [(u, i, split) for (u, i), split in zip(pairs, ["train", *splits[1:]], strict=True)]
    path = tmp_path_factory.mktemp("stream") / "graph"
    write_raw(graph_of(users, items), table_of(rows), path, row_group_size=3, use_dictionary=data.draw(st.booleans()))
    assert_same(read_ckg(path), CollaborativeKG.from_graph(read_graph(path)))


def test_facts_and_hyperedges_come_along_and_batches_change_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_graph(toy_graph(), tmp_path / "graph")
    expected = CollaborativeKG.from_graph(toy_graph())
    assert_same(read_ckg(tmp_path / "graph"), expected)
    monkeypatch.setattr("kg.stream._BATCH", 5)  # a batch ends where a row group of the file ends, too
    told: list[tuple[int, int | None]] = []
    assert_same(
        read_ckg(tmp_path / "graph", progress=lambda done, total, note="": told.append((done, total))), expected
    )
    n = len(toy_graph().interactions)
    assert told[-1] == (n, n)
    assert len(told) == -(-n // 5)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (("nobody", "i0", "train"), "1 ids are not in entities: `nobody`"),
        (("u0", "nothing", "train"), "1 ids are not in entities: `nothing`"),
        (("i0", "i1", "train"), "`i0` is an entity of another type than `User`"),
        (("u0", "u1", "train"), "`u1` is an entity of another type than `Item`"),
        (("u1", "i2", "train"), "1 keys \\(user_id, item_id\\) occur more than once: `u1 | i2`"),
        (("u1", "i2", "test"), "1 keys \\(user_id, item_id\\) occur more than once: `u1 | i2`"),
        (("u0", "i2", "dev"), "column `split` has `dev`; expected one of train, valid, test"),
        (("u0", None, "train"), "column `item_id`: 1 values are missing, the first in row 5"),
    ],
)
def test_a_bad_row_is_refused_as_the_plain_reader_refuses_it(row: tuple[Any, ...], said: str, tmp_path: Path) -> None:
    write_raw(graph_of(["u0", "u1"], ["i0", "i1", "i2"]), table_of([*ROWS, row]), tmp_path / "graph")
    with pytest.raises(KgError, match=said) as plain:
        read_graph(tmp_path / "graph")
    with pytest.raises(type(plain.value), match=said) as streamed:
        read_ckg(tmp_path / "graph")
    assert str(streamed.value) == str(plain.value)
    assert streamed.value.__notes__[0] in ("rows 0 to 5 of the interactions", "over all splits")


def test_a_table_without_a_column_or_of_other_types_is_read_as_the_plain_reader_reads_it(tmp_path: Path) -> None:
    graph = graph_of(["7", "8"], ["1", "2"])
    numbers = pa.table({"user_id": [8, 7], "item_id": [1, 2], "split": ["train", "test"]})
    write_raw(graph, numbers, tmp_path / "graph")
    assert_same(read_ckg(tmp_path / "graph"), CollaborativeKG.from_graph(read_graph(tmp_path / "graph")))
    write_raw(graph, numbers.drop(["split"]), tmp_path / "graph")
    with pytest.raises(KgError, match="table `interactions` lacks the column `split`"):
        read_ckg(tmp_path / "graph")


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([("u0", "i0", "train"), ("u1", "i0", "unsplit")], "the interactions are not split yet"),
        ([("u0", "i0", "test"), ("u1", "i0", "valid")], r"no interaction is in `train` \(got test, valid\)"),
        ([], r"no interaction is in `train` \(got none\)"),
    ],
)
def test_interactions_without_a_split_are_refused(rows: list[tuple[Any, ...]], said: str, tmp_path: Path) -> None:
    write_raw(graph_of(["u0", "u1"], ["i0"]), table_of(rows), tmp_path / "graph")
    with pytest.raises(SplitError, match=said):
        read_ckg(tmp_path / "graph")


def test_a_changed_byte_and_unreadable_parquet_are_refused(tmp_path: Path) -> None:
    write_graph(toy_graph(), tmp_path / "graph")
    (tmp_path / "graph" / "interactions.parquet").write_bytes(b"PAR1 is not enough")
    with pytest.raises(HalfWrittenError, match=r"interactions\.parquet` is not what was written"):
        read_ckg(tmp_path / "graph")
    with pytest.raises(HalfWrittenError, match=r"interactions\.parquet` is not readable Parquet"):
        read_ckg(tmp_path / "graph", verify=False)

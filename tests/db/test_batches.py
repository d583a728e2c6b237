"""Batches hold every row once, and no two that share a node are written at the same time."""

import threading
import time

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from db.batches import Batch, Limits, cut, write_in_parallel
from db.model import stored_tables
from db.neo4j_load import _commit_in_turn
from db.neo4j_statements import NODES, RELATIONSHIPS, Group, groups
from tests.contracts.store import graphs
from tests.toy import toy_graph

_IDS = [f"n{i}" for i in range(9)]


def _group(pairs: list[tuple[str, str]]) -> Group:
    heads, tails = ([pair[k] for pair in pairs] for k in (0, 1))
    rows = pa.table({"head": pa.array(heads, pa.string()), "tail": pa.array(tails, pa.string())})
    return Group("triples", "", rows)


_PAIRS = st.lists(st.tuples(st.sampled_from(_IDS), st.sampled_from(_IDS)), max_size=60)


@given(pairs=_PAIRS, size=st.integers(1, 20), n_writers=st.integers(1, 4))
def test_every_row_is_in_one_batch_that_names_the_blocks_of_its_ends(
    pairs: list[tuple[str, str]], size: int, n_writers: int
) -> None:
    batches = list(cut(_group(pairs), pa.array(_IDS), Limits(size, 1 << 30, n_writers)))
    rows = [tuple(row.values()) for batch in batches for row in batch.rows.to_pylist()]
    assert sorted(rows) == sorted(pairs)
    assert max((len(batch.rows) for batch in batches), default=0) <= size
    for one in batches:
        for other in batches:
            if one.blocks.isdisjoint(other.blocks):
                assert _nodes(one).isdisjoint(_nodes(other))


@settings(max_examples=25)
@given(graph=graphs(), size=st.integers(1, 5))
def test_all_tables_are_cut(graph, size: int) -> None:
    tables = stored_tables(graph)
    nodes = pa.concat_arrays([tables[name].column(0).combine_chunks() for name in ("entities", "hyperedges")])
    for name in (*NODES, *RELATIONSHIPS):
        batches = [b for group in groups(name, tables) for b in cut(group, nodes, Limits(size, 1 << 30, 2))]
        assert sum(len(batch.rows) for batch in batches) == len(tables[name])
        assert all((not batch.blocks) == (name in NODES) for batch in batches)


def test_long_rows_make_small_batches() -> None:
    tables = stored_tables(toy_graph())
    tables["entities"] = tables["entities"].set_column(3, "text", pa.array(["x" * 1000] * len(tables["entities"])))
    sizes = [len(b.rows) for g in groups("entities", tables) for b in cut(g, pa.array([]), Limits(100, 2_200, 2))]
    assert max(sizes) == 2
    tiny = [len(b.rows) for g in groups("entities", tables) for b in cut(g, pa.array([]), Limits(100, 10, 2))]
    assert set(tiny) == {1}


@given(pairs=_PAIRS)
def test_writers_never_hold_the_same_block(pairs: list[tuple[str, str]]) -> None:
    held: list[frozenset[int]] = []
    lock, widest, written = threading.Lock(), 0, 0

    def write(batch: Batch) -> int:
        nonlocal widest
        with lock:
            assert all(batch.blocks.isdisjoint(other) for other in held)
            held.append(batch.blocks)
            widest = max(widest, len(held))
        time.sleep(0.0002)
        with lock:
            held.remove(batch.blocks)
        return len(batch.rows)

    for batch, n in write_in_parallel(cut(_group(pairs), pa.array(_IDS), Limits(2, 1 << 30, 3)), write, 3):
        assert n == len(batch.rows)
        written += n
    assert written == len(pairs)
    assert widest <= 3


def test_two_writers_work_at_once() -> None:
    both = threading.Barrier(2, timeout=10)
    batches = [Batch(_group([]), pa.table({}), frozenset({k})) for k in (0, 0, 1, 1)]
    ended = list(write_in_parallel(batches, lambda batch: both.wait(), 2))
    assert len(ended) == 4


def test_an_error_ends_the_whole_and_begins_no_other() -> None:
    begun = []

    def write(batch: Batch) -> None:
        begun.append(batch)
        msg = "the disk is full"
        raise OSError(msg)

    batches = [Batch(_group([]), pa.table({}), frozenset({0})) for _ in range(5)]
    with pytest.raises(OSError, match="the disk is full"):
        list(write_in_parallel(batches, write, 2))
    assert len(begun) == 1


class _Session:
    def execute_write(self, work) -> None:
        work(None)


def test_a_writer_that_waits_long_for_its_turn_commits_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("db.neo4j_load._TURN_S", 0.05)
    done, turn = [], threading.Lock()
    with turn:
        _commit_in_turn(_Session(), turn, done.append)
        assert turn.locked()
    _commit_in_turn(_Session(), turn, done.append)
    assert done == [None, None]
    assert not turn.locked()


def _nodes(batch: Batch) -> set[str]:
    return set(batch.rows["head"].to_pylist()) | set(batch.rows["tail"].to_pylist())

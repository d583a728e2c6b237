"""Batches hold every row once, and no two that share a node are written at the same time."""

import signal
import threading
import time
import tracemalloc

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from db.batches import Batch, Limits, cut_nodes, cut_relationships, write_in_parallel
from db.bench import made_graph
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
    parts = [_group(pairs[::2]), _group(pairs[1::2])]
    batches = cut_relationships(parts, pa.array(_IDS), Limits(size, 1 << 30, n_writers))
    rows = [tuple(row.values()) for batch in batches for part in batch.taken().parts for row in part.rows.to_pylist()]
    assert sorted(rows) == sorted(pairs)
    assert all(0 < len(batch) <= size for batch in batches)
    assert len(batches) <= 1 or len(pairs) > size
    for one in batches:
        for other in batches:
            if one.blocks.isdisjoint(other.blocks):
                assert _nodes(one).isdisjoint(_nodes(other))


@settings(max_examples=25)
@given(graph=graphs(), size=st.integers(1, 5))
def test_all_tables_are_cut(graph, size: int) -> None:
    tables = stored_tables(graph)
    nodes = pa.concat_arrays([tables[name].column(0).combine_chunks() for name in ("entities", "hyperedges")])
    limits = Limits(size, 1 << 30, 2)
    of_nodes = cut_nodes([g for name in NODES for g in groups(name, tables)], limits)
    others = cut_relationships([g for name in RELATIONSHIPS for g in groups(name, tables)], nodes, limits)
    for batches, names in ((of_nodes, NODES), (others, RELATIONSHIPS)):
        assert sum(map(len, batches)) == sum(len(tables[name]) for name in names)
        assert all(0 < len(batch) <= size for batch in batches)
        assert all((not batch.blocks) == (names is NODES) for batch in batches)


def test_batches_hold_places_and_no_second_copy_of_the_rows() -> None:
    graph = made_graph(5_000, 50_000)
    tables = {name: rows.combine_chunks() for name, rows in stored_tables(graph).items()}
    nodes = tables["entities"]["entity_id"].combine_chunks()
    before = pa.total_allocated_bytes()
    tracemalloc.start()
    batches = cut_relationships(groups("triples", tables), nodes, Limits(500, 1 << 30, 2))
    held = tracemalloc.get_traced_memory()[0] + pa.total_allocated_bytes() - before
    tracemalloc.stop()
    assert sum(map(len, batches)) == 50_000
    assert held < tables["triples"].nbytes / 2  # two copies, before


def test_batches_of_nodes_are_equal_and_keep_all_writers_busy() -> None:
    rows = [pa.table({"entity_id": [f"{i:05}" for i in range(n)]}) for n in (1, 5_000, 5_000)]
    batches = cut_nodes([Group("entities", str(len(r)), r) for r in rows], Limits(5_000, 1 << 30, 2))
    assert [len(batch) for batch in batches] == [2_501, 2_501, 2_501, 2_498]
    assert [len(batch.parts) for batch in batches] == [2, 2, 1, 1]


def test_long_rows_make_small_batches() -> None:
    tables = stored_tables(toy_graph())
    tables["entities"] = tables["entities"].set_column(3, "text", pa.array(["x" * 1000] * len(tables["entities"])))
    parts = list(groups("entities", tables))
    assert max(len(batch) for batch in cut_nodes(parts, Limits(100, 2_200, 2))) == 2
    assert {len(batch) for batch in cut_nodes(parts, Limits(100, 10, 2))} == {1}


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
        return len(batch)

    batches = cut_relationships([_group(pairs)], pa.array(_IDS), Limits(2, 1 << 30, 3))
    for batch, n in write_in_parallel(batches, write, 3):
        assert n == len(batch)
        written += n
    assert written == len(pairs)
    assert widest <= 3


def test_two_writers_work_at_once() -> None:
    both = threading.Barrier(2, timeout=10)
    batches = [Batch((), frozenset({k})) for k in (0, 0, 1, 1)]
    ended = list(write_in_parallel(batches, lambda batch: both.wait(), 2))
    assert len(ended) == 4


def test_an_error_ends_the_whole_and_begins_no_other() -> None:
    begun = []

    def write(batch: Batch) -> None:
        begun.append(batch)
        msg = "the disk is full"
        raise OSError(msg)

    batches = [Batch((), frozenset({0})) for _ in range(5)]
    with pytest.raises(OSError, match="the disk is full"):
        list(write_in_parallel(batches, write, 2))
    assert len(begun) == 1


def test_ctrl_c_begins_no_other_and_stops_those_that_are_written() -> None:
    begun, stopped = [], threading.Event()

    def write(batch: Batch) -> None:
        begun.append(batch)
        if len(begun) == 1:
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        stopped.wait(30)

    batches = [Batch((), frozenset({k})) for k in range(5)]
    before = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        list(write_in_parallel(batches, write, 2, lambda running: stopped.set()))
    assert time.monotonic() - before < 10
    assert len(begun) <= 2


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
    return {node for part in batch.taken().parts for end in ("head", "tail") for node in part.rows[end].to_pylist()}

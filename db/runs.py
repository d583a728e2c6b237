"""Runs: named sets of sources, so that what one extraction said can be added, compared and taken back.

A run says nothing itself: its facts are the facts of its sources. Every function here may be repeated, and a killed one
is completed by calling it again.
"""

from typing import Final

import pyarrow as pa

from db.errors import StoreFormatError, UnknownRunError
from db.queries import load_query
from db.store import GraphStore
from kg.errors import did_you_mean
from kg.graph import Graph
from kg.hyperedges import id_of_source, rename_hyperedges
from kg.progress import Progress, silent

LIST_RUNS: Final = (
    "MATCH (r:Run) OPTIONAL MATCH (r)-[:HAS_SOURCE]->(s:Source) "
    "RETURN r.run AS run, collect(s.source) AS sources ORDER BY run"
)
JOIN_RUN: Final = (
    "MERGE (r:Run {run: $run}) WITH r UNWIND $sources AS name MATCH (s:Source) WHERE s.source = name "
    "MERGE (r)-[:HAS_SOURCE]->(s)"
)
_OWN: Final = (
    "MATCH (r:Run)-[:HAS_SOURCE]->(s:Source) WHERE r.run = $run "
    "AND NOT EXISTS { MATCH (o:Run)-[:HAS_SOURCE]->(s) WHERE o.run <> $run } RETURN s.source AS source"
)
_HYPEREDGES: Final = "UNWIND $ids AS id MATCH (h:Hyperedge) WHERE h.hyperedge_id = id RETURN id, h.source AS source"
_FORGET: Final = "MATCH (r:Run) WHERE r.run = $run DETACH DELETE r"
_CHANGES: Final = pa.schema(
    [
        ("change", pa.string()),
        ("head", pa.string()),
        ("relation", pa.string()),
        ("tail", pa.string()),
        ("before", pa.float64()),
        ("after", pa.float64()),
    ]
)


def add_run(store: GraphStore, run: str, graph: Graph, progress: Progress = silent) -> None:
    """Write a graph and let its sources be those of a run; a run that is there gains them.

    A source that was stored without a run, and that the graph names, is the run's from then on. Where the store has a
    hyperedge's id from another source, it gets `ID@SOURCE`, as in `kg.fuse`: a store keeps one of each id.

    Raises:
        StoreWriteError: if the store refuses; what was there stays.
    """
    store.write(_with_own_hyperedges(store, graph), progress)
    store.query(JOIN_RUN, {"run": run, "sources": graph.sources["source"].to_pylist()}, write=True)


def list_runs(store: GraphStore) -> dict[str, tuple[str, ...]]:
    """Return the sources of each run, sorted, by the run's name."""
    rows = store.query(LIST_RUNS).to_pylist()
    return {row["run"]: tuple(sorted(row["sources"] or ())) for row in rows}


def delete_run(store: GraphStore, run: str) -> int:
    """Remove a run and what only it says.

    A source that another run has too stays with all its facts, and so do facts that a source of another run states.
    Entities that only the run's sources speak of go, too; users, items and interactions always stay.

    Returns:
        How many triples, hyperedges and texts were removed; 0 for a run that is not there.
    """
    own = store.query(_OWN, {"run": run})["source"].to_pylist()
    removed = store.delete(*own, orphans=True)
    store.query(_FORGET, {"run": run}, write=True)
    return removed


def diff_runs(store: GraphStore, before: str, after: str) -> pa.Table:
    """Compare what two runs state, by the saved queries `..changes_between_runs`: facts, hyperedges and texts.

    Returns:
        Columns change (added, changed, removed), head, relation, tail, before, after; the last two are the highest
        confidence that a source of the run gives the fact, or weight of the hyperedge. The members of a hyperedge are
        rows with relation `RELATION/ROLE`, a text is one with relation `text/KIND` and itself as tail.

    Raises:
        UnknownRunError: if there is none of a name.
    """
    known = list_runs(store)
    for run in (before, after):
        if run not in known:
            msg = f"the store has no run `{run}`; {did_you_mean(run, known) if known else 'it has none yet'}"
            raise UnknownRunError(msg)
    changes = []
    for kind in ("", "hyperedge_", "text_"):
        rows = store.query(load_query(f"{kind}changes_between_runs"), {"before": before, "after": after})
        if kind == "text_":
            rows = rows.append_column("before", pa.nulls(len(rows))).append_column("after", pa.nulls(len(rows)))
        changes.append(rows.cast(_CHANGES))
    return pa.concat_tables(changes).sort_by([(name, "ascending") for name in _CHANGES.names[:4]])


def _with_own_hyperedges(store: GraphStore, graph: Graph) -> Graph:
    own = dict(zip(*(graph.hyperedges[name].to_pylist() for name in ("hyperedge_id", "source")), strict=True))
    others = {i: id_of_source(i, source) for i, source in own.items()}
    try:
        rows = store.query(_HYPEREDGES, {"ids": [*own, *others.values()]}).to_pylist() if own else []
    except StoreFormatError:
        return graph  # there is no store yet
    stored = {row["id"]: row["source"] for row in rows}
    taken = (i for i in own if stored.get(i, own[i]) != own[i] or others[i] in stored)
    return rename_hyperedges(graph, {i: others[i] for i in taken})

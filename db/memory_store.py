"""`memory`: the reference that the other stores are compared with."""

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from db.errors import StoreFormatError
from db.ladybug_store import LadybugConfig, LadybugStore
from db.merge import merge, without_sources
from db.neighbours import NEIGHBOUR_SCHEMA, neighbour_table
from db.runs import JOIN_RUN, LIST_RUNS
from db.store import GraphStore
from kg.graph import Graph
from kg.progress import Progress, silent
from kg.terms import INTERACTS


@dataclass(frozen=True)
class MemoryConfig:
    """Nothing to set."""


class MemoryStore(GraphStore, name="memory"):
    """Keep the graph as a value; Cypher is answered by a temporary LadybugDB copy of it."""

    Config = MemoryConfig

    def __init__(self, config: MemoryConfig | None = None) -> None:
        super().__init__(config or MemoryConfig())
        self._graph: Graph | None = None
        self._runs: list[dict[str, Any]] = []
        self._copy: LadybugStore | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def write(self, graph: Graph, progress: Progress = silent) -> None:
        """Add a graph; of two rows with one key the last written stays.

        Raises:
            SchemaError: if both graphs together are none, e.g. an entity changed its type.
        """
        self._graph = graph if self._graph is None else merge(self._graph, graph)
        self.close()
        total = sum(graph.counts().values())
        progress(total, total)

    def read(self) -> Graph:
        """Return everything that was written.

        Raises:
            StoreFormatError: if nothing was.
        """
        if self._graph is None:
            msg = "nothing was written to the memory store yet; write a graph first"
            raise StoreFormatError(msg)
        return self._graph

    def query(
        self,
        cypher: str,
        parameters: Mapping[str, Any] | None = None,
        *,
        timeout_s: float = 60.0,
        max_rows: int | None = None,
        write: bool = False,
    ) -> pa.Table:
        """Answer a Cypher query from a LadybugDB copy, made at the first query after a write.

        Raises:
            QueryError: if the query is wrong, writes without leave, or takes longer than `timeout_s`.
            StoreFormatError: if nothing was written yet.
        """
        copy = self._as_ladybug()
        answer = copy.query(cypher, parameters, timeout_s=timeout_s, max_rows=max_rows, write=write)
        if write:
            self._graph, self._runs = copy.read(), copy.query(LIST_RUNS).to_pylist()
        return answer

    def neighbours(self, entity_id: str, *, limit: int = 100) -> pa.Table:
        """Return the facts around one entity or hyperedge, as `GraphStore.neighbours`."""
        return neighbour_table(_around(self.read(), entity_id), limit)

    def delete(self, *sources: str, orphans: bool = False) -> int:
        """Remove the facts of some sources; returns how many triples, hyperedges and texts that were."""
        if orphans:
            copy = self._as_ladybug()
            removed, self._graph = copy.delete(*sources, orphans=True), copy.read()
            return removed
        self._graph, removed = without_sources(self.read(), sources)
        self.close()
        return removed

    def close(self) -> None:
        """Forget the LadybugDB copy; the graph stays."""
        if self._folder is not None:
            self._folder.cleanup()
        self._copy = self._folder = None

    def _as_ladybug(self) -> LadybugStore:
        if self._copy is None:
            graph = self.read()
            self._folder = tempfile.TemporaryDirectory(prefix="kglift-")
            self._copy = LadybugStore(LadybugConfig(Path(self._folder.name) / "copy.lbug"))
            self._copy.write(graph)
            for run in self._runs:
                self._copy.query(JOIN_RUN, run, write=True)
        return self._copy


def _around(graph: Graph, node: str) -> Iterator[pa.Table]:
    for direction, here, there in (("out", "head", "tail"), ("in", "tail", "head")):
        facts = graph.triples.filter(pc.equal(graph.triples[here], node))
        yield _named(node, direction, facts["relation"], facts[there], facts["confidence"], facts["source"])
    for direction, here, there in (("out", "user_id", "item_id"), ("in", "item_id", "user_id")):
        acts = graph.interactions.filter(pc.equal(graph.interactions[here], node))
        interacts = pa.array([INTERACTS] * len(acts), pa.string())
        yield _named(node, direction, interacts, acts[there], pa.nulls(len(acts)), pa.nulls(len(acts)))
    joined = graph.members.join(graph.hyperedges.drop_columns("relation"), "hyperedge_id")
    for direction, here, there in (("out", "entity_id", "hyperedge_id"), ("in", "hyperedge_id", "entity_id")):
        members = joined.filter(pc.equal(joined[here], node))
        roles = pc.binary_join_element_wise("member/", members["role"], "")
        yield _named(node, direction, roles, members[there], members["weight"], members["source"])


def _named(node: str, direction: str, *columns: pa.Array) -> pa.Table:
    n = len(columns[0])
    relation, neighbour, confidence, source = columns
    values = [pa.array([node] * n), relation, pa.array([direction] * n), neighbour, confidence, source]
    return pa.table([v.cast(f.type) for v, f in zip(values, NEIGHBOUR_SCHEMA, strict=True)], schema=NEIGHBOUR_SCHEMA)

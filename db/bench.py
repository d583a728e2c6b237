"""`python -m db bench`: how fast graphs are loaded and read, beside single rows and neo4j-graphrag's writer.

Every load goes into an empty store of a running, warm server: the small graph was loaded into it 20 times. The loader
of single rows gets a sample, and its time is multiplied: the row says so. Wall and CPU time of this process are given
(Neo4j's own work is not in the latter), and how busy the machine was, since on a shared one the same load takes twice
as long an hour later.
"""

import asyncio
import importlib
import importlib.util
import os
import resource
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import neo4j
import numpy as np
import pyarrow as pa

from db.ladybug_store import LadybugConfig, LadybugStore
from db.neo4j_admin import Home, bulk_load
from db.neo4j_store import Neo4jConfig, Neo4jStore
from kg.files import code_version
from kg.graph import Graph
from kg.machine import cpu_model
from kg.progress import Progress, silent

_RELATIONS: Final = ("has_genre", "has_mood", "directed_by", "about")
_SAMPLE: Final = 300
_WARM_UP: Final = 20
_APOC: Final = "org.neo4j.procedure:apoc-core:5.26.0:jar:core"
_EMPTY: Final = (
    "MATCH ()-[r]->() CALL (r) { DELETE r } IN TRANSACTIONS OF 20000 ROWS",
    "MATCH (n) CALL (n) { DELETE n } IN TRANSACTIONS OF 20000 ROWS",
)


@dataclass(frozen=True)
class Timing:
    """How long one way took to load one graph.

    Attributes:
        name: of the way.
        n_nodes: entities.
        n_triples: facts.
        wall_s: median over the repeats.
        cpu_s: of this process, in the last repeat.
        peak_growth_bytes: how much the peak memory of this process grew meanwhile.
        runs_s: each repeat.
        note: what differs, or why there is no figure.
    """

    name: str
    n_nodes: int
    n_triples: int
    wall_s: float | None
    cpu_s: float | None = None
    peak_growth_bytes: int | None = None
    runs_s: tuple[float, ...] = ()
    note: str = ""


def made_graph(n_nodes: int, n_triples: int, seed: int = 0) -> Graph:
    """Draw items and things, and distinct facts between them."""
    chance = np.random.default_rng(seed)
    n_items = n_nodes // 2
    ids = pa.array([f"item:{k}" for k in range(n_items)] + [f"thing:{k}" for k in range(n_nodes - n_items)])
    keys = chance.permutation(np.unique(chance.integers(0, n_items * (n_nodes - n_items), n_triples * 11 // 10)))
    head, tail = np.divmod(keys[:n_triples], n_nodes - n_items)
    relation = pa.array(_RELATIONS).take(pa.array(chance.integers(0, len(_RELATIONS), len(head))))
    kinds = ["Item"] * n_items + ["Thing"] * (n_nodes - n_items)
    triples = {
        "head": ids.take(pa.array(head)),
        "relation": relation,
        "tail": ids.take(pa.array(tail + n_items)),
        "confidence": chance.random(len(head)),
        "source": pa.repeat("rule:made", len(head)),
    }
    return Graph.from_tables(
        entities=pa.table({"entity_id": ids, "type": kinds, "name": ids}),
        triples=pa.table(triples),
        sources=pa.table({"source": ["rule:made"], "kind": ["rule"]}),
    )


def bench(uri: str, bulk: Home, *, repeats: int = 3, large: bool = True, progress: Progress = silent) -> dict[str, Any]:
    """Time all ways; the database at `uri` is emptied again and again.

    Args:
        uri: an empty Neo4j without a password.
        bulk: a server that does not run and has no database, for `neo4j-admin`.
        repeats: how often the small graph is loaded.
        large: load and read 100,000 nodes and 1,000,000 triples, and by `neo4j-admin` twice as many.
        progress: told after every way.

    Returns:
        The timings and what they were taken on, as JSON values.
    """
    small = made_graph(10_000, 20_000)
    ways: list[Callable[[], Timing]] = [
        lambda: _timed("kglift", small, lambda: _load(uri, small), repeats, uri),
        lambda: _single_rows(uri, small),
        lambda: _graphrag(uri, small),
    ]
    if large:
        ways += _large(uri, bulk, repeats)
    _empty(uri)
    for _ in range(_WARM_UP):  # the server compiles its plans, and its code again and again
        _load(uri, small)
        _empty(uri)
    before, rows = os.getloadavg()[0], []
    for done, way in enumerate(ways):
        rows.append(asdict(way()))
        progress(done + 1, len(ways), rows[-1]["name"])
    _empty(uri)
    machine = {"cpu": cpu_model(), "n_cpus": os.cpu_count(), "load_before": before, "load_after": os.getloadavg()[0]}
    return {"date": datetime.now(UTC).isoformat(), **code_version(), **machine, "rows": rows}


def markdown(figures: dict[str, Any]) -> str:
    """Return what `bench` returned as a Markdown table."""
    load = f"load {figures['load_before']:.1f} to {figures['load_after']:.1f}"
    cpus = f"{figures['n_cpus']} CPUs ({figures['cpu']})"
    where = f"{cpus}, {load}, {figures['date'][:10]}, commit `{(figures['commit'] or '')[:12]}`"
    lines = [where, ""]
    lines += ["| way | nodes | facts | seconds | CPU here | |", "|---|---:|---:|---:|---:|---|"]
    for row in figures["rows"]:
        took, cpu = ("" if row[name] is None else f"{row[name]:.2f}" for name in ("wall_s", "cpu_s"))
        runs = "runs " + ", ".join(f"{run:.2f}" for run in row["runs_s"]) if len(row["runs_s"]) > 1 else ""
        note = row["note"] or runs
        lines.append(f"| {row['name']} | {row['n_nodes']:,} | {row['n_triples']:,} | {took} | {cpu} | {note} |")
    return "\n".join(lines)


def jars_with_apoc(jars: Path, home: Path) -> Path:
    """Return a folder of jars for a server on which neo4j-graphrag's writer runs: it calls the plugin APOC.

    Args:
        jars: those of the server itself.
        home: of the server; it gets the plugin and the folder. Without Maven or APOC `jars` are returned.
    """
    plugins, linked = home / "plugins", home / "lib"
    fetch = ["mvn", "-B", "-q", "dependency:copy", f"-Dartifact={_APOC}", f"-DoutputDirectory={plugins}"]
    if shutil.which("mvn") is None or subprocess.run(fetch, capture_output=True, check=False).returncode != 0:
        return jars
    linked.mkdir()
    for jar in (*jars.glob("*.jar"), *plugins.glob("*.jar")):  # it is looked for in both places
        (linked / jar.name).symlink_to(jar)
    return linked


def _large(uri: str, bulk: Home, repeats: int) -> list[Callable[[], Timing]]:
    whole, twice = made_graph(100_000, 1_000_000), made_graph(200_000, 2_000_000)
    folder = bulk.folder.with_name("ladybug")
    embedded = LadybugStore(LadybugConfig(folder / "bench.lbug"))

    def fill() -> None:
        shutil.rmtree(folder, ignore_errors=True)
        embedded.write(whole)

    def import_anew() -> None:
        shutil.rmtree(bulk.folder, ignore_errors=True)
        bulk_load(bulk, twice)

    def read() -> None:
        with Neo4jStore(Neo4jConfig(uri=uri)) as store:
            store.read()

    return [
        lambda: _timed("kglift", whole, lambda: _load(uri, whole), 1, uri),
        lambda: _timed("kglift, read", whole, read, repeats),
        lambda: _timed("kglift --bulk", twice, import_anew, repeats),
        lambda: _timed("kglift, LadybugDB", whole, fill, repeats),
        lambda: _timed("kglift, LadybugDB, read", whole, embedded.read, repeats),
    ]


def _timed(name: str, graph: Graph, work: Callable[[], object], repeats: int, uri: str | None = None) -> Timing:
    runs = []
    peak = _peak_bytes()
    for _ in range(repeats):
        if uri is not None:
            _empty(uri)
        wall, cpu = time.perf_counter(), time.process_time()
        work()
        runs.append(time.perf_counter() - wall)
        cpu = time.process_time() - cpu
    grown = _peak_bytes() - peak
    return Timing(name, len(graph.entities), len(graph.triples), statistics.median(runs), cpu, grown, tuple(runs))


def _load(uri: str, graph: Graph) -> None:
    with Neo4jStore(Neo4jConfig(uri=uri)) as store:
        store.write(graph)


def _single_rows(uri: str, graph: Graph) -> Timing:
    """Write each row by a statement and a transaction of its own, with the constraint in place."""
    _empty(uri)
    nodes, facts = graph.entities.slice(0, _SAMPLE).to_pylist(), graph.triples.slice(0, _SAMPLE).to_pylist()
    with neo4j.GraphDatabase.driver(uri) as driver, driver.session(database="neo4j") as session:
        begun = time.perf_counter()
        for row in nodes:
            session.run("MERGE (e:Entity {entity_id: $row.entity_id}) SET e += $row", row=row).consume()
        nodes_s = time.perf_counter() - begun
        session.run("UNWIND $ids AS id MERGE (:Entity {entity_id: id})", ids=graph.entities["entity_id"].to_pylist())
        begun = time.perf_counter()
        for row in facts:
            session.run(
                "MATCH (h:Entity {entity_id: $row.head}) MATCH (t:Entity {entity_id: $row.tail}) "
                "MERGE (h)-[f:FACT {relation: $row.relation, source: $row.source}]->(t) "
                "SET f.confidence = $row.confidence",
                row=row,
            ).consume()
        facts_s = time.perf_counter() - begun
    n_nodes, n_facts = len(graph.entities), len(graph.triples)
    whole_s = nodes_s * n_nodes / len(nodes) + facts_s * n_facts / len(facts)
    note = f"extrapolated from {len(nodes)} nodes and {len(facts)} facts"
    return Timing("single rows", n_nodes, n_facts, whole_s, note=note)


def _graphrag(uri: str, graph: Graph) -> Timing:
    """Write by `Neo4jWriter` of neo4j-graphrag, in batches of its default size."""
    name, n_nodes, n_facts = "neo4j-graphrag", len(graph.entities), len(graph.triples)
    if importlib.util.find_spec("neo4j_graphrag") is None:
        return Timing(name, n_nodes, n_facts, None, note="not installed (requirements-bench.txt)")
    types = importlib.import_module("neo4j_graphrag.components.types")
    writers = importlib.import_module("neo4j_graphrag.components.kg_writer")
    made = types.Neo4jGraph(
        nodes=[
            types.Neo4jNode(id=r["entity_id"], label=r["type"], properties={"name": r["name"]})
            for r in graph.entities.to_pylist()
        ],
        relationships=[
            types.Neo4jRelationship(
                start_node_id=r["head"],
                end_node_id=r["tail"],
                type=r["relation"].upper(),
                properties={"confidence": r["confidence"], "source": r["source"]},
            )
            for r in graph.triples.to_pylist()
        ],
    )
    _empty(uri)
    with neo4j.GraphDatabase.driver(uri) as driver:
        writer = writers.Neo4jWriter(driver, neo4j_database="neo4j")
        begun = time.perf_counter()
        asyncio.run(writer.run(made))
        wall_s = time.perf_counter() - begun
    with neo4j.GraphDatabase.driver(uri) as driver:
        found = driver.execute_query("MATCH ()-[r]->() RETURN count(r) AS n", database_="neo4j").records[0]["n"]
    note = "" if found == n_facts else f"{found:,} facts arrived; it calls the plugin APOC"
    return Timing(name, n_nodes, n_facts, wall_s if found == n_facts else None, note=note)


def _empty(uri: str) -> None:
    with neo4j.GraphDatabase.driver(uri) as driver, driver.session(database="neo4j") as session:
        for statement in _EMPTY:
            session.run(statement).consume()


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

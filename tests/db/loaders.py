"""Processes that load a graph into a store, to be killed or to run beside each other."""

import multiprocessing
from collections.abc import Callable
from functools import cache
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np

from db.ladybug_store import LadybugConfig, LadybugStore
from db.neo4j_store import Neo4jConfig, Neo4jStore
from db.store import GraphStore
from kg.graph import Graph


def open_store(at: str | Path) -> GraphStore:
    """Open Neo4j at an address, or LadybugDB at a path."""
    if isinstance(at, str):
        return Neo4jStore(Neo4jConfig(uri=at, batch_size=20))
    return LadybugStore(LadybugConfig(at))


def revision(n: int) -> Graph:
    """Return a graph of every kind of row; all revisions have the same keys and no other value in common."""
    people = [f"user:{k}" for k in range(12)]
    things = [f"item:{k}" for k in range(30)]
    pairs = [(u, t) for i, u in enumerate(people) for j, t in enumerate(things) if (i * 7 + j) % 5 == 0]
    return Graph.from_rows(
        entities=[
            {"entity_id": e, "type": e.partition(":")[0].capitalize(), "name": f"{e}, {n}", "text": f"{n} " * 20}
            for e in (*people, *things)
        ],
        interactions=[
            {"user_id": u, "item_id": t, "timestamp": n, "value": float(n), "split": "train"} for u, t in pairs
        ],
        triples=[
            {"head": u, "relation": "likes", "tail": t, "confidence": 1 / (n + 1), "source": "s"} for u, t in pairs
        ],
        hyperedges=[
            {"hyperedge_id": f"h:{k}", "relation": f"r{n}", "weight": float(n), "source": "s"} for k in range(9)
        ],
        members=[
            {"hyperedge_id": f"h:{k}", "entity_id": things[k * 3 + j], "role": "item", "position": j}
            for k in range(9)
            for j in range(3)
        ],
        texts=[{"entity_id": t, "kind": "k", "text": f"{n}", "source": "s"} for t in things],
        features=[{"entity_id": t, "kind": "k", "vector": [float(n)] * 4} for t in things],
        sources=[{"source": "s", "kind": "llm", "tokens": n}],
    )


def share(n: int) -> Graph:
    """Return one of several graphs that have all nodes in common and no fact."""
    chance = np.random.default_rng(n)
    nodes = [f"e{k}" for k in range(40)]
    keys = np.unique(chance.integers(0, 1600, 250))
    return Graph.from_rows(
        entities=[{"entity_id": e, "type": "Thing", "name": e} for e in nodes],
        triples=[
            {"head": nodes[k // 40], "relation": "r", "tail": nodes[k % 40], "confidence": 0.5, "source": f"s{n}"}
            for k in keys
        ],
        sources=[{"source": f"s{n}", "kind": "rule"}],
    )


def start_loader(at: str | Path, make: Callable[[int], Graph], n: int) -> BaseProcess:
    """Start a process that loads `make(n)`, and return when it begins to."""
    context = _processes()
    ready, told = context.Pipe(duplex=False)
    process = context.Process(target=_load, args=(at, make, n, told), daemon=True)
    process.start()
    told.close()
    ready.recv()
    return process


@cache
def _processes() -> ForkServerContext:
    """Fork from a process that has imported everything, so that a loader starts within milliseconds."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


def _load(at: str | Path, make: Callable[[int], Graph], n: int, told) -> None:
    graph = make(n)
    with open_store(at) as store:
        told.send("go")
        store.write(graph)

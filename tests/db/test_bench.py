"""The benchmark measures what it says, on the graph that it says."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

import db.bench
from db.bench import bench, made_graph, markdown
from db.neo4j_admin import Home
from db.neo4j_store import Neo4jConfig, Neo4jStore
from db.server import default_home
from tests.db.servers import FAST_START, wiped


def test_the_graph_has_the_size_that_was_asked_for() -> None:
    graph = made_graph(1_001, 2_000)
    assert (len(graph.entities), len(graph.triples)) == (1_001, 2_000)
    assert graph.equals(made_graph(1_001, 2_000))
    assert not graph.equals(made_graph(1_001, 2_000, seed=1))
    assert set(graph.triples["relation"].to_pylist()) == {"has_genre", "has_mood", "directed_by", "about"}


def test_the_published_figures_are_a_table() -> None:
    figures = json.loads(Path("results/db/2-cores.json").read_text(encoding="utf-8"))
    table = markdown(figures).splitlines()
    assert figures["commit"][:12] in table[0]
    assert [line.split(" | ")[0].strip("| ") for line in table[4:]] == [row["name"] for row in figures["rows"]]
    assert f"| {figures['rows'][0]['wall_s']:.2f} |" in table[4]


@pytest.mark.slow
def test_every_way_has_a_figure_or_a_reason(neo4j_uri: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    wiped(neo4j_uri)
    small: Callable[..., object] = lambda n_nodes, n_triples: made_graph(n_nodes // 20, n_triples // 200)  # noqa: E731
    monkeypatch.setattr(db.bench, "made_graph", small)
    loaded = []
    monkeypatch.setattr(db.bench, "_load", lambda uri, graph: loaded.append(_load_and_count(uri, graph)))
    seen: list[int] = []
    bulk = Home(tmp_path / "bulk", jars=default_home() / "lib", java_options=FAST_START)
    figures = bench(neo4j_uri, bulk, repeats=2, progress=lambda done, total, note="": seen.append(done))
    rows = {(row["name"], row["n_triples"]): row for row in figures["rows"]}
    assert [name for name, _ in rows] == [
        *("kglift", "single rows", "neo4j-graphrag", "kglift", "kglift, read", "kglift --bulk"),
        *("kglift, LadybugDB", "kglift, LadybugDB, read"),
    ]
    assert seen == list(range(1, 9))
    for row in figures["rows"]:
        assert (row["wall_s"] or 0) > 0 or row["note"]
    assert "extrapolated from 300 nodes and 100 facts" in rows["single rows", 100]["note"]
    assert len(rows["kglift", 100]["runs_s"]) == 2
    assert loaded == [100] * 22 + [5_000]


def _load_and_count(uri: str, graph) -> int:
    with Neo4jStore(Neo4jConfig(uri=uri)) as store:
        store.write(graph)
        return len(store.read().triples)

"""A generated graph has the sizes that were asked for, a real one's shape, and is the same in memory and on disk."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse.linalg import svds

from gnn.__main__ import main
from gnn.data import fingerprint
from gnn.synthetic import SyntheticConfig, last_fm_size, synthetic_ckg, write_synthetic
from kg.ckg import CollaborativeKG
from kg.errors import ConfigError, WriteError
from kg.files import file_sha256, read_graph

SMALL = SyntheticConfig(60, 40, 700, 30, 90, 3, seed=4)


@st.composite
def configs(draw: st.DrawFn) -> SyntheticConfig:
    n_users, n_items = draw(st.integers(1, 30)), draw(st.integers(1, 30))
    n_interactions = draw(st.integers(n_users, n_users * max(1, n_items // 2)))
    n_entities, n_relations = draw(st.integers(0, 20)), draw(st.integers(1, 4))
    most = n_items * n_entities * n_relations // 2
    n_triples = draw(st.integers(n_relations, most)) if most >= n_relations else 0
    n_relations = n_relations if n_triples else 1
    shares = draw(st.sampled_from([(0.0, 0.0), (0.1, 0.1), (0.4, 0.5)]))
    return SyntheticConfig(n_users, n_items, n_interactions, n_entities, n_triples, n_relations, *shares, seed=3)


def all_pairs(ckg: CollaborativeKG) -> np.ndarray:
    return np.concatenate(list(ckg.interactions.values()))


@given(configs())
@settings(max_examples=40, deadline=None)
def test_counts_are_exact_and_nothing_is_there_twice(config: SyntheticConfig) -> None:
    ckg = synthetic_ckg(config)
    pairs = all_pairs(ckg)
    assert len(np.unique(pairs, axis=0)) == len(pairs) == config.n_interactions
    assert len(np.unique(ckg.triples, axis=0)) == len(ckg.triples) == config.n_triples
    assert (ckg.n_users, ckg.n_items) == (config.n_users, config.n_items)
    assert ckg.n_nodes == config.n_users + config.n_items + config.n_entities
    assert set(ckg.triples[:, 1]) == set(range(1, ckg.n_relations))
    assert set(ckg.interactions["train"][:, 0]) == set(range(config.n_users))


@pytest.mark.parametrize("changes", [{}, {"n_entities": 0, "n_triples": 0, "n_relations": 1}])
def test_the_directory_holds_the_graph_that_is_made_in_memory(changes: dict[str, int], tmp_path: Path) -> None:
    config = SyntheticConfig(**{**vars(SMALL), **changes})
    write_synthetic(config, tmp_path / "graph")
    graph = read_graph(tmp_path / "graph")
    assert graph.equals(graph.canonical())
    assert fingerprint(CollaborativeKG.from_graph(graph)) == fingerprint(synthetic_ckg(config))
    manifest = json.loads((tmp_path / "graph" / "manifest.json").read_text())
    assert manifest["counts"] == graph.counts()
    assert SyntheticConfig(**manifest["config"]) == config


def test_the_same_seed_gives_the_same_bytes_and_another_seed_another_graph(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        write_synthetic(SyntheticConfig(60, 40, 700, 30, 90, 3, seed=seed), tmp_path / name)
    for table in ("interactions", "triples"):
        same, again, other = (file_sha256(tmp_path / name / f"{table}.parquet") for name in "abc")
        assert same == again != other


def test_a_graph_of_many_chunks_is_the_same_in_memory_and_on_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gnn.synthetic._CHUNK", 100)
    told: list[int] = []
    write_synthetic(SMALL, tmp_path / "graph", lambda done, *_: told.append(done))
    assert len(told) > 5
    assert told[-1] == SMALL.n_interactions
    ckg = CollaborativeKG.from_graph(read_graph(tmp_path / "graph"))
    assert fingerprint(ckg) == fingerprint(synthetic_ckg(SMALL))


def test_degrees_have_a_heavy_tail_and_communities_keep_to_themselves() -> None:
    config = SyntheticConfig(1500, 1100, 30_000)
    pairs = all_pairs(synthetic_ckg(config)) - (0, config.n_users)
    for column, n in ((0, config.n_users), (1, config.n_items)):
        degree = np.sort(np.bincount(pairs[:, column], minlength=n))
        assert degree[-n // 100 :].sum() / degree.sum() > 0.05, "the first hundredth has its share five times"
        assert degree[-1] > 8 * np.median(degree)
    dense = np.zeros((config.n_users, config.n_items))
    dense[pairs[:, 0], pairs[:, 1]] = 1
    expected = np.outer(dense.sum(1), dense.sum(0)) / dense.sum()
    strength = np.sort(svds((dense - expected) / np.sqrt(expected + 1e-9), k=6, return_singular_vectors=False))[::-1]
    n_communities = 4
    assert strength[n_communities - 2] > 1.5 * strength[n_communities - 1], "a gap after C - 1 directions"


def test_last_fm_has_the_published_size() -> None:
    graph = last_fm_size()
    assert (graph.n_users, graph.n_items, graph.n_nodes - graph.n_users) == (23_566, 48_123, 106_389)
    assert (len(graph.users), 2 * graph.n_relations) == (1_289_003, 20)
    assert graph.edge_index.shape == (2, 3_507_140)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"n_users": 0}, "`n_users` is 0; expected at least 1"),
        ({"n_interactions": 1201}, "`n_interactions` is 1201; expected 60 to 1200 for a graph of this size"),
        ({"n_interactions": 59}, "`n_interactions` is 59; expected 60 to 1200"),
        ({"n_entities": 0}, "`n_triples` is 90; expected 0 to 0"),
        ({"n_relations": 91, "n_entities": 99}, "`n_relations` is 91; expected 1 to 90"),
        ({"seed": -1}, "`seed` is -1; expected at least 0"),
        ({"valid": 0.5, "test": 0.5}, r"valid=0\.5 and test=0\.5 leave no share for train"),
    ],
)
def test_sizes_that_do_not_exist_are_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        SyntheticConfig(**{**vars(SMALL), **changes})


def test_a_taken_place_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WriteError, match="exists already"):
        write_synthetic(SMALL, tmp_path)


def test_the_command_line_generates_what_train_reads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "graph")
    sizes = ["--users", "60", "--items", "40", "--interactions", "700", "--entities", "9", "--triples", "20"]
    assert main(["generate", *sizes, "--out", out]) == 0
    said = capsys.readouterr()
    assert "60 users, 40 items, 700 interactions" in said.out
    assert "700/700 interactions" in said.err
    assert main(["train", out, "--model", "popularity", "--out", str(tmp_path / "model")]) == 0


_READ = """
import json, resource, sys, time
from pathlib import Path
from gnn.data import TrainingGraph
from kg.stream import read_ckg

def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

before, start = peak(), time.process_time()
adjacency = TrainingGraph.from_ckg(read_ckg(Path(sys.argv[1]))).normalised()
print(json.dumps([time.process_time() - start, peak() - before, len(adjacency.csr.col)]))
"""


@pytest.mark.slow
def test_a_twentieth_of_the_largest_graph_is_read_in_a_twentieth_of_its_time_and_memory(tmp_path: Path) -> None:
    write_synthetic(SyntheticConfig(50_000, 15_000, 2_100_000), tmp_path / "graph")
    command = [sys.executable, "-c", _READ, str(tmp_path / "graph")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    cpu_seconds, size_bytes, n_entries = json.loads(done.stdout)
    assert n_entries > 2 * 0.75 * 2_100_000
    assert cpu_seconds < 60 / 20 * 2, "on two cores; other work on the machine does not count"
    assert size_bytes < 6e9 / 20

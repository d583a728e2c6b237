"""Bad input ends in one clear line on stderr and exit status 1, or in an error that names the value."""

import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from gnn.__main__ import main
from gnn.build import TrainConfig, build_model
from gnn.checkpoint import load_model
from gnn.data import TrainingGraph, prune_entities
from gnn.errors import IndexRangeError, InputError, MemoryNeedError
from gnn.evaluate import evaluate
from gnn.memory import available_memory, require_memory, training_need
from gnn.recommend import recommend
from gnn.recommender import Recommender
from gnn.train import train
from kg.ckg import CollaborativeKG
from kg.files import GRAPH_FORMAT, read_manifest, write_graph, write_manifest
from tests.gnn.graphs import random_ckg
from tests.toy import toy_graph

FAST = TrainConfig(epochs=2, batch_size=64, device="cpu", patience=0)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_graph(toy_graph(), tmp_path / "graph")
    for name in ("lightgcn", "popularity"):
        train(name, CollaborativeKG.from_graph(toy_graph()), {}, FAST, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def rewrite(path: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    """Change a Parquet file and the manifest beside it, as another program would have written both."""
    manifest = json.loads((path.parent / "manifest.json").read_text())
    pq.write_table(change(pq.read_table(path)), path)
    about = {k: v for k, v in manifest.items() if k not in ("format", "version", "files", "code")}
    write_manifest(path.parent, manifest["format"], **about)


def column(name: str, values: Callable[[list[Any]], list[Any]]) -> Callable[[pa.Table], pa.Table]:
    def change(table: pa.Table) -> pa.Table:
        place, field = table.column_names.index(name), table.schema.field(name)
        return table.set_column(place, field, pa.array(values(table[name].to_pylist()), field.type))

    return change


def replace_text(path: str, old: str, new: str) -> None:
    text = Path(path).read_text()
    assert old in text
    Path(path).write_text(text.replace(old, new))


def cut(path: str) -> None:
    Path(path).write_bytes(Path(path).read_bytes()[:100])


def checkpoint_of_another_model() -> None:
    class Killed(BaseException):
        pass

    def kill(*_: object) -> None:
        raise Killed

    config = dataclasses.replace(FAST, checkpoint_every=1)
    with pytest.raises(Killed):
        train("kgat", CollaborativeKG.from_graph(toy_graph()), {}, config, Path("new"), kill)


def other_users() -> None:
    assert main(["evaluate", "graph", "lightgcn", "--per-user", "a.parquet"]) == 0
    table = pq.read_table("a.parquet")
    pq.write_table(table.set_column(0, "user_id", pa.array([f"v:{k}" for k in range(len(table))])), "b.parquet")


TRAIN = ["train", "graph", "--model", "lightgcn", "--out", "new", "--set", "epochs=1"]
SERVE = ["recommend", "lightgcn", "--all"]
CASES: dict[str, tuple[Callable[[], object], list[str], str]] = {
    "a confidence that is NaN": (
        lambda: rewrite(Path("graph/triples.parquet"), column("confidence", lambda c: [float("nan"), *c[1:]])),
        TRAIN,
        "table `triples`, column `confidence`, row 0: nan is outside [0, 1.0]",
    ),
    "an item that no table defines": (
        lambda: rewrite(Path("graph/interactions.parquet"), column("item_id", lambda c: ["item:99", *c[1:]])),
        TRAIN,
        "table `interactions`, column `item_id`: 1 ids are not in entities: `item:99`",
    ),
    "no train interaction": (
        lambda: rewrite(Path("graph/interactions.parquet"), column("split", lambda c: ["test"] * len(c))),
        TRAIN,
        "no interaction is in `train` (got test)",
    ),
    "a checkpoint of another model": (
        checkpoint_of_another_model,
        TRAIN,
        'the checkpoint `new.checkpoint` is of another model: "kgat", expected "lightgcn"',
    ),
    "a model of another version": (
        lambda: replace_text("lightgcn/manifest.json", '"version": 1', '"version": 99'),
        ["evaluate", "graph", "lightgcn"],
        "`lightgcn` has format version 99, this kglift reads 1",
    ),
    "a model of another graph": (
        lambda: rewrite(Path("graph/triples.parquet"), lambda table: table[1:]),
        ["evaluate", "graph", "lightgcn"],
        "the model `lightgcn` is of another graph",
    ),
    "vectors cut short": (
        lambda: cut("lightgcn/users.parquet"),
        SERVE,
        "`lightgcn/users.parquet` is not what was written (sha256 differs)",
    ),
    "vectors that are gone": (
        lambda: Path("lightgcn/users.parquet").unlink(),
        SERVE,
        "`lightgcn` lacks `users.parquet`, which its manifest names",
    ),
    "vectors that are not finite": (
        lambda: rewrite(Path("lightgcn/items.parquet"), column("vector", lambda c: [[np.inf] * 64, *c[1:]])),
        SERVE,
        "`lightgcn`: 1 vectors are not finite: `item:1`",
    ),
    "vectors of an older kglift": (
        lambda: rewrite(Path("lightgcn/users.parquet"), lambda table: table.drop(["seen"])),
        SERVE,
        "`lightgcn/users.parquet` lacks the column `seen`",
    ),
    "a model without vectors": (
        lambda: None,
        ["recommend", "popularity", "--all"],
        "`popularity` has no `users.parquet`: `popularity` has no vectors; give its graph to recommend",
    ),
    "a graph in the place of a model": (
        lambda: None,
        ["recommend", "graph", "--all"],
        "`graph` holds `kglift-graph`, expected `kglift-model`",
    ),
    "no items to recommend": (
        lambda: None,
        [*SERVE, "-k", "0"],
        "`k` is 0; expected at least 1",
    ),
    "a list of items that is not there": (
        lambda: None,
        [*SERVE, "--only", "items.txt"],
        "cannot read ids from `items.txt`: No such file or directory",
    ),
    "a list of other items": (
        lambda: Path("items.txt").write_text("soup\n"),
        [*SERVE, "--block", "items.txt"],
        "1 ids are no item: `soup`; expected ids like `item:1`",
    ),
    "metrics of other users": (
        other_users,
        ["compare", "a.parquet", "b.parquet"],
        "`b.parquet` is of other users: it lacks 6 (`user:1`, ",
    ),
    "metrics cut short": (
        lambda: (other_users(), cut("b.parquet")),
        ["compare", "a.parquet", "b.parquet"],
        "`b.parquet` cannot be read as Parquet: ",
    ),
    "something else than metrics": (
        other_users,
        ["compare", "a.parquet", "graph/entities.parquet"],
        "`graph/entities.parquet` lacks the column `user_id`",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_bad_input_is_one_line_and_exit_status_1(case: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prepare, arguments, said = CASES[case]
    prepare()
    capsys.readouterr()
    assert main(arguments) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith(f"error: {said}")
    assert shown.err.count("\n") == 1
    assert not (place / "new").exists()


def test_too_little_memory_is_said_before_anything_is_made(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gnn.memory.available_memory", lambda: 1 << 30)
    monkeypatch.setattr("gnn.build.TrainingGraph.from_ckg", lambda *_: pytest.fail("the graph was built"))
    assert main([*TRAIN, "--set", "dim=100000000"]) == 1
    error = capsys.readouterr().err
    assert "error: training lightgcn on 22 nodes needs 87.2 GiB of memory, 1.0 GiB are available; in GiB: para" in error
    assert "parameters 16.39, optimisers 24.59, graph 0.00, propagation" in error
    assert error.count("\n") == 1


def test_a_model_is_loaded_with_less_memory_than_it_is_trained_with(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ckg = CollaborativeKG.from_graph(toy_graph())
    config = Recommender.find("lightgcn").Config()
    trained, loaded = (training_need(prune_entities(ckg, 1), config, n, FAST.batch_size).total for n in (1, 0))
    monkeypatch.setattr("gnn.memory.available_memory", lambda: (trained + loaded) // 2)
    with pytest.raises(MemoryNeedError, match="training lightgcn on 22 nodes needs"):
        build_model("lightgcn", ckg, {}, FAST)
    assert load_model(place / "lightgcn", ckg).name == "lightgcn"
    monkeypatch.setattr("gnn.memory.available_memory", lambda: loaded - 1)
    with pytest.raises(MemoryNeedError, match="loading lightgcn on 22 nodes needs"):
        load_model(place / "lightgcn", ckg)


def test_memory_of_a_gpu_is_what_is_free_and_what_torch_keeps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda _: (2 << 30, 80 << 30))
    monkeypatch.setattr("torch.cuda.memory_reserved", lambda _: 3 << 30)
    monkeypatch.setattr("torch.cuda.memory_allocated", lambda _: 1 << 30)
    device = torch.device("cuda", 1)
    require_memory(4 << 30, "it", device=device)
    with pytest.raises(MemoryNeedError, match=r"it needs 5\.0 GiB of memory on `cuda:1`, 4\.0 GiB are available; wait"):
        require_memory(5 << 30, "it", advice="wait", device=device)
    assert available_memory() > 1 << 20


@pytest.mark.parametrize("name", Recommender.members())
def test_users_items_and_entities_without_an_edge_do_no_harm(name: str) -> None:
    ckg = random_ckg(3, n_users=9, n_items=8, n_entities=6)
    lonely = [0, 4, 9, 16, 17, 22]
    keep = ~np.isin(ckg.interactions["train"], lonely).any(axis=1)
    facts = ~np.isin(ckg.triples[:, [0, 2]], lonely).any(axis=1)
    lonesome = dataclasses.replace(
        ckg,
        interactions={**ckg.interactions, "train": ckg.interactions["train"][keep]},
        triples=ckg.triples[facts],
        confidence=ckg.confidence[facts],
    )
    for each in (lonesome, lonesome.without_triples()):
        model = train(name, each, {}, FAST).model
        assert torch.isfinite(model.scores(torch.arange(9))).all()
        assert 0 <= evaluate(model, each).metrics["ndcg@10"] <= 1
        got = recommend(model, each, each.nodes.ids[:9], 8)
        assert {r["why"] for r in got.to_pylist() if r["user_id"] in ("u:00", "u:04")} == {"popularity"}
        assert not {"i:00", "i:07"} & set(got["item_id"].to_pylist())


def test_values_that_are_no_numbers_and_graphs_without_edges_are_named() -> None:
    ckg = random_ckg()
    for value in (np.nan, np.inf, -0.5):
        wrong = dataclasses.replace(ckg, confidence=np.where(np.arange(len(ckg.triples)) == 2, value, ckg.confidence))
        with pytest.raises(InputError, match=f"the confidence of triple 2 is {value}"):
            TrainingGraph.from_ckg(wrong)
    empty = {**ckg.interactions, "train": np.empty((0, 2), np.int64)}
    with pytest.raises(InputError, match="the graph has no train interaction"):
        build_model("lightgcn", dataclasses.replace(ckg, interactions=empty), {}, FAST)


def test_parameters_that_are_no_numbers_are_found_before_they_rank() -> None:
    ckg = random_ckg()
    for value in (np.nan, np.inf):
        model = build_model("lightgcn", ckg, {}, FAST)
        with torch.no_grad():
            model.embedding[ckg.n_users + 3, 1] = value
        for rank in (lambda m: evaluate(m, ckg), lambda m: recommend(m, ckg, ["u:03"], 2)):
            with pytest.raises(InputError, match="`lightgcn` gives a score that is NaN or infinite"):
                rank(model)


@pytest.mark.parametrize(
    ("split", "column", "value", "said"),
    [
        ("test", 1, 3, "an item of `test` has the index -4; expected 0 to 8"),
        ("test", 0, 7, "a user of `test` has the index 7; expected 0 to 6"),
        ("valid", 1, 16, "an item of `valid` has the index 9; expected 0 to 8"),
    ],
)
def test_an_index_outside_the_graph_is_not_counted_for_somebody_else(
    split: str, column: int, value: int, said: str
) -> None:
    ckg = random_ckg()
    model = build_model("popularity", ckg, {}, FAST)
    ckg.interactions[split][0, column] = value
    with pytest.raises(IndexRangeError, match=said):
        evaluate(model, ckg)


def test_the_graph_of_these_tests_is_whole(place: Path) -> None:
    assert read_manifest(place / "graph", GRAPH_FORMAT)["counts"]["interactions"] == 24
    assert main([*TRAIN]) == 0


PEAK = """
import re, torch
from pathlib import Path
from gnn.build import TrainConfig
from gnn.memory import training_need
from gnn.models.lightgcn import LightGCN
from gnn.synthetic import SyntheticConfig, synthetic_ckg
from gnn.train import train

def now(name):
    return int(re.search(name + r":\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024

torch.set_num_threads(1)
config = TrainConfig(epochs=1, eval_every=1, batch_size=20_000, device="cpu")
train("lightgcn", synthetic_ckg(SyntheticConfig(50, 40, 400)), {}, config)  # libraries and compiled code
ckg = synthetic_ckg(SyntheticConfig(60_000, 20_000, 200_000))
before = now("VmRSS")
Path("/proc/self/clear_refs").write_text("5")
train("lightgcn", ckg, {}, config)
print(now("VmHWM") - before, training_need(ckg, LightGCN.Config(), 1, config.batch_size).total)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peaks are measured by Linux")
def test_the_estimate_is_near_the_peak_that_is_measured() -> None:
    done = subprocess.run([sys.executable, "-c", PEAK], capture_output=True, text=True, check=True)
    measured, estimated = map(int, done.stdout.split())
    assert 0.6 < estimated / measured < 1.7

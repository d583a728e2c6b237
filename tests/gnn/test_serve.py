"""What is served from a model directory is what the model says, and where it says nothing the reader is told."""

import dataclasses
import json
import math
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from gnn.__main__ import main
from gnn.build import TrainConfig
from gnn.checkpoint import Trained, load_model
from gnn.errors import CheckpointError, InputError
from gnn.fold import fold_in
from gnn.recommend import recommend, recommend_from
from gnn.recommendations import best_places, read_ids, write_recommendations
from gnn.serve import Nodes, VectorIndex
from gnn.train import train
from kg.ckg import CollaborativeKG
from kg.files import write_graph
from kg.ids import IdMap
from tests.gnn import oracles
from tests.gnn.graphs import checkerboard, random_ckg
from tests.gnn.test_evaluate import sets_of
from tests.toy import toy_graph

CONFIG = TrainConfig(epochs=3, batch_size=64, device="cpu", patience=0)


def with_cold_ones(seed: int = 2) -> CollaborativeKG:
    """User 0 and item 0 have no edge; user 1 and item 1 have facts and no train interaction."""
    ckg = random_ckg(seed, n_users=12, n_items=10)
    cold = [0, 1, 12, 13]
    keep = ~np.isin(ckg.interactions["train"], cold).any(axis=1)
    facts = ckg.triples[~np.isin(ckg.triples, [0, 12])[:, [0, 2]].any(axis=1)]
    facts = np.concatenate([facts, [[1, 1, 22], [13, 1, 22], [14, 1, 22]]])
    facts = np.unique(facts, axis=0)
    interactions = {**ckg.interactions, "train": ckg.interactions["train"][keep]}
    return dataclasses.replace(ckg, interactions=interactions, triples=facts, confidence=np.full(len(facts), 0.5))


CKG = with_cold_ones()
USERS = CKG.nodes.ids[:12]


@pytest.fixture(scope="module", params=["lightgcn", "kgat"])
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Trained, Path]:
    out = tmp_path_factory.mktemp("serve") / "model"
    return train(request.param, CKG, {}, CONFIG, out), out


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("serve") / "model"
    train("lightgcn", CKG, {"dim": 6}, CONFIG, out)
    return out


@pytest.fixture(scope="module")
def index(model_dir: Path) -> VectorIndex:
    return VectorIndex.from_model_dir(model_dir)


def test_what_is_served_is_the_ranking_of_the_model(served: tuple[Trained, Path]) -> None:
    trained, out = served
    got = VectorIndex.from_model_dir(out).recommend(USERS, 10)
    scores = trained.model.scores(torch.arange(12)).tolist()
    counts = np.bincount(CKG.user_items("train")[1], minlength=10).tolist()
    masked = sets_of(CKG, "train", "valid")
    for user, name in enumerate(USERS):
        rows = [r for r in got.to_pylist() if r["user_id"] == name]
        ranked = oracles.ranking(counts if user == 0 else scores[user], masked.get(user, set()) | {0})
        assert [r["item_id"] for r in rows] == [CKG.nodes[12 + item] for item in ranked]
        assert [r["rank"] for r in rows] == list(range(1, len(ranked) + 1))
        values = [(counts if user == 0 else scores[user])[item] for item in ranked]
        assert [r["score"] for r in rows] == pytest.approx(values, abs=1e-5)
        learned = [user > 1 and counts[item] > 0 for item in ranked]
        why = ["popularity" if user == 0 else "vectors" if each else "graph" for each in learned]
        assert [r["why"] for r in rows] == why


def test_the_model_on_its_graph_recommends_the_same(served: tuple[Trained, Path]) -> None:
    trained, out = served
    ours = recommend(trained.model, CKG, USERS, 4)
    theirs = VectorIndex.from_model_dir(out).recommend(USERS, 4)
    assert ours.drop(["score"]).equals(theirs.drop(["score"]))


def test_a_user_without_history_gets_what_is_popular_from_a_model_without_vectors_too() -> None:
    trained = train("ease", CKG, {}, CONFIG)
    got = recommend(trained.model, CKG, [USERS[0], USERS[1], USERS[5]], 2)
    assert got["why"].to_pylist() == ["popularity"] * 4 + ["scores"] * 2
    counts = np.bincount(CKG.user_items("train")[1], minlength=10).tolist()
    best = oracles.ranking(counts, sets_of(CKG, "train", "valid").get(0, set()) | {0})[:2]
    assert got["item_id"].to_pylist()[:2] == [CKG.nodes[12 + item] for item in best]


def test_serving_needs_the_directory_and_no_torch(model_dir: Path) -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from pathlib import Path; from gnn.serve import VectorIndex; from gnn.fold import fold_in\n"
        f"print(len(VectorIndex.from_model_dir(Path({str(model_dir)!r})).recommend(['nobody'], 3)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "3\n"


def test_items_are_filtered_and_fewer_come_where_fewer_are_left(index: VectorIndex) -> None:
    user, items = USERS[4], CKG.nodes.ids[12:22]
    everything = index.recommend([user], 99, new_only=False)["item_id"].to_pylist()
    assert sorted(everything) == sorted(items[1:])
    had = {CKG.nodes[12 + item] for item in sets_of(CKG, "train", "valid")[4]}
    assert index.recommend([user], 99)["item_id"].to_pylist() == [i for i in everything if i not in had]
    only = index.recommend([user], 99, new_only=False, only=[items[3], items[0], items[7]])
    assert only["item_id"].to_pylist() == [i for i in everything if i in (items[3], items[7])]
    blocked = index.recommend([user], 3, new_only=False, block=everything[:2])
    assert blocked["item_id"].to_pylist() == everything[2:5]
    assert index.recommend([user], 5, only=[items[0]]).num_rows == 0
    assert index.recommend([], 5).num_rows == 0


def test_an_unknown_user_gets_what_is_popular_and_is_told(index: VectorIndex) -> None:
    rows = index.recommend(["nobody", USERS[3]], 2).to_pylist()
    assert [r["why"] for r in rows[:2]] == ["popularity", "popularity"]
    assert rows[0]["score"] >= rows[1]["score"] >= 1
    assert rows[2]["why"] != "popularity"


def test_what_cannot_be_served_is_refused(index: VectorIndex) -> None:
    with pytest.raises(InputError, match="`k` is 0; expected at least 1"):
        index.recommend([USERS[0]], 0)
    for word in ("only", "block"):
        with pytest.raises(InputError, match="1 ids are no item: `soup`; expected ids like `i:00`"):
            index.recommend([USERS[0]], 1, **{word: ["soup"]})


@given(arrays(np.float32, (3, 9), elements=st.sampled_from([-np.inf, 0.0, 1.0, 2.0])), st.integers(1, 12))
def test_the_best_places_are_those_of_a_sort(scores: np.ndarray, k: int) -> None:
    got = list(zip(*(x.tolist() for x in best_places(scores, k)), strict=True))
    expected = []
    for row, values in enumerate(scores.tolist()):
        masked = {c for c, value in enumerate(values) if value == -math.inf}
        expected += [(row, c, place) for place, c in enumerate(oracles.ranking(values, masked)[:k], start=1)]
    assert got == expected


def test_a_vector_of_a_newcomer_is_the_equation(index: VectorIndex) -> None:
    interactions = pa.table({"user_id": ["new", "new", "else"], "item_id": ["i:03", "i:05", "i:06"]})
    facts = pa.table({"head": ["new", "x:00", "i:03"], "tail": ["x:00", "new", "x:01"], "confidence": [0.5, 0.25, 1.0]})
    grown = fold_in(index, "user", ["new", "stranger"], interactions=interactions, facts=facts)
    neighbours = [(index.items, "i:03", 1.0), (index.items, "i:05", 1.0), (index.entities, "x:00", 0.75)]
    expected = np.zeros(6)
    for part, name, weight in neighbours:
        row = part.ids.idx_of(name)
        expected += weight / math.sqrt(2.75 * (float(part.degree[row]) + weight)) * part.vectors[row]
    np.testing.assert_allclose(grown.users.vectors[-2], expected, rtol=1e-5)
    assert grown.users.degree[-2:].tolist() == [2.75, 0.0]
    rows = grown.recommend(["new", "stranger"], 99).to_pylist()
    assert not {"i:03", "i:05"} & {r["item_id"] for r in rows if r["user_id"] == "new"}
    assert {(r["user_id"], r["why"]) for r in rows} == {("new", "graph"), ("stranger", "popularity")}
    old = grown.recommend(USERS, 99)
    assert old.equals(index.recommend(USERS, 99))


def test_exported_entities_have_the_vector_of_one_step(served: tuple[Trained, Path]) -> None:
    trained, out = served
    users, items = (v.detach().numpy() for v in trained.model.vectors())
    near = oracles.normalised(CKG)[22:, :22] @ np.concatenate([users, items])
    index = VectorIndex.from_model_dir(out)
    reached = [CKG.nodes.idx_of(name) - 22 for name in index.entities.ids.ids]
    np.testing.assert_allclose(index.entities.vectors, near[reached], atol=1e-5)
    assert not near[[x for x in range(len(near)) if x not in reached]].any()


def test_a_new_item_is_recommended_to_those_who_like_what_it_is_next_to(tmp_path: Path) -> None:
    ckg = checkerboard()
    train("lightgcn", ckg, {}, dataclasses.replace(CONFIG, epochs=20), tmp_path / "model")
    index = VectorIndex.from_model_dir(tmp_path / "model")
    facts = pa.table({"head": ["even", "odd"], "tail": ["i:04", "i:05"], "confidence": [1.0, 1.0]})
    grown = fold_in(index, "item", ["even", "odd"], facts=facts)
    for user in range(10):
        best = grown.recommend([f"u:{user:02}"], 1, only=["even", "odd"])
        assert best["item_id"].to_pylist() == ["odd" if user % 2 else "even"]
    had = fold_in(
        index, "item", ["even"], facts=facts, interactions=pa.table({"user_id": ["u:02"], "item_id": ["even"]})
    )
    assert had.recommend(["u:02"], 5, only=["even"]).num_rows == 0
    assert had.recommend(["u:04"], 5, only=["even"]).num_rows == 1


def test_newcomers_that_cannot_be_placed_are_refused(index: VectorIndex) -> None:
    facts = pa.table({"head": ["new"], "tail": ["i:03"], "confidence": [math.nan]})
    with pytest.raises(InputError, match="the confidence of fact 0 is nan"):
        fold_in(index, "user", ["new"], facts=facts)
    with pytest.raises(InputError, match="`kind` is `entity`; expected `user` or `item`"):
        fold_in(index, "entity", ["new"], facts=facts)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="1 ids are in the index already: `i:03`"):
        fold_in(index, "item", ["i:03"])
    with pytest.raises(InputError, match="the rows lack the column `confidence`; expected head, tail, confidence"):
        fold_in(index, "item", ["new"], facts=facts.drop(["confidence"]))


def test_everybody_is_served_into_a_file_a_tile_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    n_users, n_items = 4000, 2000
    parts = [
        Nodes(IdMap(tuple(f"{k}:{i:05}" for i in range(n))), rng.random((n, 4), np.float32), np.ones(n), np.ones(n))
        for k, n in (("u", n_users), ("i", n_items), ("x", 0))
    ]
    index = VectorIndex(*parts, (np.arange(n_users + 1), rng.integers(0, n_items, n_users)))
    monkeypatch.setattr("gnn.serve._TILE", 1 << 18)
    seen: list[int] = []
    tracemalloc.start()
    tables = index.recommend_in_tiles(parts[0].ids.ids, 5)
    counts = write_recommendations(tables, tmp_path / "all.parquet", n_users, lambda done, *_: seen.append(done))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 0.5 * 4 * n_users * n_items
    assert counts == {"vectors": 5 * n_users}
    assert seen == [*range(131, n_users, 131), n_users]
    assert pq.read_table(tmp_path / "all.parquet").equals(index.recommend(parts[0].ids.ids, 5))


def test_lists_of_ids_are_lines_of_text(tmp_path: Path) -> None:
    (tmp_path / "ids").write_text("i:01\n\n  i:02 \n")
    assert read_ids(tmp_path / "ids") == ["i:01", "i:02"]
    (tmp_path / "ids").write_text("\n")
    with pytest.raises(InputError, match="ids` names no id"):
        read_ids(tmp_path / "ids")
    (tmp_path / "ids").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="ids`: it is no UTF-8 text; give a text file with an id on each line"):
        read_ids(tmp_path / "ids")
    with pytest.raises(InputError, match="none`: No such file"):
        read_ids(tmp_path / "none")


def test_the_command_line_serves_one_and_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_graph(toy_graph(), tmp_path / "graph")
    for name in ("lightgcn", "ease"):
        arguments = ["train", str(tmp_path / "graph"), "--model", name, "--out", str(tmp_path / name)]
        assert main(arguments if name == "ease" else [*arguments, "--set", "epochs=2"]) == 0
    capsys.readouterr()
    (tmp_path / "block").write_text("item:6\n")
    lightgcn = ["recommend", str(tmp_path / "lightgcn")]
    assert main([*lightgcn, "--user", "user:1", "-k", "2", "--block", str(tmp_path / "block"), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["recommendations"]
    assert [(r["user_id"], r["rank"]) for r in rows] == [("user:1", 1), ("user:1", 2)]
    assert "item:6" not in [r["item_id"] for r in rows]
    for name, graph in (("lightgcn", []), ("ease", ["--graph", str(tmp_path / "graph")])):
        out = str(tmp_path / f"{name}.parquet")
        assert main(["recommend", str(tmp_path / name), *graph, "--all", "-k", "1", "--out", out]) == 0
        assert "6 users; " in capsys.readouterr().out
        assert pq.read_table(out)["user_id"].to_pylist() == [f"user:{n}" for n in range(1, 7)]
    assert main([*lightgcn, "--user", "user:1", "-k", "1"]) == 0
    assert capsys.readouterr().out.split()[0] == "user:1"


def test_a_directory_of_another_graph_or_without_vectors_is_refused(
    served: tuple[Trained, Path], tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match="is of another graph"):
        recommend_from(served[1], random_ckg(5, n_users=12, n_items=10), None, 3)
    train("popularity", CKG, {}, CONFIG, tmp_path / "model")
    with pytest.raises(InputError, match=r"has no `users.parquet`: `popularity` has no vectors; give its graph"):
        recommend_from(tmp_path / "model", None, None, 3)
    n_users, tables = recommend_from(tmp_path / "model", CKG, None, 1)
    assert n_users == 12
    assert pa.concat_tables(tables)["why"].to_pylist() == ["scores"] * 10 + ["popularity"] * 2
    assert load_model(tmp_path / "model", CKG).name == "popularity"

"""Evaluation and recommendation rank all that may be ranked, and nothing else."""

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import torch

from gnn.data import TrainingGraph
from gnn.errors import IndexRangeError, InputError, MemoryNeedError
from gnn.evaluate import evaluate
from gnn.memory import require_memory
from gnn.ranking import rank_items
from gnn.recommend import recommend
from gnn.recommender import Recommender
from kg.ckg import CollaborativeKG
from tests.gnn import oracles
from tests.gnn.graphs import random_ckg


class Given(Recommender):
    """Scores that a test made up; not registered."""

    objectives: ClassVar[tuple[str, ...]] = ()

    @dataclass(frozen=True)
    class Config:
        """Nothing."""

    def __init__(self, table: np.ndarray, ckg: CollaborativeKG) -> None:
        super().__init__(self.Config(), TrainingGraph.from_ckg(ckg))
        self.table = torch.tensor(table, dtype=torch.float32)

    def scores(self, users: torch.Tensor) -> torch.Tensor:
        return self.table[users].clone()


class Vectors(Given):
    """The same by vectors."""

    def embeddings(self, graph: TrainingGraph) -> tuple[torch.Tensor, torch.Tensor]:
        return self.table, torch.eye(self.table.shape[1])

    scores = Recommender.scores


def case(seed: int, kind: type[Given] = Given) -> tuple[Given, CollaborativeKG, np.ndarray]:
    ckg = random_ckg(seed, n_users=30, n_items=25)
    table = np.random.default_rng(seed).integers(0, 4, (30, 25)).astype(float)
    return kind(table, ckg), ckg, table


def sets_of(ckg: CollaborativeKG, *splits: str) -> dict[int, set[int]]:
    found: dict[int, set[int]] = {}
    for split in splits:
        for user, item in zip(*ckg.user_items(split), strict=True):
            found.setdefault(int(user), set()).add(int(item))
    return found


@pytest.mark.parametrize("kind", [Given, Vectors])
@pytest.mark.parametrize(("split", "seen"), [("valid", ("train",)), ("test", ("train", "valid"))])
def test_evaluation_equals_the_oracle_under_ties(kind: type[Given], split: str, seen: tuple[str, ...]) -> None:
    model, ckg, table = case(3, kind)
    ks = (5, 10, 25)  # nobody has 25 candidates: the last places stay empty
    evaluation = evaluate(model, ckg, split, ks)
    masked, relevant = sets_of(ckg, *seen), sets_of(ckg, split)
    rows = evaluation.per_user.to_pylist()
    assert [row["user_id"] for row in rows] == ckg.nodes.to_ids(sorted(relevant))
    for row, user in zip(rows, sorted(relevant), strict=True):
        ranked = oracles.ranking(table[user].tolist(), masked.get(user, set()))
        for k in ks:
            expected = oracles.metrics(ranked, relevant[user], k)
            assert {name: row[f"{name}@{k}"] for name in expected} == pytest.approx(expected)
    for name, value in evaluation.metrics.items():
        assert value == pytest.approx(np.mean([row[name] for row in rows]))
    assert evaluation.n_users == len(rows)


@pytest.mark.parametrize("kind", [Given, Vectors])
def test_a_place_that_is_left_empty_is_no_hit(kind: type[Given]) -> None:
    """Item 0 is to be found, and so few items are left that places stay empty."""
    model, ckg, _ = case(0, kind)
    pairs = np.array([[3, 30 + item] for item in range(25)])
    ckg.interactions.update(train=pairs[5:], valid=pairs[:0], test=pairs[:2])
    metrics = evaluate(model, ckg, ks=(20,)).metrics
    assert metrics["recall@20"] == 1.0
    assert metrics["precision@20"] == 2 / 20
    assert metrics["ndcg@20"] <= 1.0


def test_users_without_test_items_are_skipped_and_more_ranks_than_items_are_allowed() -> None:
    model, ckg, _ = case(1)
    only = {**ckg.interactions, "test": ckg.interactions["test"][:1]}
    evaluation = evaluate(model, dataclasses.replace(ckg, interactions=only), ks=(5, 100))
    assert evaluation.n_users == 1
    assert evaluation.metrics["recall@100"] == 1.0


def test_the_ndcg_of_kgat_is_an_extra_column_where_it_is_asked_for() -> None:
    model, ckg, _ = case(3)
    plain, legacy = evaluate(model, ckg, ks=(5, 10)), evaluate(model, ckg, ks=(5, 10), legacy=True)
    extra = [name for name in legacy.metrics if name not in plain.metrics]
    assert extra == ["ndcg_kgat_legacy@5", "ndcg_kgat_legacy@10"]
    assert legacy.per_user.drop(extra).equals(plain.per_user)
    for k in (5, 10):
        assert legacy.metrics[f"ndcg_kgat_legacy@{k}"] > legacy.metrics[f"ndcg@{k}"]


@pytest.mark.parametrize(("kind", "size"), [(Given, "_CHUNK"), (Vectors, "_VECTOR_CHUNK")])
def test_chunks_change_nothing(kind: type[Given], size: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, ckg, _ = case(2, kind)
    whole = evaluate(model, ckg).per_user
    monkeypatch.setattr(f"gnn.ranking.{size}", 7)
    assert evaluate(model, ckg).per_user.equals(whole)


def test_what_cannot_be_evaluated_is_refused() -> None:
    model, ckg, table = case(0)
    empty = {**ckg.interactions, "test": np.empty((0, 2), np.int64)}
    with pytest.raises(InputError, match="no interaction is in `test`"):
        evaluate(model, dataclasses.replace(ckg, interactions=empty))
    with pytest.raises(InputError, match="`train` cannot be evaluated; expected valid or test"):
        evaluate(model, ckg, "train")
    with pytest.raises(InputError, match="a score that is NaN or infinite"):
        evaluate(Given(np.full_like(table, np.nan), ckg), ckg)
    with pytest.raises(InputError, match="30 users and 25 items, the graph has 7 and 9"):
        evaluate(model, random_ckg())
    for ks, said in (((), r"\[\]"), ((20, 0), r"\[20, 0\]")):
        with pytest.raises(InputError, match=f"the cut-offs are {said}; expected at least one, each at least 1"):
            evaluate(model, ckg, ks=ks)


def test_recommendations_are_the_best_items_that_are_new_to_the_user() -> None:
    model, ckg, table = case(4)
    users = ["u:12", "u:03"]
    got = recommend(model, ckg, users, 4).to_pylist()
    masked = sets_of(ckg, "train", "valid")
    for place, user in enumerate((12, 3)):
        expected = oracles.ranking(table[user].tolist(), masked.get(user, set()))[:4]
        rows = got[4 * place : 4 * place + 4]
        assert [r["item_id"] for r in rows] == [f"i:{i:02}" for i in expected]
        assert [r["score"] for r in rows] == [table[user][i] for i in expected]
        assert [(r["user_id"], r["rank"]) for r in rows] == [(users[place], rank) for rank in (1, 2, 3, 4)]


def test_recommendations_from_a_list_of_items_and_for_nobody() -> None:
    model, ckg, _ = case(4)
    allowed = {"i:01", "i:02", "i:03"}
    got = recommend(model, ckg, ["u:00"], 10, only=sorted(allowed))
    had = {ckg.nodes[i] for split in ("train", "valid") for u, i in ckg.interactions[split] if u == 0}
    assert set(got["item_id"].to_pylist()) == allowed - had
    assert set(recommend(model, ckg, ["u:00"], 10, only=sorted(allowed), exclude=())["item_id"].to_pylist()) == allowed
    assert recommend(model, ckg, [], 3).num_rows == 0


def test_a_recommendation_that_cannot_be_made_is_refused() -> None:
    model, ckg, _ = case(4)
    with pytest.raises(InputError, match="`exclude` names `test`"):
        recommend(model, ckg, ["u:00"], 3, exclude=("train", "test"))
    with pytest.raises(InputError, match="2 ids are no user: `i:00`, `nobody`; expected ids like `u:00`"):
        recommend(model, ckg, ["u:00", "i:00", "nobody"], 3)
    with pytest.raises(InputError, match="1 ids are no item: `u:01`; expected ids like `i:00`"):
        recommend(model, ckg, ["u:00"], 3, only=["u:01"])
    with pytest.raises(InputError, match="`k` is 0"):
        recommend(model, ckg, ["u:00"], 0)
    none = torch.empty(0, dtype=torch.int64)
    with pytest.raises(IndexRangeError, match="user indices run from 0 to 30; expected 0 to 29"):
        list(rank_items(model, torch.tensor([0, 30]), none, 3))


def test_too_much_memory_is_refused_before_it_is_taken() -> None:
    require_memory(1, "nothing")
    with pytest.raises(MemoryNeedError, match=r"ease on 9 items needs 1024\.0 GiB of memory"):
        require_memory(1 << 40, "ease on 9 items")

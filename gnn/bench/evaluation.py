"""Full-ranking evaluation."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from gnn.bench.setting import Setting
from gnn.bench.spmm import on_route, routes
from gnn.bench.task import Bar, Contender, Part, Task
from gnn.bench.worker import Worker, outside
from gnn.data import TrainingGraph
from gnn.evaluate import evaluate
from gnn.recommender import Recommender, Vectors

_K = 20
_USERS_PER_BATCH = 100
_N_BATCHES = 20
_MB = 1e6


class _Fixed(Recommender):
    """Vectors that stand still: what is timed is the ranking, not a model."""

    @dataclass(frozen=True)
    class Config:
        """Nothing to choose."""

    name = "random vectors"

    def __init__(self, graph: TrainingGraph, dim: int) -> None:
        super().__init__(self.Config(), graph)
        generator = torch.Generator().manual_seed(0)
        sizes = (graph.n_users, graph.n_items)
        self.tables = tuple(torch.randn(n, dim, generator=generator).to(graph.device) for n in sizes)

    def embeddings(self, graph: TrainingGraph) -> Vectors:
        """Return what stands still; see `Recommender.embeddings`."""
        del graph
        users, items = self.tables
        return users, items


class EvaluationTask(Task, name="evaluation"):
    """Recall@20 and NDCG@20 of all users over all items, train items masked, from random vectors.

    Floor: 2 * n_users * n_items * d operations, at the rate of a float32 matrix product in the same run.
    """

    bars = (
        Bar("compiled", "ms", 3000),
        Bar("compiled", "extra_bytes", 250 * _MB),
        Bar("torch", "ms", 4500),
        Bar("cuda", "ms", 200, device="cuda"),
    )
    most_repeats = 3

    def contenders(self, setting: Setting) -> Sequence[Contender]:
        """Our routes beside an evaluator of LightGCN-PyTorch's form; see `Task.contenders`."""
        ckg = setting.ckg
        model = _Fixed(setting.graph, setting.dim)
        n_flops = 2 * ckg.n_users * ckg.n_items * setting.dim

        def run() -> Tensor:
            return torch.tensor(evaluate(model, ckg, ks=(_K,)).metrics[f"ndcg@{_K}"])

        ours = [
            Contender(name, (Part(on_route(name, run)),), n_flops=n_flops, has_peak=True) for name in routes(setting)
        ]
        return [*ours, *_peers(model, setting)]


def _peers(model: _Fixed, setting: Setting) -> list[Contender]:
    evaluator = _ListEvaluator(model, setting)
    times = evaluator.n_users / evaluator.n_timed
    note = f"its form, vectors kept; {evaluator.n_timed:,} of {evaluator.n_users:,} users timed"
    form = Contender("lightgcn-pytorch-form", (Part(evaluator.run, times),), is_peer=True, note=note)
    if setting.device != "cpu":
        return [form]
    users, items = (table.numpy() for table in model.tables)
    arrays = {**setting.arrays, "user_vectors": users, "item_vectors": items, "l2": 0.0, "lr": 0.0}
    others = {"recbole": "its trainer, 1,024 users at once", "implicit": "its evaluation of NDCG, precision, MAP, AUC"}
    outsiders = [
        outside(name, partial(Worker, f"gnn.bench.{name}_peer", "evaluation", arrays, setting.n_threads), note)
        for name, note in others.items()
    ]
    return [form, *outsiders]


class _ListEvaluator:
    """Evaluate 100 users at a time with lists of items.

    Source:
        The form of gusye1234/LightGCN-PyTorch 947ca2b, `Procedure.py` and `utils.py`: train items are set to -1024 by
        index lists, `topk`, then hits user by user in Python.

    Deviations:
        Written anew, raw scores instead of their sigmoid, vectors computed once instead of for every batch.
    """

    def __init__(self, model: _Fixed, setting: Setting) -> None:
        ckg = setting.ckg
        self.users, self.items = model.tables
        self.train, self.test = (_lists(*ckg.user_items(split), ckg.n_users) for split in ("train", "test"))
        self.tested = [user for user, items in enumerate(self.test) if items]
        self.n_users = len(self.tested)
        self.n_timed = min(self.n_users, _USERS_PER_BATCH * _N_BATCHES)
        self.k = min(_K, ckg.n_items)

    def run(self) -> Tensor:
        """Evaluate the users that are timed and return their NDCG, or NaN where they are not all."""
        recall, ndcg = 0.0, 0.0 if self.n_timed == self.n_users else float("nan")
        for start in range(0, self.n_timed, _USERS_PER_BATCH):
            users = self.tested[start : min(start + _USERS_PER_BATCH, self.n_timed)]
            more = self._batch(users)
            recall, ndcg = recall + more[0], ndcg + more[1]
        return torch.tensor(ndcg / self.n_timed)

    def _batch(self, users: list[int]) -> tuple[float, float]:
        scores = self.users[torch.tensor(users, device=self.users.device)] @ self.items.T
        rows = [row for row, user in enumerate(users) for _ in self.train[user]]
        scores[rows, [item for user in users for item in self.train[user]]] = -(1 << 10)
        ranked = torch.topk(scores, k=self.k).indices.cpu().tolist()
        wanted = [self.test[user] for user in users]
        hits = np.array([[item in of for item in items] for items, of in zip(ranked, wanted, strict=True)], float)
        sizes = np.array([len(of) for of in wanted])
        discount = 1 / np.log2(np.arange(2, self.k + 2))
        ideal = np.array([discount[: min(n, self.k)].sum() for n in sizes])
        return float((hits.sum(1) / sizes).sum()), float((hits @ discount / ideal).sum())


def _lists(users: np.ndarray, items: np.ndarray, n_users: int) -> list[list[int]]:
    lists: list[list[int]] = [[] for _ in range(n_users)]
    for user, item in zip(users.tolist(), items.tolist(), strict=True):
        lists[user].append(item)
    return lists

"""LightGCN trained from a database: each step reads the neighbourhood of its batch, and nothing reads all edges."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch_geometric.nn import LGConv
from torch_geometric.sampler import HeteroSamplerOutput

from db.store import GraphStore
from gnn.losses import bpr
from kg.errors import ConfigError
from kg.progress import Progress, silent
from kg.terms import INTERACTS
from kglift.remote import REVERSED, StoredNodes, StoreSampler

_BOUGHT = (
    "MATCH (u:Entity)-[r:INTERACTED]->(i:Entity) WHERE r.split = 'train' AND u.entity_id IN $ids "
    "RETURN u.entity_id AS user, i.entity_id AS item"
)


@dataclass(frozen=True)
class RemoteConfig:
    """Parameters of a training from a database.

    Attributes:
        dim: width of an embedding.
        fan_out: most neighbours of a node, for each layer.
        batch_size: users in a step; each brings one of its items and one that it does not have.
        epochs: how often each user comes.
        learning_rate: of Adam.
        seed: of everything random.
    """

    dim: int = 64
    fan_out: tuple[int, ...] = (20, 20)
    batch_size: int = 1024
    epochs: int = 10
    learning_rate: float = 1e-2
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name in ("dim", "batch_size", "epochs", "learning_rate"):
            if not getattr(self, name) > 0:
                msg = f"`{name}` is {getattr(self, name)}; expected more than 0"
                raise ConfigError(msg)


class RemoteLightGCN(torch.nn.Module):
    """LightGCN over sampled neighbourhoods: embeddings lie in memory, edges in the store.

    Source:
        He et al., SIGIR 2020, equations 3, 4 and 8; sampling as Hamilton et al., NeurIPS 2017, algorithm 2.

    Deviations:
        Neighbours are sampled, and degrees are those of the sample; with a `fan_out` above every degree both are whole.
    """

    def __init__(self, store: GraphStore, config: RemoteConfig) -> None:
        super().__init__()
        torch.manual_seed(config.seed)
        self.config, self.store, self.nodes = config, store, StoredNodes.read(store)
        relations = (INTERACTS, REVERSED + INTERACTS)
        self.sampler = StoreSampler(store, self.nodes, config.fan_out, relations=relations, seed=config.seed)
        self.conv = LGConv()
        self.users = torch.nn.Embedding(self.nodes.count("user"), config.dim)
        self.items = torch.nn.Embedding(self.nodes.count("item"), config.dim)
        for table in (self.users, self.items):
            torch.nn.init.normal_(table.weight, std=0.1)

    def forward(self, users: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
        """Return the vectors of some users and items, from one sample around all of them."""
        out = self.sampler.sample({"user": users, "item": items})
        n_users = len(out.node["user"])
        x = torch.cat([self.users(out.node["user"]), self.items(out.node["item"])])
        edges, total = _edges(out, n_users), x
        for _ in self.config.fan_out:
            x = self.conv(x, edges)
            total = total + x
        total = total / (len(self.config.fan_out) + 1)
        place = {kind: {int(n): i for i, n in enumerate(out.node[kind])} for kind in ("user", "item")}
        first = torch.tensor([place["user"][int(n)] for n in users])
        second = torch.tensor([n_users + place["item"][int(n)] for n in items])
        return total[first], total[second]


def train_remote(
    store: GraphStore, config: RemoteConfig, progress: Progress = silent
) -> tuple[RemoteLightGCN, list[float]]:
    """Train LightGCN on the train interactions of a store by BPR.

    Returns:
        The model, and the mean loss of each epoch.
    """
    model = RemoteLightGCN(store, config)
    generator = np.random.default_rng(config.seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=config.learning_rate)
    losses = []
    for epoch in range(config.epochs):
        order, total, seen = generator.permutation(model.nodes.count("user")), 0.0, 0
        for start in range(0, len(order), config.batch_size):
            users, positives, negatives = _batch(model, order[start : start + config.batch_size], generator)
            if not len(users):
                continue
            user, item = model(users, torch.cat([positives, negatives]))
            positive, negative = item.split(len(users))
            loss = bpr((user * positive).sum(1), (user * negative).sum(1))
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            total, seen = total + float(loss.detach()) * len(users), seen + len(users)
        losses.append(total / max(seen, 1))
        progress(epoch + 1, config.epochs, f"loss {losses[-1]:.4f}")
    return model, losses


def _batch(model: RemoteLightGCN, users: np.ndarray, generator: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Draw for each user with interactions one item that it has and one that it does not have."""
    ids = [model.nodes.ids["user"][int(n)].as_py() for n in users]
    rows = model.store.query(_BOUGHT, {"ids": ids})
    if not len(rows):
        return (torch.empty(0, dtype=torch.long),) * 3
    n_items = model.nodes.count("item")
    user, item = model.nodes.locate(rows["user"])[1], model.nodes.locate(rows["item"])[1]
    has = set((user * n_items + item).tolist())
    order = generator.permutation(len(user))
    chosen, first = np.unique(user[order], return_index=True)
    negatives = generator.integers(0, n_items, len(chosen))
    for _ in range(100):
        taken = np.array([key in has for key in (chosen * n_items + negatives).tolist()])
        if not taken.any():
            break
        negatives[taken] = generator.integers(0, n_items, taken.sum())
    return torch.from_numpy(chosen), torch.from_numpy(item[order][first]), torch.from_numpy(negatives)


def _edges(out: HeteroSamplerOutput, n_users: int) -> Tensor:
    """Join both directions of the sample into one set of edges, each once and with its reverse."""
    both = [torch.empty(2, 0, dtype=torch.long)]
    for kind, row in out.row.items():
        user, item = (row, out.col[kind]) if kind[0] == "user" else (out.col[kind], row)
        both.append(torch.stack([user, item + n_users]))
    pairs = torch.unique(torch.cat(both, 1), dim=1)
    return torch.cat([pairs, pairs.flip(0)], 1)

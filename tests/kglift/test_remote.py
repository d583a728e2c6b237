"""PyG asks the store for what it needs: features, edges and neighbours as they are in memory, and LightGCN learns."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch_geometric.loader import LinkLoader, NodeLoader

from db.ladybug_store import LadybugConfig, LadybugStore
from db.store import GraphStore
from gnn.pyg import to_hetero_data
from kg.ckg import CollaborativeKG
from kg.errors import ConfigError
from kg.graph import Graph
from kg.nx import from_networkx, to_networkx
from kglift.remote import KINDS, REVERSED, StoredNodes, StoreEdges, StoreFeatures, StoreSampler
from kglift.remote_lightgcn import RemoteConfig, RemoteLightGCN, train_remote
from tests.db.servers import empty_store
from tests.toy import toy_graph


@pytest.fixture(params=["memory", "ladybug", pytest.param("neo4j", marks=pytest.mark.slow)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[GraphStore]:
    with empty_store(GraphStore.find(request.param), tmp_path / "graph.lbug", request) as store:
        store.write(toy_graph())
        yield store


def test_a_read_graph_goes_to_every_form_and_back(store: GraphStore) -> None:
    read, written = store.read(), CollaborativeKG.from_graph(toy_graph())
    ckg = CollaborativeKG.from_graph(read)
    assert ckg.nodes.ids == written.nodes.ids
    assert np.array_equal(ckg.triples, written.triples)
    assert np.array_equal(ckg.confidence, written.confidence)
    made = to_networkx(read)
    back = from_networkx(made)
    assert back.replace(texts=read.texts, features=read.features).equals(read)


def test_edges_are_those_of_the_graph_in_memory(store: GraphStore) -> None:
    whole = to_hetero_data(CollaborativeKG.from_graph(toy_graph()))
    nodes = StoredNodes.read(store)
    edges = StoreEdges(store, nodes)
    assert sorted(edges.edge_types) == sorted(whole.edge_types)
    for kind in whole.edge_types:
        expected = whole[kind].edge_index
        assert torch.equal(torch.stack(edges.get_edge_index(kind, "coo")), expected)
        backwards = (kind[2], REVERSED + kind[1], kind[0])
        assert torch.equal(torch.stack(edges.get_edge_index(backwards, "coo")), expected.flip(0))
    assert [nodes.count(kind) for kind in KINDS] == [whole[kind].num_nodes for kind in KINDS]
    assert edges.get_all_edge_attrs()[0].size is not None
    with pytest.raises(KeyError):
        edges.get_edge_index(("user", "loves", "item"), "coo")
    assert not edges.put_edge_index(torch.zeros(2, 0), ("user", "interacts", "item"), "coo")
    assert not edges.remove_edge_index(("user", "interacts", "item"), "coo")


def test_features_are_those_of_the_graph_and_zeros_elsewhere(store: GraphStore) -> None:
    nodes = StoredNodes.read(store)
    features = StoreFeatures(store, nodes)
    place = nodes.ids["item"].to_pylist().index("item:5")
    assert features.get_tensor("item", "minilm", index=torch.tensor([place, 0])).tolist() == [[0.25, -0.5, 1], [0] * 3]
    assert features.get_tensor("item", "minilm", index=None).shape == (8, 3)
    assert features.get_tensor_size("item", "minilm") == (8, 3)
    assert features.get_tensor_size("user", "n_id") == (6,)
    assert not features.put_tensor(torch.zeros(8, 3), "item", "minilm", index=None)
    assert not features.remove_tensor("item", "minilm", index=None)


def test_a_whole_sample_is_the_neighbourhood(store: GraphStore) -> None:
    whole = to_hetero_data(CollaborativeKG.from_graph(toy_graph()))
    nodes = StoredNodes.read(store)
    data = (StoreFeatures(store, nodes), StoreEdges(store, nodes))
    loader = NodeLoader(data, StoreSampler(store, nodes, (99, 99)), ("user", torch.tensor([0, 4])), batch_size=2)
    batch = next(iter(loader))
    assert batch["user"].n_id[:2].tolist() == [0, 4]
    assert batch["item"].minilm.shape == (batch["item"].num_nodes, 3)
    for (head, relation, tail), edge_index in batch.edge_index_dict.items():
        row, col = batch[head].n_id[edge_index[0]], batch[tail].n_id[edge_index[1]]
        if relation.startswith(REVERSED):
            expected = whole[tail, relation.removeprefix(REVERSED), head].edge_index.flip(0)
        else:
            expected = whole[head, relation, tail].edge_index
        found = set(zip(row.tolist(), col.tolist(), strict=True))
        assert len(found) == edge_index.shape[1]
        assert found <= set(zip(*expected.tolist(), strict=True))
    bought = whole["user", "interacts", "item"].edge_index
    items = batch["item"].n_id[batch["item", REVERSED + "interacts", "user"].edge_index[0]]
    assert set(items.tolist()) >= set(bought[1][(bought[0] == 0) | (bought[0] == 4)].tolist())


def test_a_sample_is_bounded_and_repeats_by_its_seed(store: GraphStore) -> None:
    nodes = StoredNodes.read(store)
    one, same, other = (
        StoreSampler(store, nodes, (1, 2), relations=("interacts", REVERSED + "interacts"), seed=seed)
        for seed in (1, 1, 2)
    )
    drawn = [[s.sample({"item": torch.arange(8)}).row for _ in range(3)] for s in (one, same, other)]
    assert set(drawn[0][0]) <= {("user", "interacts", "item"), ("item", REVERSED + "interacts", "user")}
    for a, b in zip(drawn[0], drawn[1], strict=True):
        assert all(torch.equal(a[kind], b[kind]) for kind in a)
    kind = ("user", "interacts", "item")
    assert not all(torch.equal(a[kind], b[kind]) for a, b in zip(drawn[0], drawn[2], strict=True))
    assert len(drawn[0][0][kind]) <= 8 * 1 + 2 * 6
    with pytest.raises(ConfigError, match=r"`fan_out` is \(0,\)"):
        StoreSampler(store, nodes, (0,))


def test_seed_edges_keep_their_ends(store: GraphStore) -> None:
    nodes = StoredNodes.read(store)
    data = (StoreFeatures(store, nodes), StoreEdges(store, nodes))
    seeds = torch.tensor([[3, 0, 3], [7, 2, 1]])
    kind = ("user", "interacts", "item")
    sampler = StoreSampler(store, nodes, (2,))
    loader = LinkLoader(data, sampler, (kind, seeds), batch_size=3)
    batch = next(iter(loader))
    local = batch[kind].edge_label_index
    assert torch.equal(torch.stack([batch["user"].n_id[local[0]], batch["item"].n_id[local[1]]]), seeds)
    with pytest.raises(ConfigError, match="`neg_sampling` is"):
        next(iter(LinkLoader(data, sampler, (kind, seeds), batch_size=3, neg_sampling="binary")))


@pytest.mark.parametrize("name", ["dim", "batch_size", "epochs", "learning_rate"])
def test_a_wrong_parameter_is_named(name: str) -> None:
    with pytest.raises(ConfigError, match=f"`{name}` is 0"):
        RemoteConfig(**{name: 0})


@pytest.mark.slow
def test_lightgcn_learns_from_the_store(tmp_path: Path) -> None:
    graph, hidden = _two_camps()
    store = LadybugStore(LadybugConfig(tmp_path / "camps.lbug"))
    store.write(graph)
    model, losses = train_remote(
        store, RemoteConfig(dim=16, fan_out=(8, 8), batch_size=200, epochs=30, learning_rate=0.05)
    )
    assert losses[-1] < 0.6 * losses[0]
    with torch.no_grad():
        users, items = model(torch.arange(200), torch.arange(100))
    scores = users @ items.T
    wins = [(scores[u, hidden[u]] > scores[u, (np.arange(100) % 2) != u % 2]).float().mean() for u in range(200)]
    assert np.mean(wins) > 0.9


def test_a_step_reads_only_what_lies_around_its_batch(tmp_path: Path) -> None:
    pairs = [(f"u{n:04}", f"i{n // 10 * 10 + k:04}") for n in range(1000) for k in range(10)]
    ids = {name: "User" if name[0] == "u" else "Item" for pair in pairs for name in pair}
    store = LadybugStore(LadybugConfig(tmp_path / "blocks.lbug"))
    store.write(
        Graph.from_rows(
            entities=[{"entity_id": i, "type": kind, "name": i} for i, kind in ids.items()],
            interactions=[{"user_id": u, "item_id": i, "split": "train"} for u, i in pairs],
        )
    )
    model = RemoteLightGCN(store, RemoteConfig(dim=4, fan_out=(20, 20)))
    model(torch.tensor([5, 995]), torch.tensor([7, 992]))
    assert model.sampler.n_edges_read == 2 * (10 + 10 + 9 * 10 + 9 * 10) == 400
    assert len(pairs) == 10_000


def _two_camps() -> tuple[Graph, list[int]]:
    """Even users like even items, odd users odd ones; one liked item of each user is hidden."""
    rng = np.random.default_rng(0)
    liked = {u: rng.choice(np.arange(u % 2, 100, 2), 8, replace=False) for u in range(200)}
    entities = [{"entity_id": f"u{u:03}", "type": "User", "name": "u"} for u in range(200)]
    entities += [{"entity_id": f"i{i:03}", "type": "Item", "name": "i"} for i in range(100)]
    rows = [
        {"user_id": f"u{u:03}", "item_id": f"i{i:03}", "split": "train"}
        for u, items in liked.items()
        for i in items[1:]
    ]
    return Graph.from_rows(entities=entities, interactions=rows), [int(items[0]) for items in liked.values()]

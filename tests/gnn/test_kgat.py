"""KGAT equals a dense oracle of its equations, on graphs with parallel edges and on both routes of the CPU."""

import dataclasses
from collections.abc import Iterator
from typing import Literal

import numpy as np
import pytest
import torch
from torch.nn import functional

from gnn.bench.kgat_peer import PeerKGAT
from gnn.bench.measure import measure_task
from gnn.bench.row import Machine
from gnn.bench.setting import TOY, Setting
from gnn.bench.task import Task
from gnn.data import TrainingGraph
from gnn.kernels import cpu_kgat, cpu_kgat_edges, threads
from gnn.models.kgat import KGAT
from gnn.sampling import FactBatch, InteractionBatch
from gnn.sparse import Csr, use_route
from kg.ckg import CollaborativeKG
from tests.contracts.recommender import RecommenderContract
from tests.gnn import oracles
from tests.gnn.graphs import random_ckg
from tests.toy import toy_graph

CONFIG = KGAT.Config(dim=5, relation_dim=4, layers=(6, 3))
BATCH = InteractionBatch(torch.tensor([0, 2]), torch.tensor([1, 1]), torch.tensor([3, 0]))


def graphs() -> list[CollaborativeKG]:
    return [CollaborativeKG.from_graph(toy_graph()), random_ckg(0), random_ckg(3)]


def built(ckg: CollaborativeKG) -> tuple[KGAT, dict[str, np.ndarray]]:
    torch.manual_seed(0)
    model = KGAT(CONFIG, TrainingGraph.from_ckg(ckg))
    return model, {name: value.detach().double().numpy() for name, value in model.state_dict().items()}


def by_edge(model: KGAT, values: torch.Tensor) -> dict[tuple[int, int, int], float]:
    facts = model.graph.facts
    keys = zip(facts.csr.row.tolist(), facts.relation.tolist(), facts.csr.col.tolist(), strict=True)
    return dict(zip(keys, values.tolist(), strict=True))


@pytest.fixture(params=["torch", "compiled"])
def route(request: pytest.FixtureRequest) -> Iterator[str]:
    with use_route(request.param):
        yield request.param


@pytest.mark.usefixtures("route")
@pytest.mark.parametrize("ckg", graphs())
def test_attention_is_a_softmax_over_all_facts_of_a_head(ckg: CollaborativeKG) -> None:
    model, parameters = built(ckg)
    assert by_edge(model, model.attention) == pytest.approx(oracles.kgat_walk(ckg), abs=1e-6)
    model.after_epoch()
    assert by_edge(model, model.attention) == pytest.approx(oracles.kgat_attention(ckg, parameters), abs=1e-6)


@pytest.mark.usefixtures("route")
@pytest.mark.parametrize("ckg", graphs())
def test_vectors_follow_the_equations(ckg: CollaborativeKG) -> None:
    model, parameters = built(ckg)
    model.after_epoch()
    expected = oracles.kgat_forward(ckg, parameters, oracles.kgat_attention(ckg, parameters), len(CONFIG.layers))
    users, items = model.vectors() or ()
    np.testing.assert_allclose(torch.cat([users, items]), expected[: ckg.n_users + ckg.n_items], atol=2e-6)


@pytest.mark.usefixtures("route")
def test_losses_follow_the_equations() -> None:
    ckg = random_ckg(1)
    model, p = built(ckg)
    model.eval()
    vectors = oracles.kgat_forward(ckg, p, oracles.kgat_walk(ckg), 2)
    triples = [(vectors[u], vectors[7 + i], vectors[7 + j]) for u, i, j in ((0, 1, 3), (2, 1, 0))]
    ranking = np.mean([np.log1p(np.exp(u @ j - u @ i)) for u, i, j in triples])
    norms = sum(float(v @ v) for triple in triples for v in triple) / 4
    assert model.loss(BATCH).item() == pytest.approx(ranking + CONFIG.l2 * norms, rel=1e-5)

    facts = [(8, 0, 1, 3), (9, 2, 17, 4), (17, 2, 9, 5)]
    columns = [torch.tensor(column) for column in zip(*facts, strict=True)]
    gaps, norms = [], 0.0
    for h, r, t, n in facts:
        head, tail, negative = (p["embedding"][node] @ p["projection"][r] for node in (h, t, n))
        moved = head + p["relation"][r]
        gaps.append(((moved - tail) ** 2).sum() - ((moved - negative) ** 2).sum())
        norms += sum(float(v @ v) for v in (head, tail, negative, p["relation"][r])) / 6
    expected = np.mean(np.log1p(np.exp(gaps))) + CONFIG.l2_facts * norms
    assert model.loss(FactBatch(*columns)).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.usefixtures("route")
def test_attention_is_fixed_within_an_epoch_and_has_no_gradient() -> None:
    model, _ = built(random_ckg(0))
    before = model.attention.clone()
    model.loss(InteractionBatch(torch.tensor([0]), torch.tensor([1]), torch.tensor([3]))).backward()
    assert torch.equal(model.attention, before)
    assert not model.attention.requires_grad
    model.after_epoch()
    assert not torch.equal(model.attention, before)


def sparse_ckg() -> CollaborativeKG:
    """Large and thin enough that a batch's neighbourhood is a part of it, in three layers."""
    return random_ckg(2, n_users=60, n_items=50, n_entities=40)


def loss_and_gradients(model: KGAT, batch: InteractionBatch = BATCH) -> list[torch.Tensor]:
    model.zero_grad()
    loss = model.loss(batch)
    loss.backward()
    return [loss.detach(), *(p.grad.clone() for p in model.parameters() if p.grad is not None)]


def deep(dtype: torch.dtype, **settings: object) -> KGAT:
    torch.manual_seed(0)
    config = KGAT.Config(dim=8, relation_dim=6, layers=(7, 33, 4), init_std=0.5, **settings)  # type: ignore[arg-type]
    return KGAT(config, TrainingGraph.from_ckg(sparse_ckg())).to(dtype)


@pytest.mark.parametrize("has_most", [None, True, False])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-6)])
def test_both_routes_give_the_same_loss_and_gradients_whichever_rows_are_left_out(
    has_most: bool | None, dtype: torch.dtype, tolerance: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = deep(dtype, dropout=0.0)
    model.after_epoch()
    with use_route("torch"):
        expected = loss_and_gradients(model)
    if has_most is not None:
        monkeypatch.setattr(cpu_kgat_edges, "has_most_entries", lambda csr, rows: has_most)
    with use_route("compiled"):
        found = loss_and_gradients(model)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=tolerance)


def test_a_layer_is_computed_for_the_nodes_that_the_next_one_needs() -> None:
    csr = TrainingGraph.from_ckg(random_ckg(4, n_users=9, n_items=300, n_entities=200)).facts.csr
    node = np.array([20])
    dense = np.zeros((csr.n_rows, csr.n_rows), bool)
    dense[csr.row.numpy(), csr.col.numpy()] = True
    assert 1 < dense[20].sum() < 9
    assert cpu_kgat_edges.with_neighbours(csr, node).tolist() == sorted({20, *np.flatnonzero(dense[20])})
    assert cpu_kgat_edges.with_neighbours(csr, np.arange(309)).tolist() == list(range(csr.n_rows))


def test_the_gradient_is_that_of_what_dropout_left() -> None:
    model = deep(torch.float64, dropout=0.4)
    unused = ("relation", "projection")

    def loss(*_: torch.Tensor) -> torch.Tensor:
        torch.manual_seed(3)
        return model.loss(BATCH)

    with use_route("compiled"):
        parameters = tuple(p for name, p in model.named_parameters() if name not in unused)
        assert torch.autograd.gradcheck(loss, parameters, fast_mode=True)


def test_dropout_leaves_its_share_out_anew_in_each_step_and_nothing_when_it_serves() -> None:
    n, share = 4000, 0.3
    ones, none = torch.ones(n, 8), torch.zeros(8)
    no_edges = Csr(torch.zeros(n + 1, dtype=torch.int32), torch.zeros(0, dtype=torch.int32), n)
    tables = []
    for seed in (1, 2):
        tables.append(torch.empty(n, 8))
        layer = ((torch.eye(8), none, torch.zeros(8, 8), none), cpu_kgat.Activation(0.2, share, seed))
        kept = cpu_kgat.Tables(torch.empty(n, 8), torch.empty(n, 8, dtype=torch.uint8))
        cpu_kgat.forward(no_edges, none, ones, np.arange(n), layer, kept, tables[-1], n_threads=1)
    first, second = tables
    assert first.unique().tolist() == pytest.approx([0.0, 1 / (1 - share)])
    kept = (first > 0).double()
    error = (share * (1 - share) / n) ** 0.5
    assert (kept.mean(0) - (1 - share)).abs().max() < 5 * error
    for other in (second[:, 0] > 0, kept[:, 1], kept[:, 0].roll(1)):
        assert abs(float(np.corrcoef(kept[:, 0], other)[0, 1])) < 5 / n**0.5

    model = deep(torch.float32, dropout=share)
    with use_route("compiled"):
        losses = [model.loss(BATCH).item() for _ in range(2)]
        assert losses[0] != losses[1]
        model.eval()
        served = model.loss(BATCH).item()
        assert served == model.loss(BATCH).item()
        with use_route("torch"):
            assert served == pytest.approx(model.loss(BATCH).item(), rel=1e-6)


def test_the_number_of_threads_changes_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "_BLOCK", 7)
    monkeypatch.setattr(cpu_kgat, "BLOCK", 7)
    model = deep(torch.float32)
    results = []
    with use_route("compiled"):
        for n_threads in (1, 2, 3):
            torch.set_num_threads(n_threads)
            torch.manual_seed(0)
            model.attention = model.attend(model.graph)
            results.append([model.attention, *loss_and_gradients(model)])
            assert torch.get_num_threads() == n_threads
    torch.set_num_threads(1)
    for alone, *together in zip(*results, strict=True):
        assert all(torch.equal(alone, other) for other in together)


def test_passes_that_are_under_way_together_do_not_share_tables() -> None:
    model = deep(torch.float32, dropout=0.0)
    other = InteractionBatch(torch.tensor([7]), torch.tensor([5]), torch.tensor([9]))
    with use_route("compiled"):
        expected = [loss_and_gradients(model, batch)[1] for batch in (BATCH, other)]
        losses = [model.loss(batch) for batch in (BATCH, other)]
        assert not model._workspaces
        for loss, gradient in zip(losses, expected, strict=True):
            for _ in range(2):  # the second time the tables have to be made again
                (found,) = torch.autograd.grad(loss, [model.embedding], retain_graph=True)
                assert torch.equal(found, gradient)
        model.vectors()
    assert len(model._workspaces) == 2


FACTS = FactBatch(*(torch.tensor(c) for c in zip(*[(8, 0, 1, 3), (9, 2, 17, 4), (17, 2, 9, 8)], strict=True)))


def test_fused_steps_equal_those_of_autograd() -> None:
    results = []
    for is_fused in (True, False):
        model = deep(torch.float64)
        adams = [torch.optim.Adam(model.parameters(), lr=0.01, fused=True) for _ in model.objectives]
        torch.manual_seed(5)
        losses = []
        with use_route("compiled"):
            steps = [model.fused_step(o, adam) for o, adam in zip(model.objectives, adams, strict=True)]
            for batch, kind in ((BATCH, 0), (FACTS, 1), (BATCH, 0), (FACTS, 1), (BATCH, 0)):
                if is_fused:
                    losses.append(steps[kind](batch))
                    continue
                adams[kind].zero_grad()
                losses.append(model.loss(batch))
                losses[-1].backward()
                adams[kind].step()
        assert len(model._workspaces) == 1
        results.append([torch.stack(losses).detach(), *model.state_dict().values()])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


def test_there_is_no_fused_step_where_autograd_has_to_see_the_attention() -> None:
    for route, attention in (("torch", "fixed"), ("compiled", "differentiable")):
        model = deep(torch.float32, attention=attention)
        with use_route(route):
            assert model.fused_step("facts", torch.optim.Adam(model.parameters())) is None


def test_attention_that_was_loaded_or_made_anew_is_what_the_next_step_uses() -> None:
    model, other = deep(torch.float32, dropout=0.0), deep(torch.float32, dropout=0.0)
    other.after_epoch()
    with use_route("compiled"):
        before = loss_and_gradients(model)
        expected = loss_and_gradients(other)
        model.load_state_dict(other.state_dict())
        for one, two, three in zip(loss_and_gradients(model), expected, before, strict=True):
            assert torch.equal(one, two)
            assert not torch.equal(one, three)


def dense_loss(model: KGAT, ckg: CollaborativeKG) -> torch.Tensor:
    """The ranking loss with the attention inside, an edge at a time."""
    p = dict(model.named_parameters())
    e, lifted = p["embedding"], torch.zeros(ckg.n_nodes, ckg.n_nodes, dtype=torch.float64)
    for h, r, t, c in oracles.edges(ckg):
        w = p["projection"][r]
        place = torch.zeros_like(lifted)
        place[h, t] = c
        lifted = lifted + place * torch.exp((e[t] @ w) @ torch.tanh(e[h] @ w + p["relation"][r]))
    attention = lifted / lifted.sum(1, keepdim=True).clamp_min(1e-300)
    parts, x = [e], e
    for k in range(len(model.config.layers)):
        near, add, multiply = attention @ x, model.add[k], model.multiply[k]
        x = functional.leaky_relu(add(x + near), 0.2) + functional.leaky_relu(multiply(x * near), 0.2)
        parts.append(x / x.norm(dim=1, keepdim=True))
    final = torch.cat(parts, dim=1)
    user, positive, negative = (final[nodes] for nodes in (BATCH.users, BATCH.positives + 7, BATCH.negatives + 7))
    ranking = torch.log1p(torch.exp((user * negative).sum(1) - (user * positive).sum(1))).mean()
    return ranking + model.config.l2 * sum(v.square().sum() for v in (user, positive, negative)) / 4


@pytest.mark.usefixtures("route")
def test_differentiable_attention_has_the_gradient_of_the_dense_equations() -> None:
    ckg = random_ckg(1)
    torch.manual_seed(0)
    config = dataclasses.replace(CONFIG, attention="differentiable", init_std=0.5)
    model = KGAT(config, TrainingGraph.from_ckg(ckg)).double().eval()
    found = loss_and_gradients(model)
    loss = dense_loss(model, ckg)
    expected = [loss.detach(), *torch.autograd.grad(loss, list(model.parameters()))]
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-9)  # ln(confidence) is float32
    assert "attention" not in model.state_dict()


@dataclasses.dataclass(frozen=True)
class _Differentiable(KGAT.Config):
    attention: Literal["fixed", "differentiable"] = "differentiable"


class TestDifferentiable(RecommenderContract):
    """The other form keeps the contract, too."""

    @pytest.fixture(scope="class")
    def member(self) -> Iterator[type[KGAT]]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(KGAT, "Config", _Differentiable)
            yield KGAT


@pytest.mark.parametrize("name", ["kgat-cf-step", "kgat-kg-step", "kgat-attention", "kgat-epoch"])
def test_the_benchmark_times_a_peer_that_computes_the_same(name: str) -> None:
    rows = measure_task(Task.find(name)(), Setting(TOY, "cpu", 1), Machine(bandwidth=2e9, flop_rate=1e9), 1)
    assert [(row.route, row.peer) for row in rows] == [("compiled", "coo-autograd"), ("torch", "coo-autograd")]
    assert [row.note for row in rows if "differs" in row.note or "gives" in row.note] == []
    assert all(row.ms and row.peer_ms and row.floor_ms for row in rows)


def test_an_epoch_is_its_steps_and_one_attention(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gnn.bench.kgat._BATCH", 100)
    monkeypatch.setattr("gnn.bench.kgat._FACT_BATCH", 500)
    for contender in Task.find("kgat-epoch")().contenders(Setting(TOY, "cpu", 1)):
        assert [part.times for part in contender.parts] == [6, 4, 1]  # 581 train interactions, 1,562 edges


def without_parallel_edges(seed: int) -> CollaborativeKG:
    """Confidences are 1, too: then the usual form and ours are one model."""
    ckg = random_ckg(seed, n_users=12, n_items=15, n_entities=30)
    pairs = {(int(u), int(i)) for u, i in ckg.interactions["train"]}
    kept = []
    for place, (h, _, t) in enumerate(ckg.triples.tolist()):
        if h != t and (h, t) not in pairs and (t, h) not in pairs:
            pairs.add((h, t))
            kept.append(place)
    return dataclasses.replace(ckg, triples=ckg.triples[kept], confidence=np.ones(len(kept)))


def test_the_peer_has_our_losses_and_gradients_where_no_edges_are_parallel() -> None:
    torch.manual_seed(0)
    model = KGAT(
        dataclasses.replace(CONFIG, init_std=0.5, dropout=0.0), TrainingGraph.from_ckg(without_parallel_edges(2))
    )
    peer = PeerKGAT(model)
    for each in (model, peer):
        each.after_epoch()
    for batch in (BATCH, FACTS):
        losses = [each.loss(batch) for each in (model, peer)]
        torch.testing.assert_close(*losses, rtol=1e-6, atol=1e-7)
        for loss in losses:
            loss.backward()
    ours, theirs = (dict(each.named_parameters()) for each in (model, peer))
    assert ours.keys() == theirs.keys()
    for name, parameter in ours.items():
        torch.testing.assert_close(parameter.grad, theirs[name].grad, rtol=1e-5, atol=1e-6)


def test_the_benchmark_tells_an_attention_that_differs() -> None:
    task, ckg = Task.find("kgat-attention")(), without_parallel_edges(2)
    model = KGAT(CONFIG, TrainingGraph.from_ckg(ckg))
    peer = PeerKGAT(model)
    assert task.difference(model, peer) == ""
    model.attention[3] += 0.25
    assert task.difference(model, peer) == "differs by up to 0.25"

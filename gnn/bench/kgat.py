"""KGAT's steps, its attention and its epoch, beside the form that is usually written with PyTorch's own operators."""

import dataclasses
from collections.abc import Callable, Sequence
from functools import cache
from itertools import cycle, islice

import torch
from torch import Tensor

from gnn.bench.kgat_peer import PeerKGAT
from gnn.bench.setting import Setting
from gnn.bench.spmm import on_route, routes
from gnn.bench.task import Bar, Contender, Part, Task
from gnn.data import TrainingGraph
from gnn.models.kgat import KGAT
from gnn.recommender import Objective
from gnn.sampling import Batch, FactBatch, fact_batches, interaction_batches
from gnn.sparse import use_route
from gnn.synthetic import SyntheticConfig, last_fm_size, synthetic_ckg

PEER = "coo-autograd"
_BATCH, _FACT_BATCH, _N_BATCHES, _LR = 1024, 2048, 4, 1e-4
Model = KGAT | PeerKGAT
Run = Callable[[], object]


class KGATStep(Task, name="kgat-cf-step"):
    """A step of KGAT on interactions: 1,024 triplets, widths 64, 64, 32, 16, dropout 0.1, Adam; Last-FM's size.

    Floor: 16 nnz + 44 N d bytes: the first layer reads each edge's int32 tail and float32 attention forward and
    backward, and reads and writes a table each time; Adam reads parameter, gradient and two moments and writes all but
    the gradient. Further layers are not counted: they are restricted to rows that count.
    """

    reads_data = False
    most_repeats = 5

    def contenders(self, setting: Setting) -> Sequence[Contender]:
        """Our routes and the peer, each stepping through the same batches; see `Task.contenders`."""
        batches = _batches(setting)[0]
        return _contenders(setting, lambda model: (Part(_walk(model, batches)),), step_bytes(_graph(setting)))


class KGATFactStep(Task, name="kgat-kg-step"):
    """A step of KGAT on facts (TransR): 2,048 facts, projections 64 x 64, Adam; Last-FM's size.

    Floor: 28 N d bytes: Adam reads parameter, gradient and two moments of every node and writes all but the gradient.
    """

    reads_data = False

    def contenders(self, setting: Setting) -> Sequence[Contender]:
        """Our routes and the peer, each stepping through the same batches; see `Task.contenders`."""
        batches = _batches(setting)[1]
        return _contenders(setting, lambda model: (Part(_walk(model, batches)),), fact_step_bytes(_graph(setting)))


class KGATAttention(Task, name="kgat-attention"):
    """KGAT's attention of every edge, made anew as after an epoch; Last-FM's size.

    Floor: 8 nnz + 4 N d bytes: each edge's tail is read and its attention written, and the embeddings are read.
    """

    reads_data = False
    bars = (Bar("compiled", "ratio", 12, peer=PEER),)
    most_repeats = 5

    def contenders(self, setting: Setting) -> Sequence[Contender]:
        """Our routes and the peer; see `Task.contenders`."""
        return _contenders(setting, lambda model: (Part(_attention(model)),), attention_bytes(_graph(setting)))

    def difference(self, ours: object, theirs: object) -> str:
        """Compare heads without parallel edges: the peer has one edge for each pair of nodes."""
        assert isinstance(ours, KGAT)
        first, n_edges, other = (_by_pair(ours, model) for model in (ours, None, theirs))
        heads = first.indices()[0]
        is_mixed = torch.zeros(first.shape[0], dtype=torch.bool, device=heads.device)
        is_mixed[heads[n_edges.values() > 1]] = True
        far = float((first.values() - other.values()).abs()[~is_mixed[heads]].max())
        return "" if far <= 1e-4 else f"differs by up to {far:.2g}"


class KGATEpoch(Task, name="kgat-epoch"):
    """An epoch of KGAT: a step for each 1,024 interactions, one for each 2,048 edges, the attention; Last-FM's size.

    Floor: the bytes of its parts. No epoch is measured whole: it is the time of a step times the number of steps, for
    both kinds, and of the attention once. Sampling is not in it.
    """

    reads_data = False
    bars = (Bar("compiled", "ratio", 12, peer=PEER), Bar("cuda", "ms", 4000, device="cuda"))
    most_repeats = 5

    def contenders(self, setting: Setting) -> Sequence[Contender]:
        """Our routes and the peer; see `Task.contenders`."""
        graph, (batches, fact_batches_) = _graph(setting), _batches(setting)
        n_steps, n_fact_steps = -(-len(graph.users) // _BATCH), -(-len(graph.facts.relation) // _FACT_BATCH)

        def parts(model: Model) -> tuple[Part, ...]:
            steps = (Part(_walk(model, batches), n_steps), Part(_walk(model, fact_batches_), n_fact_steps))
            return (*steps, Part(_attention(model)))

        size = n_steps * step_bytes(graph) + n_fact_steps * fact_step_bytes(graph) + attention_bytes(graph)
        return _contenders(setting, parts, size)


def step_bytes(graph: TrainingGraph) -> int:
    """Return the least bytes of a step on interactions; the formula is in `KGATStep`."""
    return 16 * len(graph.facts.relation) + 44 * graph.n_nodes * KGAT.Config.dim


def fact_step_bytes(graph: TrainingGraph) -> int:
    """Return the least bytes of a step on facts; the formula is in `KGATFactStep`."""
    return 28 * graph.n_nodes * KGAT.Config.dim


def attention_bytes(graph: TrainingGraph) -> int:
    """Return the least bytes of the attention; the formula is in `KGATAttention`."""
    return 8 * len(graph.facts.relation) + 4 * graph.n_nodes * KGAT.Config.dim


def _contenders(setting: Setting, parts: Callable[[Model], tuple[Part, ...]], size_bytes: int) -> list[Contender]:
    """Return a contender for each of our routes, and the peer, each with a model of its own of equal parameters."""
    made = []
    for name in routes(setting):
        with use_route(name):  # it decides which step a model offers
            own = parts(_new_model(setting))
        forced = tuple(Part(on_route(name, part.run), part.times) for part in own)
        made.append(Contender(name, forced, size_bytes=size_bytes))
    peer = PeerKGAT(_new_model(setting))
    return [*made, Contender(PEER, parts(peer), is_peer=True, note="parallel edges are one edge there")]


def _new_model(setting: Setting) -> KGAT:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return KGAT(KGAT.Config(), _graph(setting))


def _walk(model: Model, batches: Sequence[Batch]) -> Run:
    """Return what steps on the next batch each time, and returns the loss of the first before any step, undropped."""
    is_ours = isinstance(model, KGAT)
    optimiser = torch.optim.Adam(model.parameters(), lr=_LR, fused=is_ours or None)
    turn = cycle(batches)
    with torch.no_grad():
        before = model.eval().loss(batches[0])
    model.train()

    def autograd(batch: Batch) -> None:
        optimiser.zero_grad()
        model.loss(batch).backward()  # type: ignore[no-untyped-call]
        optimiser.step()

    objective: Objective = "facts" if isinstance(batches[0], FactBatch) else "interactions"
    own = model.fused_step(objective, optimiser) if isinstance(model, KGAT) else None
    step = own or autograd

    def run() -> Tensor:
        step(next(turn))
        return before

    return run


def _attention(model: Model) -> Run:
    def update() -> Model:
        model.after_epoch()
        return model

    return update


def _by_pair(ours: KGAT, model: object) -> Tensor:
    """Return a model's attention, or without one the number of edges, as a COO matrix: an entry for each pair."""
    if isinstance(model, PeerKGAT):
        return model.attention.coalesce()
    facts = ours.graph.facts
    values = torch.ones_like(ours.attention) if model is None else ours.attention
    index = torch.stack([facts.csr.row, facts.csr.col.long()])
    return torch.sparse_coo_tensor(index, values, (facts.csr.n_rows,) * 2, check_invariants=False).coalesce()


def _graph(setting: Setting) -> TrainingGraph:
    return _graph_of(setting.is_toy, setting.device)


@cache
def _graph_of(is_toy: bool, device: str) -> TrainingGraph:
    if is_toy:
        return TrainingGraph.from_ckg(synthetic_ckg(SyntheticConfig(60, 80, 750, 40, 200, 3)), device)
    graph = last_fm_size()
    tensors = ("users", "items", "triples", "fact_confidence")
    return dataclasses.replace(graph, **{name: getattr(graph, name).to(device) for name in tensors})


def _batches(setting: Setting) -> tuple[list[Batch], list[Batch]]:
    """Return the batches that every contender steps on in turn: interactions, facts."""
    return _batches_of(setting.is_toy, setting.device)


@cache
def _batches_of(is_toy: bool, device: str) -> tuple[list[Batch], list[Batch]]:
    graph = _graph_of(is_toy, device)
    generator = torch.Generator(device).manual_seed(0)
    n_fact_steps = -(-len(graph.facts.relation) // _FACT_BATCH)
    first = interaction_batches(graph, _BATCH, generator)
    second = fact_batches(graph, n_fact_steps, generator)
    return list(islice(first, _N_BATCHES)), list(islice(second, _N_BATCHES))

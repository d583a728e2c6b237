"""Say how much memory work needs before it starts, not by dying in the middle."""

from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from gnn.errors import MemoryNeedError
from kg.ckg import CollaborativeKG
from kg.terms import TRAIN

_GIB = 1 << 30
_FLOAT = 4
_EDGE = 64  # bytes: indices of an interaction or fact, both CSR directions, what building them holds at once
_FACT_EDGE = 200  # where a model keeps relations, attention and keys of facts
_SCORED_AT_ONCE = 1024


@dataclass(frozen=True)
class TrainingNeed:
    """Bytes that training a model holds at its peak, by purpose; an estimate.

    Attributes:
        parameters: embeddings, and the copy of the best epoch's.
        optimisers: gradients, and Adam's two moments for each objective.
        graph: edges, and what building them takes.
        propagation: tables between the layers, and what a batch gathers from them.
        evaluation: what ranking holds.
    """

    parameters: int
    optimisers: int
    graph: int
    propagation: int
    evaluation: int

    @property
    def total(self) -> int:
        """Bytes of all purposes: they are held at once, or nearly."""
        return self.parameters + self.optimisers + self.graph + self.propagation + self.evaluation

    def __str__(self) -> str:
        """Name each purpose with its share."""
        return ", ".join(f"{name} {size / _GIB:.2f}" for name, size in asdict(self).items())


def training_need(ckg: CollaborativeKG, config: Any, n_objectives: int, batch_size: int) -> TrainingNeed:
    """Estimate the memory of training a model, before anything of it is made.

    For a model with `dim` every node has so many parameters. A model with `layers` (widths) keeps inputs and outputs of
    each for the backward pass; other layers are linear and keep nothing. What a closed-form model needs besides, it
    checks itself.

    Args:
        ckg: what is trained on.
        config: the model's parameters.
        n_objectives: each has an Adam of its own; 0 for a closed-form model, or to serve a trained one.
        batch_size: interactions a step.
    """
    dim, layers = getattr(config, "dim", 0), getattr(config, "layers", ())
    n_train = len(ckg.interactions[TRAIN])
    table = _FLOAT * ckg.n_nodes * dim
    widths = (dim, *layers)
    kept = sum(4 * into + 5 * out for into, out in pairwise(widths))
    batch = 3 * _FLOAT * min(batch_size, n_train) * sum(widths)
    if n_objectives > 1:  # the facts are gone through in as many steps as the interactions
        n_steps = -(-n_train // batch_size)
        batch += 4 * 3 * _FLOAT * 2 * (n_train + len(ckg.triples)) // n_steps * dim
    per_edge = _FACT_EDGE if n_objectives > 1 else _EDGE
    return TrainingNeed(
        parameters=2 * table,
        optimisers=(1 + 2 * n_objectives) * table,
        graph=2 * per_edge * (n_train + len(ckg.triples)),
        propagation=(2 * table + _FLOAT * ckg.n_nodes * kept + batch) if n_objectives else 0,
        evaluation=2 * table if dim else 3 * _FLOAT * _SCORED_AT_ONCE * ckg.n_items,
    )


def require_memory(
    size_bytes: int,
    what: str,
    *,
    advice: str = "use a model with vectors (lightgcn), or a machine with more memory",
    device: torch.device | None = None,
) -> None:
    """Check that so much memory is there.

    Args:
        size_bytes: what the work will hold at once, at its peak.
        what: the work, for the error.
        advice: what to do where it is not, for the error.
        device: where it is needed; None for the CPU.

    Raises:
        MemoryNeedError: if less is available.
    """
    on_cuda = device is not None and device.type == "cuda"
    available = _available_on_cuda(device) if on_cuda else available_memory()
    if size_bytes > available:
        need, there = (f"{size / _GIB:.1f} GiB" for size in (size_bytes, available))
        msg = f"{what} needs {need} of memory{f' on `{device}`' if on_cuda else ''}, {there} are available; {advice}"
        raise MemoryNeedError(msg)


def available_memory() -> int:
    """Return how many bytes can be taken now; where the system does not say, what a 64-bit address can name."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return 1 << 62
    values = {name: rest for name, _, rest in (line.partition(":") for line in lines)}
    return int(values["MemAvailable"].split()[0]) * 1024


def _available_on_cuda(device: torch.device | None) -> int:
    """What the driver has, and what torch holds without using it."""
    free, _ = torch.cuda.mem_get_info(device)
    return int(free) + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)

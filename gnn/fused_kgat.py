"""KGAT's training step without a gradient of the embedding.

By autograd each step asks for a table of the embedding's size and clears it. On facts, of which a step has some
thousand, that costs more than the loss: here their rows alone are handed to Adam. On interactions a row's gradient goes
through Adam as soon as it is gathered.
What is small runs on one thread: where the processors have other work, each parallel region of torch waits for the last
of its threads to get its turn.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from gnn.adam import TableAdam
from gnn.kernels.cpu_kgat_layers import Pass
from gnn.kernels.cpu_step import update_rows
from gnn.kernels.pages import on_large_pages
from gnn.kernels.threads import torch_on_one_thread
from gnn.models.kgat import KGAT, join_layers
from gnn.sampling import Batch, FactBatch, InteractionBatch


class KGATStep:
    """One step of KGAT on the CPU: equal to autograd on `KGAT.loss` and a step of the optimiser.

    Args:
        model: with fixed attention, on the compiled route.
        optimiser: holds the model's parameters.

    Source:
        Wang et al., KDD 2019 (KGAT), equations 2 and 12.

    Deviations:
        None from `gnn.models.kgat`.
    """

    def __init__(self, model: KGAT, optimiser: torch.optim.Optimizer) -> None:
        self.model, self.optimiser = model, optimiser
        self._adam = TableAdam(model.embedding, optimiser)
        on_large_pages(*self._adam.tables())
        self._slots = np.full(len(model.embedding), -1, np.int32)

    def __call__(self, batch: Batch) -> Tensor:
        """Make a step on a batch of either kind and return its loss, a scalar."""
        self.optimiser.zero_grad()
        with torch_on_one_thread() as n_threads:
            loss = self._on_facts(batch) if isinstance(batch, FactBatch) else self._on_interactions(batch, n_threads)
        self.optimiser.step()
        return loss.detach()

    def _on_facts(self, batch: FactBatch) -> Tensor:
        nodes = torch.stack([batch.heads, batch.tails, batch.negatives], dim=1)
        distinct, place = torch.unique(nodes, return_inverse=True)
        rows = self.model.embedding.detach()[distinct].requires_grad_()
        loss = self.model.fact_loss(batch.relations, functional.embedding(place, rows))
        weights = [self.model.relation, self.model.projection]
        gradient, *gradients = torch.autograd.grad(loss, [rows, *weights])
        _give(weights, gradients)
        with torch.no_grad():
            self._slots[distinct] = np.arange(len(distinct), dtype=np.int32)
            update_rows(self._adam.tables(), self._adam.next_rates(), self._slots, gradient.contiguous())
            self._slots[distinct] = -1
        return loss

    def _on_interactions(self, batch: InteractionBatch, n_threads: int) -> Tensor:
        model = self.model
        plan, place = model.plan(model.graph, model.nodes_of(batch))
        weights = model.layer_weights()
        done = Pass(plan, model.embedding, weights, n_threads)
        layers = [x.requires_grad_() for x in done.found(model.embedding.detach())]
        loss = model.ranking_loss(functional.embedding(place, join_layers(layers)))
        adam = (self._adam.tables(), self._adam.next_rates())
        with torch.no_grad():
            gradients = done.backward(model.embedding, torch.autograd.grad(loss, layers), adam)
        plan.free.append(done.space)
        _give(weights, gradients)
        return loss


def _give(parameters: Sequence[torch.nn.Parameter], gradients: Sequence[Tensor]) -> None:
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient

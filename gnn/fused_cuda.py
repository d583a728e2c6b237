"""LightGCN's training step on CUDA without autograd: loss, gradient and Adam in six passes over the graph's rows.

The algorithm is that of `gnn.fused`, in Triton kernels: propagation on scaled rows, the last layer for the batch's
nodes only, the first product back with the batch's rows only, the last one ending in Adam. On a GPU the step is
captured as a CUDA graph.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from gnn.errors import InputError
from gnn.kernels.triton_batch import loss_and_gradient, mark
from gnn.kernels.triton_spmm import Product, adam_rates, product, product_and_adam
from gnn.sampling import InteractionBatch
from gnn.sparse import NormalisedGraph


class CudaLightGCNStep:
    """One step of LightGCN on CUDA: equal to autograd on `gnn.models.lightgcn` and `torch.optim.Adam`.

    The optimiser's state is updated in place, so checkpoints do not know which of the two made them. No two programs
    add to the same number, so the same batches give the same bits. The first batch of a size runs kernel by kernel,
    which compiles them; the second is captured as a CUDA graph, and it and all later ones are replays.

    Args:
        embedding: (n_nodes, d) float32 parameter, users first.
        graph: S.
        optimiser: a plain Adam that holds `embedding`, made with `fused=True`.
        n_users: where items begin among the nodes.
        n_layers: L >= 1.
        l2: weight of the regulariser.
        storage: type of the tables between layers, float32 or bfloat16.

    Raises:
        InputError: if there is no layer; in a step, if the optimiser is another Adam.

    Source:
        He et al., SIGIR 2020 (LightGCN), equations 3, 4 and 15; Kingma and Ba, ICLR 2015, algorithm 1.

    Deviations:
        None from `gnn.models.lightgcn`; sums in another order.
    """

    def __init__(
        self,
        embedding: torch.nn.Parameter,
        graph: NormalisedGraph,
        optimiser: torch.optim.Adam,
        *,
        n_users: int,
        n_layers: int,
        l2: float,
        storage: torch.dtype = torch.float32,
    ) -> None:
        if n_layers < 1:
            msg = f"`n_layers` is {n_layers}; the fused step expects at least 1, use autograd without layers"
            raise InputError(msg)
        self.embedding, self.graph, self.optimiser = embedding, graph, optimiser
        self.n_users, self.n_layers, self.l2, self.storage = n_users, n_layers, l2, storage
        self._slot = torch.full((len(embedding),), -1, dtype=torch.int32, device=embedding.device)
        self._constants = torch.zeros(4, dtype=torch.float64, device=embedding.device)
        self._settings: tuple[float, ...] = ()
        self._addresses: list[int] = []
        self._replays: dict[int, Callable[[Tensor], Tensor] | None] = {}

    @torch.no_grad()
    def __call__(self, batch: InteractionBatch) -> Tensor:
        """Make a step on a batch and return its loss, a scalar on the device; nothing waits for it."""
        self._follow_optimiser()
        nodes = torch.cat([batch.users, batch.positives + self.n_users, batch.negatives + self.n_users])
        size = len(nodes)
        if not nodes.is_cuda or size not in self._replays:
            self._replays[size] = None
            return self._step(nodes)
        replay = self._replays[size] or self._capture(nodes)
        self._replays[size] = replay
        return replay(nodes)

    def _step(self, nodes: Tensor) -> Tensor:
        slot, share = self._slot, 1.0 / (self.n_layers + 1)
        mentions = mark(nodes, slot)
        final = self._forward(len(nodes), share)
        loss, gradient, count = loss_and_gradient(mentions, slot, final, self.embedding, self.l2, share)
        self._backward(gradient, count, self.l2 / (len(nodes) // 3))
        slot.index_fill_(0, nodes, -1)
        return loss

    def _forward(self, n_slots: int, share: float) -> Tensor:
        """Return the final vectors of the batch's nodes, (n_slots, d)."""
        given = self._operands(self.embedding)
        x: Tensor = self.embedding
        if self.storage != x.dtype:
            x = (x * self.graph.scale[:, None]).to(self.storage)
        for _ in range(self.n_layers - 1):
            scaled = Product(self.graph.csr, x, scale_columns=x is self.embedding, scale_result=True, **given)
            x = product(scaled, torch.empty_like(x, dtype=self.storage))
        last = Product(self.graph.csr, x, scale_columns=x is self.embedding, sparse_out=True, factor=share, **given)
        return product(last, self.embedding.new_empty(n_slots, x.shape[1]))

    def _backward(self, gradient: Tensor, count: Tensor, l2: float) -> None:
        """Propagate the gradient of the batch's rows back and step."""
        given = self._operands(gradient)
        x, is_sparse = gradient, True
        for _ in range(self.n_layers - 1):
            first: dict[str, Any] = {"scale_columns": is_sparse, "sparse_x": is_sparse}
            scaled = Product(self.graph.csr, x, scale_result=True, sparse_base=True, **first, **given)
            x, is_sparse = product(scaled, torch.empty_like(self.embedding, dtype=self.storage)), False
        last = Product(self.graph.csr, x, scale_columns=is_sparse, sparse_x=is_sparse, sparse_base=True, **given)
        state = self.optimiser.state[self.embedding]
        state["step"] += 1
        rates = adam_rates(self._constants, state["step"])
        product_and_adam(last, count, l2, (self.embedding, state["exp_avg"], state["exp_avg_sq"], rates))

    def _operands(self, base: Tensor) -> dict[str, Any]:
        return {"weight": self.graph.weight, "scale": self.graph.scale, "slot": self._slot, "base": base}

    def _follow_optimiser(self) -> None:
        """Make the optimiser's state where it has none, take its settings over, forget captures of another state."""
        group, state = self.optimiser.param_groups[0], self.optimiser.state[self.embedding]
        if not state:
            state["step"] = torch.zeros((), device=self.embedding.device)
            state["exp_avg"], state["exp_avg_sq"] = (torch.zeros_like(self.embedding) for _ in range(2))
        self._check(group, state)
        settings = (group["lr"], *group["betas"], group["eps"])
        if settings != self._settings:
            self._constants.copy_(torch.tensor(settings, dtype=torch.float64))
            self._settings = settings
        addresses = [t.data_ptr() for t in (self.embedding, *state.values())]
        if addresses != self._addresses:
            self._addresses = addresses
            self._replays.clear()

    def _check(self, group: dict[str, Any], state: dict[str, Tensor]) -> None:
        for name in ("weight_decay", "amsgrad", "maximize"):
            if group[name]:
                msg = f"the optimiser has `{name}` set to {group[name]}; the fused step expects a plain Adam without it"
                raise InputError(msg)
        here, counted = self.embedding.device, state["step"].device
        if counted != here:
            msg = f"the optimiser counts its steps on `{counted}`; expected `{here}`, make it with `fused=True`"
            raise InputError(msg)

    def _capture(self, nodes: Tensor) -> Callable[[Tensor], Tensor]:
        """Record a step for batches of this size; recording does not run it."""
        given, graph = nodes.clone(), torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            loss = self._step(given)

        def replay(nodes: Tensor) -> Tensor:
            given.copy_(nodes)
            graph.replay()
            return loss.clone()

        return replay

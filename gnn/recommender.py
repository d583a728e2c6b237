"""The contract of a recommender: closed-form and trained members fit one loop and one evaluator."""

from collections.abc import Callable
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from gnn.data import TrainingGraph
from gnn.errors import InputError
from gnn.sampling import Batch
from kg.registry import Registered

Objective = Literal["interactions", "facts"]
Vectors = tuple[Tensor, Tensor]
Step = Callable[[Any], Tensor]


class Recommender(Registered, torch.nn.Module, package="gnn.models"):
    """Scores items for users; a member is one file in `gnn/models/`.

    A **trained** member names its `objectives`, and implements `embeddings` and `loss`. Each epoch the loop draws the
    batches of each objective in turn, each objective with an Adam of its own, and calls `after_epoch`.

    A **closed-form** member has no objective and implements `fit` and `scores`.

    What is kept of a model is its `state_dict`: parameters and buffers. Nothing else may change by training.

    Attributes:
        Config: the member's frozen dataclass of parameters.
        objectives: what is trained; () for a closed-form member.
        config: the parameters.
        graph: what the model was built on.
    """

    Config: ClassVar[type[Any]]
    objectives: ClassVar[tuple[Objective, ...]] = ("interactions",)

    def __init__(self, config: Any, graph: TrainingGraph) -> None:
        """Make the parameters, with torch's global generator.

        Args:
            config: an instance of `Config`.
            graph: train interactions and facts; of the same graph the same model is built.
        """
        super().__init__()
        self.config = config
        self.graph = graph

    def fit(self) -> None:
        """Compute what is computed once, before any epoch; trained members have nothing to do."""

    def loss(self, batch: Batch) -> Tensor:
        """Return the loss of one batch, a scalar.

        Raises:
            InputError: if this model is not trained on such batches.
        """
        msg = f"`{self.name}` is not trained on {type(batch).__name__}; its objectives are {list(self.objectives)}"
        raise InputError(msg)

    def fused_step(self, objective: Objective, optimiser: torch.optim.Adam) -> Step | None:
        """Return a function that makes a whole step on a batch, update included, and returns the loss.

        It is equal to `loss`, its gradient and a step of the optimiser, whose state it keeps up to date.

        Args:
            objective: one of `objectives`.
            optimiser: holds this model's parameters.

        Returns:
            None where the model has no such function on this device: the loop then uses `loss` and autograd.
        """
        return None

    def after_epoch(self) -> None:
        """Do what is done once an epoch, without gradient."""

    def embeddings(self, graph: TrainingGraph) -> Vectors:
        """Return the vectors whose dot products are the scores.

        Args:
            graph: what to propagate over, with the nodes of the graph that the model was built on.

        Returns:
            (users (n_users, d), items (n_items, d)), differentiable.

        Raises:
            InputError: if the model has no vectors.
        """
        msg = f"`{self.name}` has no vectors; ask for `scores`, or train lightgcn or kgat"
        raise InputError(msg)

    def scores(self, users: Tensor) -> Tensor:
        """Score every item for some users, without gradient.

        Args:
            users: (n,) int64 from 0.

        Returns:
            (n, n_items) float32; higher is better, train items are not masked.
        """
        vectors = self.vectors()
        if vectors is None:
            msg = f"`{type(self).__name__}` implements neither `embeddings` nor `scores`"
            raise TypeError(msg)
        return vectors[0][users] @ vectors[1].T

    @torch.no_grad()
    def vectors(self) -> Vectors | None:
        """Return (users, items) as they serve, or None where the model has none."""
        if type(self).embeddings is Recommender.embeddings:
            return None
        was_training = self.training
        self.eval()
        users, items = self.embeddings(self.graph)
        self.train(was_training)
        return users, items

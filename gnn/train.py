"""The one training loop."""

import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch

from gnn.build import TrainConfig, build_model, identity_of
from gnn.checkpoint import Checkpoint, Trained, load_checkpoint, remove_checkpoint, save_checkpoint, save_model
from gnn.errors import InputError
from gnn.evaluate import evaluate
from gnn.recommender import Objective, Recommender, Step
from gnn.sampling import Batch, fact_batches, interaction_batches
from kg.ckg import CollaborativeKG
from kg.errors import WriteError
from kg.progress import Progress, silent
from kg.terms import TEST, VALID


def train(
    model_name: str,
    ckg: CollaborativeKG,
    model_config: Mapping[str, Any],
    config: TrainConfig,
    out: Path | None = None,
    progress: Progress = silent,
) -> Trained:
    """Train a model and keep the epoch that is best on `valid`.

    All randomness of an epoch comes from (seed, epoch), so a run that was killed and started again goes through the
    same batches to the same end.

    Args:
        model_name: a member of `gnn.models`.
        ckg: the graph, split.
        model_config: the model's parameters; what is not given has its default.
        config: the loop's parameters.
        out: the directory to make of the finished model; while training, the checkpoint lies beside it in
            `OUT.checkpoint` and an equal call goes on from there.
        progress: told after every epoch.

    Raises:
        InputError: for a graph that cannot be trained on, or a loss that is NaN.
        ConfigError: for an unknown parameter or one out of range.
        CheckpointError: if the checkpoint beside `out` is of another run.
        WriteError: if `out` is taken or cannot be written.
    """
    if out is not None and out.exists():
        msg = f"`{out}` exists already; choose another place, or remove it to train again"
        raise WriteError(msg)
    model = build_model(model_name, ckg, model_config, config)
    identity = identity_of(model, ckg, config)
    path = None if out is None else out.with_name(out.name + ".checkpoint")
    run = Run(model, ckg, config, identity, path)
    run.resume()
    with _deterministic(config.deterministic):
        run.to_the_end(progress)
    trained = run.finish()
    if out is not None:
        save_model(trained, ckg, out)
    if path is not None:
        remove_checkpoint(path)
    return trained


class Run:
    """One training run: what the loop carries from epoch to epoch."""

    def __init__(
        self, model: Recommender, ckg: CollaborativeKG, config: TrainConfig, identity: dict[str, Any], path: Path | None
    ) -> None:
        self.model, self.ckg, self.config, self.identity, self.path = model, ckg, config, identity, path
        self.split = TEST if config.paper_protocol else VALID
        fused = model.graph.device.type in ("cpu", "cuda")
        self.optimisers = {
            objective: torch.optim.Adam(model.parameters(), lr=config.lr, fused=fused) for objective in model.objectives
        }
        self.steps = {objective: self._step_of(objective) for objective in model.objectives}
        self.epoch, self.fit_seconds = 0, 0.0
        self.curve: list[dict[str, float | None]] = []
        self.best_epoch, self.best_value = 0, -1.0
        self.best_state: dict[str, Any] = {}
        self.evaluations_since_best = 0
        self.validates = len(ckg.user_items(self.split)[0]) > 0

    def to_the_end(self, progress: Progress) -> None:
        """Fit, or train epoch by epoch."""
        start = time.perf_counter()
        self.model.fit()
        self.fit_seconds = time.perf_counter() - start
        if not self.model.objectives:
            return
        while self.epoch < self.config.epochs and not self._is_patience_over():
            self._epoch()
            every = self.config.checkpoint_every
            if self.path is not None and every and self.epoch % every == 0:
                self.keep(self.path)
            progress(self.epoch, self.config.epochs, self._note())

    def finish(self) -> Trained:
        """Put the best epoch's state into the model and describe the run."""
        if self.best_state:
            self.model.load_state_dict(self.best_state)
        self.model.eval()
        columns = ("epoch", "loss", "recall@20", "ndcg@20", "seconds")
        types = [pa.int64(), *[pa.float64()] * 4]
        schema = pa.schema(list(zip(columns, types, strict=True)))
        seconds = self.fit_seconds + sum(row["seconds"] or 0.0 for row in self.curve)
        best = self.best_epoch if self.best_state else self.epoch
        return Trained(self.model, self.config, pa.Table.from_pylist(self.curve, schema), best, seconds)

    def resume(self) -> None:
        """Go on from the checkpoint if there is one."""
        if self.path is None or not self.path.exists():
            return
        self.restore(load_checkpoint(self.path, self.identity))

    def restore(self, saved: Checkpoint) -> None:
        """Put a checkpoint in place of what there is."""
        self.model.load_state_dict(saved.state)
        for objective, state in saved.optimisers.items():
            self.optimisers[objective].load_state_dict(state)  # type: ignore[index]
        self.best_state, self.curve = saved.best_state, saved.curve
        for name in ("epoch", "best_epoch", "best_value", "evaluations_since_best"):
            setattr(self, name, getattr(saved, name))

    def keep(self, path: Path) -> None:
        """Write a checkpoint."""
        save_checkpoint(path, self.identity, self._checkpoint())

    def measure(self) -> dict[str, float]:
        """Return the metrics of the model as it is."""
        return evaluate(self.model, self.ckg, self.split, (20,)).metrics

    def _epoch(self) -> None:
        start = time.perf_counter()
        self.epoch += 1
        self.model.train()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(_mix(self.config.seed, -self.epoch))  # dropout: another stream than the batches
            losses = [self.steps[objective](batch) for objective, batch in self._batches()]
        loss = float(torch.stack(losses).mean())
        if loss != loss:
            msg = f"the loss is NaN in epoch {self.epoch}; train with a smaller `lr` than {self.config.lr}"
            raise InputError(msg)
        self.model.after_epoch()
        row: dict[str, float | None] = {"epoch": self.epoch, "loss": loss, "recall@20": None, "ndcg@20": None}
        if self.validates and (self.epoch % self.config.eval_every == 0 or self.epoch == self.config.epochs):
            row.update(self._validate())
        self.curve.append({**row, "seconds": time.perf_counter() - start})

    def _batches(self) -> Iterator[tuple[Objective, Batch]]:
        graph, config = self.model.graph, self.config
        generator = torch.Generator(graph.device).manual_seed(_mix(config.seed, self.epoch))
        n_batches = -(-len(graph.users) // config.batch_size)
        draw: dict[Objective, Callable[[], Iterator[Batch]]] = {
            "interactions": lambda: interaction_batches(graph, config.batch_size, generator, config.sampler),
            "facts": lambda: fact_batches(graph, n_batches, generator),
        }
        for objective in self.model.objectives:
            for batch in draw[objective]():
                yield objective, batch

    def _step_of(self, objective: Objective) -> Step:
        """Return the model's own step, or one by autograd."""
        model, optimiser = self.model, self.optimisers[objective]

        def step(batch: Batch) -> torch.Tensor:
            optimiser.zero_grad(set_to_none=True)
            loss = model.loss(batch)
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            return loss.detach()

        return model.fused_step(objective, optimiser) or step

    def _validate(self) -> dict[str, float | None]:
        metrics = self.measure()
        self.evaluations_since_best += 1
        if metrics[self.config.metric] > self.best_value:
            self.best_epoch, self.best_value = self.epoch, metrics[self.config.metric]
            self.best_state = {k: v.detach().clone() for k, v in self.model.state_dict().items()}
            self.evaluations_since_best = 0
        return {name: metrics[name] for name in ("recall@20", "ndcg@20")}

    def _is_patience_over(self) -> bool:
        return bool(self.config.patience) and self.evaluations_since_best >= self.config.patience

    def _checkpoint(self) -> Checkpoint:
        names = [f.name for f in dataclasses.fields(Checkpoint)]
        own = {name: getattr(self, name) for name in names if name not in ("state", "optimisers")}
        optimisers = {str(name): optimiser.state_dict() for name, optimiser in self.optimisers.items()}
        return Checkpoint(state=self.model.state_dict(), optimisers=optimisers, **own)

    def _note(self) -> str:
        row = self.curve[-1]
        last = f"loss {row['loss']:.4f}"
        if not self.validates:
            return last
        return f"{last}, best {self.config.metric} {max(self.best_value, 0):.4f} on {self.split}"


@contextmanager
def _deterministic(is_wanted: bool) -> Iterator[None]:
    before, is_warning = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    if is_wanted:
        torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=is_warning)


def _mix(seed: int, epoch: int) -> int:
    return seed * 1_000_003 + epoch

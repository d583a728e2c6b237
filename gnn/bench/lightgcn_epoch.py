"""One training epoch of LightGCN."""

from collections.abc import Callable, Sequence
from functools import partial

from gnn.bench.lightgcn_step import Step, first_batches, own_steps, peers, step_bytes, walk
from gnn.bench.setting import Setting
from gnn.bench.task import Bar, Contender, Part, Task
from gnn.bench.worker import Worker, outside
from gnn.sampling import interaction_batches

_MEASURED = ("fused", "fused-bf16")


class LightGCNEpoch(Task, name="lightgcn-epoch"):
    """An epoch of LightGCN: negatives drawn for all interactions, then a step for each 2,048 of them.

    Floor: the bytes of `lightgcn-step` and of `sampling`. Whole epochs are measured for the fused step; the others are
    one epoch of sampling and one step times the number of steps; peers are steps alone.
    """

    bars = (Bar("fused", "ms", 400, device="cuda"),)
    most_repeats = 3

    def contenders(self, setting: Setting) -> Sequence[Contender]:
        """Ours, the peers of a step, and epochs of other models by implicit; see `Task.contenders`."""
        n = len(setting.graph.users)
        n_steps = -(-n // setting.batch_size)
        ours = [
            Contender(
                name, _parts(setting, name, step, n_steps), size_bytes=n_steps * step_bytes(setting, name) + 40 * n
            )
            for name, step in own_steps(setting).items()
        ]
        return [*ours, *peers(setting, times=n_steps), *_other_models(setting)]


def _parts(setting: Setting, name: str, step: Step, n_steps: int) -> tuple[Part, ...]:
    if name in _MEASURED:
        return (Part(_epoch(setting, step)),)
    return Part(walk(step, first_batches(setting)), times=n_steps), Part(_sample(setting))


def _epoch(setting: Setting, step: Step) -> Callable[[], object]:
    generator = setting.generator()

    def run() -> object:
        losses = [step(batch) for batch in interaction_batches(setting.graph, setting.batch_size, generator)]
        return losses[0]

    return run


def _sample(setting: Setting) -> Callable[[], object]:
    generator = setting.generator()
    return lambda: list(interaction_batches(setting.graph, setting.batch_size, generator))


def _other_models(setting: Setting) -> list[Contender]:
    if setting.device != "cpu":
        return []
    others = {"als-iteration": "another model, an iteration of ALS", "bpr-epoch": "another model, BPR-MF"}
    return [
        outside(
            f"implicit-{action}",
            partial(Worker, "gnn.bench.implicit_peer", action, setting.arrays, setting.n_threads),
            note,
        )
        for action, note in others.items()
    ]

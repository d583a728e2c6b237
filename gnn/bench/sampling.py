"""Drawing an epoch of training triplets."""

import random
from collections.abc import Callable, Sequence
from functools import partial

from gnn.bench.setting import Setting
from gnn.bench.task import Bar, Contender, Part, Task
from gnn.data import TrainingGraph
from gnn.sampling import Sampler, interaction_batches

_SHARE = 40


class Sampling(Task, name="sampling"):
    """A whole epoch of (user, item, negative item), one for each train interaction, none of them a false negative.

    Floor: 40 n bytes: user and item of n interactions are read, three indices are written, all int64.
    """

    bars = (Bar("interaction-uniform", "ms", 200), Bar("user-uniform", "ms", 200))

    def contenders(self, setting: Setting) -> Sequence[Contender]:
        """Whole epochs of ours, and a slice of the loop that published code uses; see `Task.contenders`."""
        graph = setting.graph
        n = len(graph.users)
        generator, size = setting.generator(), 40 * n
        samplers: tuple[Sampler, ...] = ("interaction", "user")

        def draw(sampler: Sampler) -> object:
            return list(interaction_batches(graph, setting.batch_size, generator, sampler))

        ours = [Contender(f"{name}-uniform", (Part(partial(draw, name)),), size_bytes=size) for name in samplers]
        note = f"a Python loop, timed on 1/{_SHARE} of an epoch"
        loop = Part(_loop(graph, n // _SHARE), times=_SHARE)
        return [*ours, Contender("python-loop", (loop,), is_peer=True, note=note)]


def _loop(graph: TrainingGraph, n: int) -> Callable[[], object]:
    """Draw n triplets one by one: a user, one of the user's items, and items until one is not the user's."""
    liked: list[list[int]] = [[] for _ in range(graph.n_users)]
    for user, item in zip(graph.users.tolist(), graph.items.tolist(), strict=True):
        liked[user].append(item)
    known = [set(items) for items in liked]
    users = [user for user, items in enumerate(liked) if 0 < len(items) < graph.n_items]
    source = random.Random(0)

    def draw() -> object:
        drawn = []
        for _ in range(n):
            user = source.choice(users)
            negative = source.randrange(graph.n_items)
            while negative in known[user]:
                negative = source.randrange(graph.n_items)
            drawn.append((user, source.choice(liked[user]), negative))
        return drawn

    return draw

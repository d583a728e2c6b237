"""Building the normalised adjacency."""

import dataclasses
from collections.abc import Sequence

from gnn.bench.setting import Setting
from gnn.bench.task import Bar, Contender, Part, Task

_MB = 1e6


class Adjacency(Task, name="adjacency"):
    """From train pairs to the normalised CSR of a graph, with the memory that it takes.

    Floor: 24 n bytes: n pairs of int64 are read, 2 n int32 columns are written; row pointers and scales are left out.
    """

    bars = (Bar("own", "ms", 500), Bar("own", "extra_bytes", 300 * _MB))

    def contenders(self, setting: Setting) -> Sequence[Contender]:
        """Only ours; see `Task.contenders`."""
        graph = setting.graph

        def build() -> object:
            return dataclasses.replace(graph).normalised().csr  # a copy without what a graph caches

        return [Contender("own", (Part(build),), size_bytes=24 * len(graph.users), has_peak=True)]

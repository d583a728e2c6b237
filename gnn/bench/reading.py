"""Reading a large graph directory."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from gnn.bench.setting import Setting
from gnn.bench.task import Bar, Contender, Part, Task
from gnn.data import TrainingGraph
from gnn.synthetic import SyntheticConfig, write_synthetic
from kg.stream import read_ckg

_USERS, _ITEMS, _INTERACTIONS = 1_000_000, 300_000, 42_000_000
_GB = 1e9


class Reading(Task, name="reading"):
    """From a graph directory to a training graph with its adjacency: 1M users, 300,000 items, 42M interactions.

    Floor: the bytes of the directory and 16 n of the graph, two int32 for each of n interactions and for its reverse.
    """

    reads_data = False
    most_repeats = 1
    bars = (Bar("own", "ms", 60_000), Bar("own", "extra_bytes", 6 * _GB))

    def contenders(self, setting: Setting) -> Sequence[Contender]:
        """Only ours; see `Task.contenders`."""
        size = (60, 80, 750) if setting.is_toy else (_USERS, _ITEMS, _INTERACTIONS)
        kept = tempfile.TemporaryDirectory(prefix="kglift-bench-")
        folder = Path(kept.name) / "graph"
        write_synthetic(SyntheticConfig(*size), folder)
        on_disk = sum(file.stat().st_size for file in folder.iterdir())

        def read() -> None:
            TrainingGraph.from_ckg(read_ckg(folder), setting.device).normalised()

        size_bytes = on_disk + 16 * size[2]
        return [Contender("own", (Part(read),), size_bytes=size_bytes, has_peak=True, stop=kept.cleanup)]

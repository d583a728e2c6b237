"""Where a benchmark runs: the device, the threads and the graphs that tasks share."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gnn.data import TrainingGraph
from gnn.errors import InputError
from gnn.synthetic import SyntheticConfig, synthetic_ckg
from kg.ckg import CollaborativeKG
from kg.source import Source
from kg.terms import TEST, TRAIN

SYNTHETIC, TOY = "synthetic", "toy"
GOWALLA = Path("../shared/data/gowalla-lightgcn")
_TEST_SHARE = 0.2115
_SIZES = {SYNTHETIC: (29_858, 40_981, 1_027_370), TOY: (60, 80, 750)}


@dataclass(frozen=True)
class Setting:
    """The device, the threads and the graphs.

    Attributes:
        data: a folder with the lists of LightGCN's Gowalla; or `synthetic`, a seeded graph of its size; or `toy`, a
            tiny one on which every task runs in no time.
        device: `cpu` or `cuda`.
        n_threads: of torch and of the compiled kernels.
    """

    data: str = str(GOWALLA)
    device: str = "cpu"
    n_threads: int = 2

    @property
    def is_toy(self) -> bool:
        """Whether tasks shall be tiny: for tests and to warm up."""
        return self.data == TOY

    @cached_property
    def ckg(self) -> CollaborativeKG:
        """The interactions, in train and test.

        Raises:
            InputError: if the folder is not there.
        """
        if self.data in _SIZES:
            return synthetic_ckg(SyntheticConfig(*_SIZES[self.data], valid=0.0, test=_TEST_SHARE))
        folder = Path(self.data)
        if not folder.is_dir():
            msg = (
                f"`{folder}` is no folder; give the one with LightGCN's lists of Gowalla (train.txt, test.txt) by "
                f"`--data DIR`, or take a seeded graph of the same size: `--data {SYNTHETIC}`"
            )
            raise InputError(msg)
        lists = Source.find("lightgcn")
        return CollaborativeKG.from_graph(lists(lists.Config()).read(folder))

    @cached_property
    def graph(self) -> TrainingGraph:
        """The train interactions as tensors on the device."""
        return TrainingGraph.from_ckg(self.ckg.without_triples(), self.device)

    def generator(self) -> torch.Generator:
        """Return a source of randomness on the device, seeded with 0."""
        return torch.Generator(self.device).manual_seed(0)

    @property
    def arrays(self) -> dict[str, Any]:
        """The graph as a peer's process in another environment takes it: pairs of train and test, and sizes."""
        pairs = {name: np.stack(self.ckg.user_items(name), axis=1) for name in (TRAIN, TEST)}
        return {**pairs, "n_users": self.ckg.n_users, "n_items": self.ckg.n_items, "dim": self.dim}

    @property
    def batch_size(self) -> int:
        """Interactions in a step: 2,048."""
        return 64 if self.is_toy else 2048

    @property
    def dim(self) -> int:
        """Width of an embedding: 64."""
        return 8 if self.is_toy else 64


def pick_device(name: str) -> str:
    """Return `cpu` or `cuda`; `auto` takes a CUDA device if there is one.

    Raises:
        InputError: if `cuda` is asked for and torch sees none.
    """
    there = torch.cuda.is_available()
    if name == "cuda" and not there:
        msg = "`--device` is `cuda`, and torch sees no CUDA device here; take `auto` or `cpu`"
        raise InputError(msg)
    return ("cuda" if there else "cpu") if name == "auto" else name

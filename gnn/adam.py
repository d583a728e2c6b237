"""Adam on one table by kernels of ours, in the state of the optimiser."""

from typing import Any

import numpy as np
import torch
from torch import Tensor


class TableAdam:
    """What `torch.optim.Adam` does to one of its parameters; checkpoints do not know which of the two did it.

    Args:
        table: (n, d) parameter.
        optimiser: a plain Adam that holds it.

    Source:
        Kingma and Ba, ICLR 2015, algorithm 1.

    Deviations:
        None.
    """

    def __init__(self, table: torch.nn.Parameter, optimiser: torch.optim.Optimizer) -> None:
        self.table, self.optimiser = table, optimiser

    def tables(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return the parameter and its two moments, which begin as zeros."""
        state = self.optimiser.state[self.table]
        if not state:
            state["step"] = torch.zeros((), dtype=torch.float32)
            state["exp_avg"], state["exp_avg_sq"] = (torch.zeros_like(self.table) for _ in range(2))
        return self.table, state["exp_avg"], state["exp_avg_sq"]

    def next_rates(self) -> tuple[Any, ...]:
        """Count a step t, and return b1, b2, lr / (1 - b1^t), 1 / sqrt(1 - b2^t) and eps, of the table's type."""
        self.tables()
        group = next(g for g in self.optimiser.param_groups if any(p is self.table for p in g["params"]))
        step = self.optimiser.state[self.table]["step"]
        step += 1
        (b1, b2), t = group["betas"], float(step)
        numbers = (b1, b2, group["lr"] / (1 - b1**t), (1 - b2**t) ** -0.5, group["eps"])
        kind = np.float64 if self.table.dtype == torch.float64 else np.float32
        return tuple(kind(number) for number in numbers)

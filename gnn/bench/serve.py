"""The other end of `gnn.bench.worker`: runs in the peers' environment and needs nothing of ours but this file."""

import json
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

Run = Callable[[], float]


def serve(actions: Mapping[str, Callable[[dict[str, Any], int], Run]]) -> None:
    """Make ready what the command line asks for, say so, and run it once for each line of stdin.

    Args:
        actions: name -> what takes the arrays and the number of threads and returns the run; a run returns a number
            that is compared with ours, or NaN.
    """
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # libraries print what they like; stdout is for answers only
    action, path, n_threads = sys.argv[1:]
    with np.load(path) as arrays:
        run = actions[action](dict(arrays), int(n_threads))
    _answer(answers, float("nan"))
    for _ in sys.stdin:
        _answer(answers, run())


def _answer(answers: Any, value: float) -> None:
    answers.write(json.dumps({"value": value}) + "\n")
    answers.flush()

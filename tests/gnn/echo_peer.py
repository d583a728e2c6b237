"""A peer that stands for one in another environment."""

import sys
from typing import Any

from gnn.bench.serve import Run, serve


def total(arrays: dict[str, Any], n_threads: int) -> Run:
    sys.stdout.write("a library that prints\n")
    turn = iter(range(100))
    return lambda: float(arrays["numbers"].sum() + n_threads + 1000 * next(turn))


def dies(arrays: dict[str, Any], n_threads: int) -> Run:
    return lambda: sys.exit("out of luck")


if __name__ == "__main__":
    serve({"total": total, "dies": dies})

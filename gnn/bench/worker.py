"""A peer in a process of its own, because its libraries live in another environment; it runs when it is told to."""

import json
import os
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import torch
from torch import Tensor

from gnn.bench.task import Contender, Part
from gnn.errors import InputError

_ROOT = Path(__file__).parent.parent.parent
ENVIRONMENT = Path(".bench-venv")


class Worker:
    """A running process of a peer's module: a line in, one run, a JSON line with its result out.

    Args:
        module: `gnn.bench.NAME_peer`; it ends in `gnn.bench.serve.serve`.
        action: what it shall run.
        arrays: what it works on, arrays and numbers.
        n_threads: of its libraries.

    Raises:
        InputError: if it does not come to life; the text says why.
    """

    def __init__(self, module: str, action: str, arrays: dict[str, Any], n_threads: int) -> None:
        self.module = module
        self._folder = tempfile.TemporaryDirectory()
        self._said = Path(self._folder.name) / "stderr"
        np.savez(Path(self._folder.name) / "arrays.npz", **arrays)
        python = ENVIRONMENT.absolute() / "bin" / "python"
        command = [str(python), "-m", module, action, str(Path(self._folder.name) / "arrays.npz"), str(n_threads)]
        threads = {name: str(n_threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
        environment = {**os.environ, **threads, "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(_ROOT)}
        with self._said.open("w", encoding="utf-8") as said:
            self._process = subprocess.Popen(
                command,
                cwd=self._folder.name,
                env=environment,
                text=True,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=said,
            )
        self._answer()

    def __call__(self) -> Tensor:
        """Run once and return what came out, a scalar; NaN where there is nothing to compare.

        Raises:
            InputError: if the process died.
        """
        stdin = cast("IO[str]", self._process.stdin)
        stdin.write("\n")
        stdin.flush()
        return torch.tensor(self._answer())

    def stop(self) -> None:
        """End the process and remove its files."""
        self._process.kill()
        self._process.communicate()
        self._folder.cleanup()

    def _answer(self) -> float:
        line = cast("IO[str]", self._process.stdout).readline()
        if line:
            return float(json.loads(line)["value"])
        self._process.wait()
        last = (self._said.read_text(encoding="utf-8").strip().splitlines() or ["it said nothing"])[-1]
        self.stop()
        msg = f"{self.module} ended: {last}"
        raise InputError(msg)


def outside(name: str, start: Callable[[], Worker], note: str, times: float = 1.0) -> Contender:
    """Return a peer that runs in `.bench-venv`, or one that cannot take part and says why.

    Args:
        name: of the peer.
        start: starts its process.
        note: what a reader of the row must know.
        times: see `Part`.
    """
    if not (ENVIRONMENT / "bin" / "python").exists():
        return Contender(name, (), is_peer=True, absent="not installed; `make bench` does that")
    try:
        worker = start()
    except InputError as error:
        missing = "No module named" in str(error)
        return Contender(name, (), is_peer=True, absent="not installed" if missing else str(error))
    return Contender(name, (Part(worker, times),), is_peer=True, note=note, stop=worker.stop)

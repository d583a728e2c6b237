"""The memory that a contender takes beyond what was there before, in a process of its own."""

import ctypes
import subprocess
import sys
from pathlib import Path

import torch

from gnn.bench.setting import TOY, Setting

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_RESET_PEAK = "5"


def extra_peak(task: str, contender: str, setting: Setting) -> int | None:
    """Start a process that loads the data, runs a contender once and says how much more memory it took at its peak.

    The process first runs the same contender on a tiny graph, so that what libraries take for themselves is not
    counted.

    Args:
        task: whose contender.
        contender: by name.
        setting: where; the process uses the same device and threads.

    Returns:
        Bytes; None where the system does not tell (anything but Linux or CUDA).
    """
    if not (_CLEAR.exists() or setting.device == "cuda"):
        return None
    place = [setting.data, setting.device, str(setting.n_threads)]
    done = subprocess.run(
        [sys.executable, "-m", "gnn.bench.peak", task, contender, *place], stdout=subprocess.PIPE, text=True, check=True
    )
    return int(done.stdout)


def main(task: str, contender: str, data: str, device: str, n_threads: str) -> None:
    """Measure in this process and print the bytes."""
    from gnn.bench.task import Task

    torch.set_num_threads(int(n_threads))
    member = Task.find(task)()
    for place in (TOY, data):
        setting = Setting(place, device, int(n_threads))
        chosen = next(c for c in member.contenders(setting) if c.name == contender)
        before = _memory_now(device)
        for part in chosen.parts:
            part.run()
    sys.stdout.write(str(max(_peak(device) - before, 0)))


def _memory_now(device: str) -> int:
    """Give back what is free, set the peak to what is left, and return that."""
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    ctypes.CDLL(None).malloc_trim(0)
    _CLEAR.write_text(_RESET_PEAK, encoding="ascii")
    return _status("VmRSS")


def _peak(device: str) -> int:
    return torch.cuda.max_memory_allocated() if device == "cuda" else _status("VmHWM")


def _status(name: str) -> int:
    lines = _STATUS.read_text(encoding="ascii", errors="replace").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name + ":"))


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Who is asking: lets several processes share one ledger and take over from one that died."""

import itertools
import os
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Self

STALE_S = 60.0
"""A runner on another machine that was silent for so long is taken for dead."""

_NUMBER = itertools.count()


@dataclass(frozen=True)
class Runner:
    """One extraction in one process.

    Attributes:
        host: the machine's name.
        pid: the process.
        started: when the process started, as the kernel counts it: a pid that is used again has another one.
        number: tells the extractions of one process apart.
    """

    host: str
    pid: int
    started: str
    number: int

    @classmethod
    def this(cls) -> Self:
        """Return a new runner of this process."""
        return cls(socket.gethostname(), os.getpid(), _started(os.getpid()) or "", next(_NUMBER))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what `str` wrote."""
        host, pid, started, number = text.rsplit(":", 3)
        return cls(host, int(pid), started, int(number))

    def __str__(self) -> str:
        """Return the runner as one word."""
        return f"{self.host}:{self.pid}:{self.started}:{self.number}"

    def is_alive(self, beat: float) -> bool:
        """Say whether the runner still works.

        Args:
            beat: when it last said so, in seconds since the epoch.
        """
        if self.host != socket.gethostname():
            return time.time() - beat < STALE_S
        if self.started:
            return _started(self.pid) == self.started
        return _exists(self.pid) and time.time() - beat < STALE_S


def _started(pid: int) -> str | None:
    """Return the start time of a process from `/proc`; None where it is gone or there is no `/proc`."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    state, *fields = stat.rpartition(")")[2].split()
    return None if state == "Z" else fields[18]


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True

"""Say how much memory work needs before it starts, not by dying in the middle."""

from pathlib import Path

from gnn.errors import MemoryNeedError

_GIB = 1 << 30


def require_memory(size_bytes: int, what: str) -> None:
    """Check that so much memory is there.

    Args:
        size_bytes: what the work will hold at once, at its peak.
        what: the work, for the error.

    Raises:
        MemoryNeedError: if less is available.
    """
    available = available_memory()
    if size_bytes > available:
        msg = (
            f"{what} needs {size_bytes / _GIB:.1f} GiB of memory, {available / _GIB:.1f} GiB are available; "
            "use a model with vectors (lightgcn), or a machine with more memory"
        )
        raise MemoryNeedError(msg)


def available_memory() -> int:
    """Return how many bytes can be taken now; where the system does not say, what a 64-bit address can name."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return 1 << 62
    values = {name: rest for name, _, rest in (line.partition(":") for line in lines)}
    return int(values["MemAvailable"].split()[0]) * 1024

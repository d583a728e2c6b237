"""What a measurement was taken on."""

import platform
from pathlib import Path


def cpu_model() -> str:
    """Return the name of the processor, or its architecture where the system does not name it."""
    try:
        info = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        info = []
    names = [line.partition(":")[2].strip() for line in info if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()

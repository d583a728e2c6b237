"""Pages as headless Chromium shows them."""

import shutil
import subprocess
from pathlib import Path

import pytest

CHROMIUM = pytest.mark.skipif(
    shutil.which("chromium") is None, reason="needs `chromium` (Debian: apt install chromium)"
)
_FLAGS = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"


def in_chromium(url: str, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Open a page with a fresh profile in a folder; options say what to do, e.g. `--dump-dom`."""
    command = ["chromium", *_FLAGS.split(), "--disable-component-update", "--disable-sync", "--window-size=1200,1000"]
    command += [f"--user-data-dir={folder / 'profile'}", *options, url]
    return subprocess.run(command, capture_output=True, text=True, check=False)

"""Where tests find real data that may not be redistributed."""

import os
from pathlib import Path

import pytest

_BESIDE = Path(__file__).parent.parent.parent / "shared" / "data"


def shared(name: str) -> Path:
    """Return the folder of a shared data set; skip the test where it is absent."""
    path = Path(os.environ.get("KGLIFT_SHARED_DATA", _BESIDE)) / name
    if not path.is_dir():
        pytest.skip(f"the data set `{name}` is not here (its licence forbids shipping it); set KGLIFT_SHARED_DATA")
    return path

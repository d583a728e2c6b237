"""What the kernels cost on GPUs that are not here, read from the machine code that Triton makes for them."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent.parent
GATHERING = {
    "layer": 8,
    "layer of bf16": 4,
    "layer of width 256": 8,
    "valued product": 8,
    "batch layer": 8,
    "first backward layer": 8,
    "parts of long rows": 8,
    "backward layer and Adam": 8,
    "edge dot": 8,
    "attend": 8,
    "parts of attend": 8,
    "attend gradient": 8,
}


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Compile all kernels in a process in which Triton does not interpret."""
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    environment["TRITON_CACHE_DIR"] = str(tmp_path_factory.mktemp("triton"))
    done = subprocess.run(
        [sys.executable, "-m", "tests.gnn.aot"], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found: list[dict[str, Any]] = json.loads(done.stdout)
    lines = [f"{one['kernel']}, sm_{one['arch']}: {one['registers']} registers, {one['loads']}\n" for one in found]
    sys.stdout.writelines(lines)
    return found


@pytest.mark.slow
def test_no_kernel_spills_on_sm_80_or_sm_90(compiled: list[dict[str, Any]]) -> None:
    assert {one["arch"] for one in compiled} == {80, 90}
    assert [one for one in compiled if one["stack"]] == []
    assert max(one["registers"] for one in compiled) <= 128, "two warps of 64 a scheduler stay resident"


@pytest.mark.slow
def test_kernels_that_fetch_rows_load_128_bits_at_a_time(compiled: list[dict[str, Any]]) -> None:
    wide = {(one["kernel"], one["arch"]): one["loads"].get("LDG.E.128", 0) for one in compiled}
    assert GATHERING.keys() <= {kernel for kernel, _ in wide}
    narrow = {key: n for key, n in wide.items() if n < GATHERING.get(key[0], 0)}
    assert narrow == {}, "fewer wide loads in flight than the tile has"

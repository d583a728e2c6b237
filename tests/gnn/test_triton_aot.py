"""What the kernels cost on GPUs that are not here, read from the machine code that Triton makes for them."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent.parent
GATHERING = {"combine_rows", "sum_parts", "step_rows", "dot_entries", "attend_rows", "attend_parts", "attend_gradient"}
OTHERS = {
    "mark_slots",
    "pair_loss",
    "row_gradient",
    "part_statistics",
    "normalise_rows",
    "part_flow",
    "softmax_gradient",
}
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


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
    lines = [f"{k['call']}, {k['kernel']}, sm_{k['arch']}: {k['registers']} registers, {k['loads']}\n" for k in found]
    sys.stdout.writelines(lines)
    return found


def test_every_kernel_compiles_and_none_spills_on_sm_80_or_sm_90(compiled: list[dict[str, Any]]) -> None:
    assert {(one["kernel"], one["arch"]) for one in compiled} == {(k, a) for k in GATHERING | OTHERS for a in (80, 90)}
    assert [one for one in compiled if one["stack"]] == []
    assert max(one["registers"] for one in compiled) <= 128, "or fewer than 16 programs fit a multiprocessor"


def test_kernels_that_fetch_rows_load_128_bits_at_a_time(compiled: list[dict[str, Any]]) -> None:
    for one in (one for one in compiled if one["kernel"] in GATHERING):
        # a tile of 1,024 numbers over 32 threads
        expected = 4 if "bf16" in one["call"] else 8
        assert one["loads"].get("LDG.E.128", 0) >= expected, one

"""Compile what the CUDA route launches for GPUs that are not here, and read from the machine code what it costs.

    python -m tests.gnn.aot

Every operation and a fused step are called on CPU tensors as they would be on a GPU's; each launch is compiled for its
operands as Triton would there, and not run. Prints a JSON list of {call, kernel, arch, registers, stack, loads:
{instruction: count}}; what is spilled lies on the stack. Runs in a process of its own because Triton decides once, when
it is imported, whether kernels are compiled or interpreted.
"""

import json
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.runtime.driver import driver

from gnn import sparse
from gnn.fused_cuda import CudaLightGCNStep
from gnn.kernels import triton_batch, triton_edges, triton_spmm
from gnn.sampling import InteractionBatch
from gnn.sparse import cuda_route

ARCHITECTURES = (80, 90)
N, HUB = 320, 300


def graph() -> sparse.NormalisedGraph:
    """A star, whose centre is a long row."""
    leaf, centre = torch.arange(1, HUB + 1), torch.zeros(HUB, dtype=torch.int64)
    csr, _ = sparse.csr_from_edges(torch.cat([leaf, centre]), torch.cat([centre, leaf]), N, N)
    return sparse.normalise(csr, torch.ones(2 * HUB))


def calls() -> Iterator[tuple[str, Callable[[], Any]]]:
    """Yield everything that the route can be asked for, on rows of 64 numbers unless said."""
    whole, x = graph(), torch.zeros(N, 64)
    csr, logits = whole.csr, torch.zeros(2 * HUB)
    rows = torch.zeros(N)
    yield "propagate", lambda: cuda_route.layer_mean(whole, x, 2, torch.float32)
    yield "propagate bf16", lambda: cuda_route.layer_mean(whole, x, 2, torch.bfloat16)
    yield "propagate 256 wide", lambda: cuda_route.layer_mean(whole, torch.zeros(N, 256), 1, torch.float32)
    yield "multiply", lambda: cuda_route.multiply(csr, logits, x)
    yield "edge dot", lambda: cuda_route.edge_dot(csr, x, x)
    yield "edge softmax", lambda: cuda_route.edge_softmax(csr, logits)
    yield "edge softmax backward", lambda: cuda_route.edge_softmax_backward(csr, logits, logits)
    yield "attend", lambda: cuda_route.attend(csr, logits, x)
    yield "attend backward", lambda: cuda_route.attend_backward(csr, logits, rows, rows, x, x, x)
    for n_layers in (1, 3):
        yield f"step, L = {n_layers}", lambda n=n_layers: step(n)


def step(n_layers: int) -> None:
    """Make a step of LightGCN."""
    embedding = torch.nn.Parameter(torch.zeros(N, 64))
    form = {"n_users": 1, "n_layers": n_layers, "l2": 1e-4}
    make = CudaLightGCNStep(embedding, graph(), torch.optim.Adam([embedding], fused=True), **form)
    make(InteractionBatch(*(torch.zeros(48, dtype=torch.int64) for _ in range(3))))


def compile_instead_of_launching(found: dict[str, Any], call: Callable[[], Any], arch: int) -> None:
    """Make a call for an architecture; `found` gets each compiled kernel by name and specialisation."""
    original = triton.JITFunction.run

    def run(kernel: Any, *args: Any, grid: Any, warmup: bool, **options: Any) -> Any:
        compiled = original(kernel, *args, grid=grid, warmup=True, **options)
        found[compiled.hash] = (kernel.__name__, compiled)
        return compiled

    target = GPUTarget("cuda", arch, 32)
    driver.set_active(
        SimpleNamespace(
            get_current_target=lambda: target,
            get_current_device=lambda: arch,
            get_current_stream=lambda device: 0,
        )
    )
    triton.JITFunction.run = run
    try:
        call()
    finally:
        triton.JITFunction.run = original


def costs(compiled: Any) -> dict[str, Any]:
    """Read registers, stack and global loads from the machine code."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(compiled.asm["cubin"])
        file.flush()
        command = [triton.knobs.nvidia.cuobjdump.path, "-res-usage", file.name]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    registers, stack = re.search(r"REG:(\d+) STACK:(\d+)", said).groups()  # type: ignore[union-attr]
    loads = Counter(re.findall(r"\bLDG\.E[.\w]*", compiled.asm["sass"]))
    return {"registers": int(registers), "stack": int(stack), "loads": dict(loads)}


def main() -> None:
    """Compile all calls, or those whose name holds the first argument."""
    only = sys.argv[1] if len(sys.argv) > 1 else ""
    for module in (triton_batch, triton_edges, triton_spmm):
        module.check_device = lambda kernel, tensor: None  # type: ignore[attr-defined]
    lines = []
    for arch in ARCHITECTURES:
        seen: set[str] = set()
        for name, call in calls():
            found: dict[str, Any] = {}
            if only in name:
                compile_instead_of_launching(found, call, arch)
            for key in found.keys() - seen:
                kernel, compiled = found[key]
                lines.append({"call": name, "kernel": kernel, "arch": arch, **costs(compiled)})
            seen |= found.keys()
    sys.stdout.write(json.dumps(sorted(lines, key=lambda line: (line["arch"], line["call"], line["kernel"]))))


if __name__ == "__main__":
    main()

"""Compile kernels for GPUs that are not here, and read from the machine code what they cost.

    python -m tests.gnn.aot

Prints a JSON list of {kernel, arch, registers, stack, loads: {instruction: count}}; what is spilled lies on the stack.
Runs in a process of its own because Triton decides once, when it is imported, whether kernels are compiled.
"""

import json
import re
import subprocess
import sys
import tempfile
from collections import Counter
from typing import Any

import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from gnn.kernels import triton_batch, triton_edges, triton_spmm

ARCHITECTURES = (80, 90)
WHOLE_NUMBERS = {"rowptr", "col", "slot", "part_row", "part_start", "part_end", "first_part"}
INDICES = {"nodes", "ordered", "order"}
SCALARS = {"l2": "fp32", "factor": "fp32", "n": "i32", "n_mentions": "i32"}
ROWS = {"DIM": 64, "BLOCK_D": 64, "BLOCK_E": 16, "SPLIT": 256, "ACC": tl.float32}
PRODUCT = {**ROWS, "SCALE_COLUMNS": False, "SPARSE_X": False, "SPARSE_OUT": False}
RESULT = {"FACTOR": 0.25, "SPARSE_BASE": False, "SCALE_ROW": True, "SCALE_RESULT": True}
LAYER = {**PRODUCT, **RESULT, "weight": None, "slot": None}
PLAIN = {"SCALE_ROW": False, "SCALE_RESULT": False, "scale": None, "slot": None, "base": None}
EDGES = {"SPLIT": 256, "ACC": tl.float32}
WHOLE_ROWS = {"part_row": None, "part_start": None, "part_end": None}
SPARSE = {"SCALE_COLUMNS": True, "SPARSE_X": True, "SPARSE_BASE": True, "weight": None}
BATCH = {"DIM": 64, "BLOCK_D": 64}

Case = tuple[str, Any, dict[str, Any], str]
CASES: list[Case] = [
    ("layer", triton_spmm.combine_rows, LAYER, "fp32"),
    ("layer of bf16", triton_spmm.combine_rows, LAYER, "bf16"),
    ("layer of width 256", triton_spmm.combine_rows, {**LAYER, "DIM": 256, "BLOCK_D": 256, "BLOCK_E": 4}, "fp32"),
    ("valued product", triton_spmm.combine_rows, {**PRODUCT, **RESULT, **PLAIN}, "fp32"),
    ("batch layer", triton_spmm.combine_rows, {**PRODUCT, **RESULT, "weight": None, "SPARSE_OUT": True}, "fp32"),
    ("first backward layer", triton_spmm.combine_rows, {**PRODUCT, **RESULT, **SPARSE}, "fp32"),
    ("parts of long rows", triton_spmm.sum_parts, {**PRODUCT, "weight": None, "scale": None, "slot": None}, "fp32"),
    ("backward layer and Adam", triton_spmm.step_rows, {**PRODUCT, "weight": None}, "fp32"),
    ("edge dot", triton_edges.dot_entries, {**ROWS, **WHOLE_ROWS}, "fp32"),
    ("edge softmax", triton_edges.normalise_rows, {**EDGES, **WHOLE_ROWS}, "fp32"),
    ("edge softmax of long rows", triton_edges.normalise_rows, EDGES, "fp32"),
    ("parts of edge softmax", triton_edges.part_statistics, EDGES, "fp32"),
    ("edge softmax gradient", triton_edges.softmax_gradient, {**EDGES, **WHOLE_ROWS}, "fp32"),
    ("edge softmax gradient of long rows", triton_edges.softmax_gradient, EDGES, "fp32"),
    ("parts of edge softmax gradient", triton_edges.part_flow, EDGES, "fp32"),
    ("attend", triton_edges.attend_rows, ROWS, "fp32"),
    ("parts of attend", triton_edges.attend_parts, ROWS, "fp32"),
    ("mark slots", triton_batch.mark_slots, {"BLOCK": 256}, "fp32"),
    ("pair loss", triton_batch.pair_loss, {**BATCH, "BLOCK_B": 8}, "fp32"),
    ("row gradient", triton_batch.row_gradient, BATCH, "fp32"),
    ("attend gradient", triton_edges.attend_gradient, {**ROWS, **WHOLE_ROWS}, "fp32"),
]


def compiled(kernel: Any, constants: dict[str, Any], kind: str, arch: int) -> Any:
    """Compile one form of a kernel; rows to fetch are `kind`, every pointer is on 16 bytes as PyTorch's are."""
    signature = {}
    for parameter in kernel.params:
        name = parameter.name
        if parameter.is_constexpr or name in constants:
            signature[name] = "constexpr"
        elif name in SCALARS:
            signature[name] = SCALARS[name]
        elif name in WHOLE_NUMBERS:
            signature[name] = "*i32"
        elif name in INDICES:
            signature[name] = "*i64"
        else:
            signature[name] = f"*{kind}" if name in ("x", "out") else "*fp32"
    aligned = {
        (place,): [["tt.divisibility", 16]] for place, kind in enumerate(signature.values()) if kind.startswith("*")
    }
    source = ASTSource(kernel, signature, constexprs=constants, attrs=aligned)
    return triton.compile(source, target=GPUTarget("cuda", arch, 32), options={"num_warps": 1})


def costs(code: Any) -> dict[str, Any]:
    """Read registers, stack and global loads from the machine code."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(code.asm["cubin"])
        file.flush()
        command = [triton.knobs.nvidia.cuobjdump.path, "-res-usage", file.name]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    registers, stack = re.search(r"REG:(\d+) STACK:(\d+)", said).groups()  # type: ignore[union-attr]
    loads = Counter(re.findall(r"\bLDG\.E[.\w]*", code.asm["sass"]))
    return {"registers": int(registers), "stack": int(stack), "loads": dict(loads)}


def main() -> None:
    """Compile all, or those whose name holds the first argument."""
    only = sys.argv[1] if len(sys.argv) > 1 else ""
    found = []
    for name, kernel, constants, kind in CASES:
        for arch in ARCHITECTURES if only in name else ():
            found.append({"kernel": name, "arch": arch, **costs(compiled(kernel, constants, kind, arch))})
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main()

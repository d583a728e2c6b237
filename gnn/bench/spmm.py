"""One sparse product."""

import warnings
from collections.abc import Callable, Sequence
from importlib.util import find_spec

import scipy.sparse
import torch
from torch import Tensor

from gnn.bench.setting import Setting
from gnn.bench.task import Contender, Part, Task
from gnn.sparse import spmm, use_route
from gnn.sparse.pattern import Csr
from gnn.sparse.route import Name


def routes(setting: Setting) -> tuple[Name, ...]:
    """Return the routes that can run here, the fastest first; `cuda` stands for Triton on a GPU."""
    if setting.device == "cuda":
        return ("cuda", "torch")
    return ("torch",) if find_spec("numba") is None else ("compiled", "torch")


def note_of(name: str, setting: Setting) -> str:
    """Say what the torch route is on a GPU."""
    return "torch: cuSPARSE on an int32 CSR matrix that is kept" if (name, setting.device) == ("torch", "cuda") else ""


def on_route(name: Name, run: Callable[[], object]) -> Callable[[], object]:
    """Return `run` forced onto a route."""

    def forced() -> object:
        with use_route(name):
            return run()

    return forced


class Spmm(Task, name="spmm"):
    """The normalised adjacency times a table of 64 columns.

    Floor: 4 nnz + 8 N d bytes: int32 columns and the table are read once, the result is written. Values are not
    counted: a row scale replaces them.
    """

    def contenders(self, setting: Setting) -> Sequence[Contender]:
        """Our routes beside torch's and scipy's formats; see `Task.contenders`."""
        graph = setting.graph.normalised()
        csr, values = graph.csr, graph.values
        x = torch.randn(csr.n_rows, setting.dim, generator=torch.Generator().manual_seed(0)).to(values.device)
        size = 4 * len(csr.col) + 8 * x.numel()
        ours = [
            Contender(
                name,
                (Part(on_route(name, lambda: spmm(csr, values, x))),),
                size_bytes=size,
                note=note_of(name, setting),
            )
            for name in routes(setting)
        ]
        peers = {"torch-coo": _coo(csr, values), **_torch_csr(csr, values)}
        theirs = [
            Contender(name, (Part(lambda matrix=matrix: matrix @ x),), is_peer=True)  # type: ignore[misc]
            for name, matrix in peers.items()
        ]
        if setting.device == "cpu":
            parts = (values.numpy(), csr.col.numpy(), csr.rowptr.numpy())
            matrix = scipy.sparse.csr_array(parts, shape=(csr.n_rows, csr.n_cols))
            dense = x.numpy()
            theirs.append(Contender("scipy", (Part(lambda: torch.from_numpy(matrix @ dense)),), is_peer=True))
        return [*ours, *theirs]

    def difference(self, ours: object, theirs: object) -> str:
        """Compare the whole tables."""
        if not isinstance(ours, Tensor) or not isinstance(theirs, Tensor):
            return ""
        far = float((ours - theirs).abs().max())
        return "" if far <= 1e-4 else f"differs by up to {far:.2g}"


def _coo(csr: Csr, values: Tensor) -> Tensor:
    index = torch.stack([csr.row, csr.col.long()])
    return torch.sparse_coo_tensor(index, values, (csr.n_rows, csr.n_cols), check_invariants=False).coalesce()


def _torch_csr(csr: Csr, values: Tensor) -> dict[str, Tensor]:
    size = (csr.n_rows, csr.n_cols)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        made = {
            name: torch.sparse_csr_tensor(csr.rowptr.to(t), csr.col.to(t), values, size, check_invariants=False)
            for name, t in (("torch-csr-int64", torch.int64), ("torch-csr-int32", torch.int32))
        }
    return made

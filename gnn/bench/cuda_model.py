"""What the CUDA route should take, from the bytes that its kernels move; nothing here was measured on a GPU.

A kernel reads and writes arrays once (streamed) and fetches rows by index (gathered). `bytes` counts every fetched row
as if it came from memory; the floor counts each table that rows are fetched from once, as if a cache held the rest.
Launches, the sampler and waiting are not in it, so the prediction is the least that a real run can be compared with.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

BANDWIDTH = {"H100 (predicted)": 3.35e12, "H200 (predicted)": 4.8e12}
_INT, _FLOAT, _LONG = 4, 4, 8
_BLOCK = 32


@dataclass(frozen=True)
class Traffic:
    """Bytes that one launch of a kernel moves.

    Attributes:
        kernel: its name.
        streamed: arrays that are read or written once.
        gathered: rows fetched by index, each time they are fetched.
        tables: the arrays that those rows are from, each counted once.
    """

    kernel: str
    streamed: float
    gathered: float = 0
    tables: float = 0

    @property
    def moved(self) -> float:
        """Bytes if every gathered row comes from memory."""
        return self.streamed + self.gathered

    @property
    def compulsory(self) -> float:
        """Bytes if every table comes from memory once."""
        return self.streamed + min(self.gathered, self.tables)


@dataclass(frozen=True)
class InteractionSizes:
    """A graph of interactions, and the share of its edges that a batch touches.

    Attributes:
        n_users: number of users.
        n_items: number of items.
        n_train: train interactions; the graph has 2 * n_train edges.
        touched: edges that start at one of a batch's nodes, as a share of all; from the data, for one batch size.
    """

    n_users: int
    n_items: int
    n_train: int
    touched: float

    @property
    def n_nodes(self) -> int:
        """Users and items."""
        return self.n_users + self.n_items

    @property
    def n_edges(self) -> int:
        """Both directions."""
        return 2 * self.n_train


@dataclass(frozen=True)
class FactSizes:
    """A graph of interactions and facts.

    Attributes:
        n_nodes: users and entities.
        n_edges: interactions and facts, both directions.
        n_train: train interactions.
    """

    n_nodes: int
    n_edges: int
    n_train: int


# touched: the mean over 20 batches of 2,048 interactions drawn from the train set
GOWALLA = InteractionSizes(n_users=29_858, n_items=40_981, n_train=810_128, touched=0.165)
LAST_FM = FactSizes(n_nodes=129_955, n_edges=3_507_140, n_train=1_289_003)


def lightgcn_step(sizes: InteractionSizes, dim: int, n_layers: int, batch_size: int) -> list[Traffic]:
    """List what `gnn.fused_cuda.CudaLightGCNStep` moves in one step; n nodes, e edges, B batch size, d dim.

    A layer streams offsets and scales 8n and columns 4e, reads its base and writes its result 4nd each, and gathers e
    rows of 4d; the first also gathers a scale of 4 for each edge. The last forward layer does so for the touched edges
    alone, with 3B rows read and written, and reads a slot of 4n. A layer back has a base of 3B rows, reads a slot of 4n
    and writes 4nd; the first gathers a slot of 4 for each edge, and row and scale for the touched ones only; the last
    has Adam instead of a result: embedding and both moments read and written, 24nd. The loss reads 3B rows of two
    tables; the gradient reads 4B rows and writes 3B. Sorting the batch and the partial sums of long rows are left out.

    Args:
        sizes: the graph.
        dim: d.
        n_layers: L, at least 2.
        batch_size: B.
    """
    n, e, row = sizes.n_nodes, sizes.n_edges, _FLOAT * dim
    pattern, table, batch, slots = n * (_INT + _FLOAT) + e * _INT, n * row, 3 * batch_size * row, n * _INT
    touched = sizes.touched * e
    middle = Traffic("layer", pattern + 2 * table, e * row, table)
    back = pattern + slots + batch
    return [
        Traffic("first layer", middle.streamed, e * (row + _FLOAT), table + n * _FLOAT),
        *[middle] * (n_layers - 2),
        Traffic("batch layer", pattern - (e - touched) * _INT + slots + 2 * batch, touched * row, table),
        Traffic("loss", 2 * batch),
        Traffic("row gradient", 7 * batch_size * row),
        Traffic("first backward layer", back + table, e * _INT + touched * (row + _FLOAT), slots + n * _FLOAT + batch),
        *[Traffic("backward layer", back + table, e * row, table)] * (n_layers - 2),
        Traffic("backward layer and Adam", back + 6 * table, e * row, table),
    ]


def ranking(sizes: InteractionSizes, dim: int, k: int = 20) -> list[Traffic]:
    """List what ranking all items for all users moves; u users, i items, d dim, chunk by chunk.

    The product writes 4ui and reads the items once a chunk of 1,024 users; masking reads 16 of indices and writes 4 for
    each train interaction. The maxima of blocks of 32 scores are written, 1/8 ui; the selection of k blocks by radix
    reads them 5 times (4 digits of 8 bits and the collection); 32k candidates a user are gathered with their columns
    and selected from, 4 + 4 + 2 * 8 + 5 * 4 each.
    """
    scores = sizes.n_users * sizes.n_items
    n_chunks = -(-sizes.n_users // 1024)
    factors = (sizes.n_users + n_chunks * sizes.n_items) * dim * _FLOAT
    return [
        Traffic("scores", factors + scores * _FLOAT),
        Traffic("mask", sizes.n_train * (2 * _LONG + _FLOAT)),
        Traffic("block maxima", scores * (_FLOAT + _FLOAT / _BLOCK)),
        Traffic("blocks", 5 * scores * _FLOAT / _BLOCK),
        Traffic("candidates", sizes.n_users * k * _BLOCK * (7 * _FLOAT + 2 * _LONG)),
    ]


def kgat_interaction_step(sizes: FactSizes, widths: tuple[int, ...]) -> list[Traffic]:
    """List what one step on interactions moves, forward and back; n nodes, e edges, a layer from width a to width b.

    A product gathers e rows of 4a, streams offsets 4n, columns and weights 8e, and writes 4na; its gradient is the same
    over the transposed pattern, with weights put in order once a step (16e). The layer around it reads or writes 8
    tables of width a and 11.25 of width b forward (sum and product of e and e_N: 6a, two linear maps: 2a + 2b, two
    LeakyReLU: 4b, their sum: 3b, dropout with a mask of a byte: 2.25b) and twice that backward. Adam: 28 for each
    entry of the embedding, and 4 to write its gradient.
    """
    n, e = sizes.n_nodes, sizes.n_edges
    kernels = []
    for a, b in pairwise(widths):
        product = Traffic("product", n * _INT + e * (_INT + _FLOAT) + n * a * _FLOAT, e * a * _FLOAT, n * a * _FLOAT)
        kernels += [product, Traffic("layer", 3 * n * _FLOAT * (8 * a + 11.25 * b)), product]
    return [*kernels, Traffic("transposed weights", 16 * e), Traffic("Adam", 8 * n * widths[0] * _FLOAT)]


def kgat_fact_step(sizes: FactSizes, dim: int) -> list[Traffic]:
    """List what one step on facts moves: Adam over the dense gradient of the embedding, which is all that counts."""
    return [Traffic("Adam", 8 * sizes.n_nodes * dim * _FLOAT)]


def kgat_attention(sizes: FactSizes, dim: int) -> list[Traffic]:
    """List what the attention update moves: two rows of 4d for each edge, logits written and normalised, 20e."""
    table = 2 * sizes.n_nodes * dim * _FLOAT
    return [Traffic("attention", 5 * sizes.n_edges * _FLOAT, 2 * sizes.n_edges * dim * _FLOAT, table)]


def rows() -> list[dict[str, Any]]:
    """Return the predicted rows of the table: Gowalla's LightGCN and full ranking, a KGAT epoch of Last-FM size.

    The settings are those of the measured rows: LightGCN B 2048, d 64, 3 layers; KGAT d 64, layers 64, 32, 16, batches
    of 1,024 interactions and 2,048 facts. `ms` is bytes over bandwidth, `floor_ms` the compulsory bytes over it.
    """
    epoch = -(-GOWALLA.n_train // 2048)
    kgat = [
        *kgat_interaction_step(LAST_FM, (64, 64, 32, 16)) * -(-LAST_FM.n_train // 1024),
        *kgat_fact_step(LAST_FM, 64) * -(-LAST_FM.n_edges // 2048),
        *kgat_attention(LAST_FM, 64),
    ]
    step = lightgcn_step(GOWALLA, 64, 3, 2048)
    tasks = {
        "lightgcn-step": step,
        "lightgcn-epoch": step * epoch,
        "evaluation": ranking(GOWALLA, 64),
        "kgat-epoch": kgat,
    }
    return [_row(task, device, kernels) for task, kernels in tasks.items() for device in BANDWIDTH]


def _row(task: str, device: str, kernels: list[Traffic]) -> dict[str, Any]:
    moved, floor = sum(k.moved for k in kernels), sum(k.compulsory for k in kernels)
    return {
        "task": task,
        "route": "cuda",
        "device": device,
        "threads": None,
        "ms": moved / BANDWIDTH[device] * 1e3,
        "bytes": round(moved),
        "floor_ms": floor / BANDWIDTH[device] * 1e3,
        "peer": None,
        "peer_ms": None,
        "ratio": None,
    }
